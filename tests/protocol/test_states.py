"""The state tables themselves, and both sides' view of the same conversation."""

from __future__ import annotations

import itertools

import pytest

from sidecall.errors import LocalProtocolError, ProtocolError
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode
from sidecall.protocol.connection import Connection
from sidecall.protocol.states import (
    CALLING,
    CLIENT,
    DONE,
    IDLE,
    PEER_STATES,
    READY,
    RUNNING,
    SERVER,
    TRANSITIONS,
    WAITING,
    Conversation,
)

TYPES = [kind for number, kind in sorted(m.MESSAGES.items()) if number]
HELLO = m.Hello(1, (), (), "test")
CALL = m.Call(b"cat", (), (), b"", b"/", (), (), m.RELAYED, m.RELAYED, m.RELAYED)
EXIT = m.Exit(0, 0, ())


def test_the_tables_name_only_known_states_and_messages() -> None:
    """Every state that a message leads to has a row, and PEER_STATES only narrows what TRANSITIONS allows."""
    for rows in TRANSITIONS.values():
        assert {state for row in rows.values() for state in row.values()} <= set(rows)
    sent = {kind for row in TRANSITIONS[SERVER].values() for kind in row}
    assert set(PEER_STATES) <= sent
    for moves in PEER_STATES.values():
        assert set(moves) | set(moves.values()) <= set(TRANSITIONS[CLIENT])


def test_every_message_can_be_sent() -> None:
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
        for role, kind in itertools.product((CLIENT, SERVER), TYPES):
            conversation = Conversation()
            conversation.states = {CLIENT: pair[0], SERVER: pair[1]}
            if conversation.move(role, kind):
                new.append((conversation.states[CLIENT], conversation.states[SERVER]))
            else:
                assert (conversation.states[CLIENT], conversation.states[SERVER]) == pair
    assert {client for client, _ in seen} == {IDLE, READY, CALLING, RUNNING}
    assert {server for _, server in seen} == {IDLE, READY, WAITING, RUNNING, DONE}
    assert (RUNNING, WAITING) not in seen
    assert (READY, RUNNING) not in seen
    assert (CALLING, RUNNING) not in seen
    assert TRANSITIONS[SERVER][DONE] == {}


def view(role: str, client: str, server: str) -> Connection:
    """Return one side's connection with both roles in the given states and all streams relayed."""
    connection = Connection(role)
    connection._conversation.states = {CLIENT: client, SERVER: server}
    connection._open_streams(CALL)
    return connection


def example(sender: str, kind: type[m.Message]) -> m.Message:
    """Return a message that is right for its sender in everything but, perhaps, the time."""
    mine, other = (0, 1) if sender == CLIENT else (1, 0)
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
    zero: dict[str, object] = {"text": "", "string": b"", "strings": ()}
    return kind(*[zero.get(wire_type, 0) for wire_type, _ in kind.layout])


@pytest.mark.parametrize("client", [IDLE, READY, CALLING, RUNNING])
@pytest.mark.parametrize("server", [IDLE, READY, WAITING, RUNNING, DONE])
@pytest.mark.parametrize("sender", [CLIENT, SERVER])
def test_both_sides_judge_alike(sender: str, client: str, server: str) -> None:
    """What a side refuses to send the other refuses to receive, for the same reason; allowed moves agree."""
    receiver = SERVER if sender == CLIENT else CLIENT
    for kind in TYPES:
        message = example(sender, kind)
        sending, receiving = view(sender, client, server), view(receiver, client, server)
        sending._expects_pass = receiving._expects_pass = kind is m.Pass
        receiving.receive_data(encode(message))
        state = client if sender == CLIENT else server
        allowed = kind in TRANSITIONS[sender][state] and (
            sender == CLIENT or kind not in PEER_STATES or client in PEER_STATES[kind]
        )
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
        assert sending.states == receiving.states == {CLIENT: client, SERVER: server}


def deliver(data: bytes, to: Connection) -> list[m.Message]:
    """Let one side receive what the other has sent."""
    to.receive_data(data)
    return list(to.events())


def test_what_crosses_an_exit_is_no_violation() -> None:
    """A client may still send while the EXIT travels: the server receives it and the conversation stays whole."""
    client, server = Connection(CLIENT), Connection(SERVER)
    deliver(client.send(HELLO) + client.send(CALL), server)
    deliver(server.send(HELLO) + server.send(m.Started("1")), client)
    travelling = server.send(EXIT)
    crossing = [m.Signal(15), m.Data(0, b"x"), m.Eof(0), m.Window(1, 0), m.Stop(2)]
    assert deliver(b"".join(map(client.send, crossing)), server) == crossing
    assert deliver(travelling, client) == [EXIT]


def test_what_crosses_a_refusal_is_no_violation() -> None:
    """A client may still send while the REFUSED travels."""
    client, server = Connection(CLIENT), Connection(SERVER)
    deliver(client.send(HELLO), server)
    refused = server.send(HELLO) + server.send(m.Refused(77, "no", ""))
    assert deliver(client.send(CALL) + client.send(m.Signal(2)), server) == [CALL, m.Signal(2)]
    assert len(deliver(refused, client)) == 2


def test_what_crosses_a_description_is_no_violation() -> None:
    """A client that is interrupted while the answer to `--help` travels has done nothing wrong."""
    client, server = Connection(CLIENT), Connection(SERVER)
    deliver(client.send(HELLO) + client.send(CALL), server)
    server.send(HELLO)
    server.send(m.Description(b"{}"))
    assert deliver(client.send(m.Signal(2)), server) == [m.Signal(2)]


def test_a_description_asked_for_before_the_call_does_not_end_the_call() -> None:
    """DESCRIBE and CALL in one write: the first answer belongs to DESCRIBE, and the call then starts."""
    client, server = Connection(CLIENT), Connection(SERVER)
    sent = b"".join(map(client.send, (HELLO, m.Describe(b""), CALL)))
    server.receive_data(sent)
    answers = b""
    for message in server.events():
        if isinstance(message, m.Describe):
            answers += server.send(HELLO) + server.send(m.Description(b"{}"))
        elif isinstance(message, m.Call):
            answers += server.send(m.Started("1"))
    assert deliver(answers, client)[-1] == m.Started("1")


def test_pings_are_answered_while_a_call_waits() -> None:
    """PONG fits a client that is calling: a PING sent just before the CALL is answered after it."""
    client, server = Connection(CLIENT), Connection(SERVER)
    deliver(b"".join(map(client.send, (HELLO, m.Ping(), CALL))), server)
    answers = [HELLO, m.Pong(()), m.Queued(0), m.Started("1")]
    assert deliver(b"".join(map(server.send, answers)), client) == answers
