"""The state tables themselves, and both sides' view of the same conversation."""

from __future__ import annotations

import itertools

import pytest

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import (
    CALLER,
    CALLING,
    DONE,
    IDLE,
    PEER_STATES,
    READY,
    RUNNING,
    TRANSITIONS,
    SERVICE,
    WAITING,
    Conversation,
)

TYPES = [kind for number, kind in sorted(m.MESSAGES.items()) if number]
HELLO = m.Hello(1, (), "test")
CALL = m.Call(b"cat", (), (), b"", b"/", (), 0, 0, m.RELAYED, m.RELAYED, m.RELAYED)
EXIT = m.Exit(0, 0, 0, 0, 0, 0, 0, 0)


def test_the_tables_name_only_known_states_and_messages() -> None:
    """Every state that a message leads to has a row of its own, and PEER_STATES only narrows what TRANSITIONS allows."""
    for rows in TRANSITIONS.values():
        assert {state for row in rows.values() for state in row.values()} <= set(rows)
    said = {kind for row in TRANSITIONS[SERVICE].values() for kind in row}
    assert set(PEER_STATES) <= said
    for moves in PEER_STATES.values():
        assert set(moves) | set(moves.values()) <= set(TRANSITIONS[CALLER])


def test_every_message_can_be_said_by_somebody() -> None:
    """A message that no table mentions would be dead."""
    assert {kind for rows in TRANSITIONS.values() for row in rows.values() for kind in row} == set(TYPES)


def test_every_state_is_reached_and_done_is_final() -> None:
    """From idle, the messages lead to every pair of states that a call goes through, and out of done to nowhere."""
    seen, new = set(), [(IDLE, IDLE)]
    while new:
        pair = new.pop()
        if pair in seen:
            continue
        seen.add(pair)
        for role, kind in itertools.product((CALLER, SERVICE), TYPES):
            conversation = Conversation()
            conversation.states = {CALLER: pair[0], SERVICE: pair[1]}
            if conversation.says(role, kind):
                new.append((conversation.states[CALLER], conversation.states[SERVICE]))
            else:
                assert (conversation.states[CALLER], conversation.states[SERVICE]) == pair
    assert {caller for caller, _ in seen} == {IDLE, READY, CALLING, RUNNING}
    assert {service for _, service in seen} == {IDLE, READY, WAITING, RUNNING, DONE}
    assert (RUNNING, WAITING) not in seen
    assert (READY, RUNNING) not in seen
    assert (CALLING, RUNNING) not in seen
    assert TRANSITIONS[SERVICE][DONE] == {}


def view(role: str, caller: str, service: str) -> Connection:
    """Return one side's connection with both roles in the given states and all streams relayed."""
    connection = Connection(role)
    connection._conversation.states = {CALLER: caller, SERVICE: service}
    connection._open_streams(CALL)
    return connection


def example(sender: str, kind: type[m.Message]) -> m.Message:
    """Return a message that is right for its sender in everything but, perhaps, the time."""
    mine, other = (0, 1) if sender == CALLER else (1, 0)
    examples: dict[type[m.Message], m.Message] = {
        m.Hello: HELLO,
        m.Call: CALL,
        m.Data: m.Data(mine, b"x"),
        m.Eof: m.Eof(mine),
        m.Window: m.Window(other, 0),
        m.Stop: m.Stop(other),
        m.Exit: EXIT,
    }
    if kind in examples:
        return examples[kind]
    zero = {"text": "", "string": b"", "strings": ()}
    return kind(*[zero.get(name, 0) for name in kind.KINDS])


@pytest.mark.parametrize("caller", [IDLE, READY, CALLING, RUNNING])
@pytest.mark.parametrize("service", [IDLE, READY, WAITING, RUNNING, DONE])
@pytest.mark.parametrize("sender", [CALLER, SERVICE])
def test_both_sides_judge_alike(sender: str, caller: str, service: str) -> None:
    """What a side refuses to send the other refuses to receive, with the same words; allowed moves agree."""
    receiver = SERVICE if sender == CALLER else CALLER
    for kind in TYPES:
        message = example(sender, kind)
        sending, receiving = view(sender, caller, service), view(receiver, caller, service)
        receiving.receive_data(encode(message))
        state = caller if sender == CALLER else service
        allowed = kind in TRANSITIONS[sender][state] and (sender == CALLER or kind not in PEER_STATES or caller in PEER_STATES[kind])
        if allowed:
            assert sending.send(message) == encode(message)
            assert list(receiving.events()) == [message]
            assert sending.states == receiving.states
            continue
        with pytest.raises(LocalProtocolError) as ours:
            sending.send(message)
        with pytest.raises(ProtocolError) as theirs:
            list(receiving.events())
        assert str(ours.value) == theirs.value.reason == f"{kind.__name__} does not fit a {sender} that is {state}"
        assert sending.states == receiving.states == {CALLER: caller, SERVICE: service}


def deliver(data: bytes, to: Connection) -> list[m.Message]:
    """Let one side hear what the other has sent."""
    to.receive_data(data)
    return list(to.events())


def test_what_crosses_an_exit_is_no_violation() -> None:
    """A caller may still send while the EXIT travels: the service hears it and the conversation stays whole."""
    caller, service = Connection(CALLER), Connection(SERVICE)
    deliver(caller.send(HELLO) + caller.send(CALL), service)
    deliver(service.send(HELLO) + service.send(m.Started("1")), caller)
    travelling = service.send(EXIT)
    crossing = [m.Signal(15), m.Data(0, b"x"), m.Eof(0), m.Window(1, 0), m.Stop(2)]
    assert deliver(b"".join(map(caller.send, crossing)), service) == crossing
    assert deliver(travelling, caller) == [EXIT]


def test_what_crosses_a_refusal_is_no_violation() -> None:
    """A caller may still send while the REFUSED travels."""
    caller, service = Connection(CALLER), Connection(SERVICE)
    deliver(caller.send(HELLO), service)
    refused = service.send(HELLO) + service.send(m.Refused(77, "no", ""))
    assert deliver(caller.send(CALL) + caller.send(m.Signal(2)), service) == [CALL, m.Signal(2)]
    assert len(deliver(refused, caller)) == 2


def test_what_crosses_a_description_is_no_violation() -> None:
    """A caller that is interrupted while the answer to `--help` travels has done nothing wrong."""
    caller, service = Connection(CALLER), Connection(SERVICE)
    deliver(caller.send(HELLO) + caller.send(CALL), service)
    service.send(HELLO)
    service.send(m.Description(b"{}"))
    assert deliver(caller.send(m.Signal(2)), service) == [m.Signal(2)]


def test_a_description_asked_for_before_the_call_does_not_end_the_call() -> None:
    """DESCRIBE and CALL in one write: the first answer belongs to DESCRIBE, and the call then starts."""
    caller, service = Connection(CALLER), Connection(SERVICE)
    sent = b"".join(map(caller.send, (HELLO, m.Describe(b""), CALL)))
    service.receive_data(sent)
    answers = b""
    for message in service.events():
        if isinstance(message, m.Describe):
            answers += service.send(HELLO) + service.send(m.Description(b"{}"))
        elif isinstance(message, m.Call):
            answers += service.send(m.Started("1"))
    assert deliver(answers, caller)[-1] == m.Started("1")


def test_pings_are_answered_while_a_call_waits() -> None:
    """PONG fits a caller that is calling: a PING sent just before the CALL is answered after it."""
    caller, service = Connection(CALLER), Connection(SERVICE)
    deliver(b"".join(map(caller.send, (HELLO, m.Ping(), CALL))), service)
    answers = [HELLO, m.Pong(0, 1, 0, 1, 0, 0), m.Queued(0), m.Started("1")]
    assert deliver(b"".join(map(service.send, answers)), caller) == answers
