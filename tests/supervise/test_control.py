"""The messages between servers and supervisors have the layout that `native/supervisor` reads and writes."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from sidecall.protocol import messages
from sidecall.supervise import control
from sidecall.supervise.control import (
    EXITED,
    FROM_CLIENT,
    MAX_MESSAGE,
    SAME_AS_STDOUT,
    STOP,
    UNWANTED,
    Event,
    Job,
    RunAs,
    decode_event,
    encode_job,
    receive_event,
    send_job,
    send_request,
)

NATIVE = Path(__file__).parents[2] / "native/supervisor"
FULL = Job(
    [b"tool", b"", b"--x=\xff\n"],
    {b"A": b"", b"B": b"c=d", b"PATH": b"/bin"},
    b"/work directory",
    1e9,
    keep_background=True,
    run_as=RunAs(0, 65534, (1, 2, 4294967294), 0o027, -20, ((0, 1), (7, 2**64 - 1)), 700),
    has_terminal=True,
    confined_to=[b"x/usr", b"w/data"],
)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def enumerators(name: str) -> dict[str, int]:
    """Return the enumerators of an enum in control.h."""
    found = re.search(rf"enum {name} \{{(.*?)\}}", (NATIVE / "control.h").read_text(), re.DOTALL)
    assert found
    values: dict[str, int] = {}
    for entry in re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL).split(","):
        name, _, value = entry.partition("=")
        values[name.strip()] = int(value) if value else (max(values.values()) + 1 if values else 0)
    return values


def test_numbers_are_those_of_the_header() -> None:
    """Every kind, source and stage, in both directions; and the version."""
    assert {name: getattr(control, name) for name in enumerators("kind")} == enumerators("kind")
    assert {name: getattr(control, name) for name in enumerators("stage")} == enumerators("stage")
    sources = enumerators("source")
    assert sources.pop("GIVEN") == 0
    assert {name: -getattr(control, name) for name in sources} == sources
    assert f'#define VERSION "{control.VERSION}" ' in (NATIVE / "control.h").read_text()
    assert f"sizeof(struct event) == {control.EVENT_SIZE}," in (NATIVE / "control.c").read_text()


def test_the_frame_that_has_descriptors_is_the_protocols() -> None:
    """The new process of a command reads it itself."""
    frame = bytes([0, 0, 0, 0, messages.Pass.number])
    assert f"PASS_FRAME[] = {{{', '.join(map(str, frame))}}};" in (NATIVE / "execute.c").read_text()


def test_a_job_is_laid_out_as_the_supervisor_reads_it() -> None:
    """Each number lies at a multiple of its own size."""
    message = encode_job(FULL, (5, FROM_CLIENT, SAME_AS_STDOUT))
    assert message[:8] == bytes([1, 1, 1, 1, 0, 1, 2, 0])
    assert int.from_bytes(message[8:16], "little") == 10**18
    assert [int.from_bytes(message[at : at + 4], "little", signed=True) for at in (16, 20, 24)] == [0o027, -20, 700]
    numbers = [int.from_bytes(message[at : at + 4], "little") for at in range(28, 64, 4)]
    assert numbers == [0, 65534, 3, 2, 3, 3, 1, 2, 0]
    assert message[64:80] == bytes(8) + b"\1" + bytes(7)
    assert message[96:108] == b"\1\0\0\0\2\0\0\0\xfe\xff\xff\xff"
    assert message[108:] == b"/work directory\0tool\0\0--x=\xff\n\0A=\0B=c=d\0PATH=/bin\0x/usr\0w/data\0"


def test_no_groups_at_all_differ_from_unchanged_ones() -> None:
    assert encode_job(FULL._replace(run_as=RunAs(groups=())), (0, 1, 2))[3] == 1
    assert encode_job(FULL._replace(run_as=RunAs()), (0, 1, 2))[3] == 0


@pytest.mark.parametrize("is_long", [False, True])
def test_descriptors_go_in_order(*, is_long: bool) -> None:
    """Given streams, the client's connection, the file of a long job."""
    ours, theirs = pair()
    job = FULL._replace(argv=[b"x" * (MAX_MESSAGE if is_long else 1)])
    with ours, theirs, open(os.devnull) as one, open(os.devnull) as other:
        send_job(ours, job, (one.fileno(), UNWANTED, SAME_AS_STDOUT), other.fileno())
        message, descriptors, _, _ = socket.recv_fds(theirs, MAX_MESSAGE, 4)
        assert message[4:8] == bytes([0, 3, 2, is_long])
        assert len(descriptors) == 2 + is_long
        if is_long:
            with open(descriptors[2], "rb", closefd=False) as file:
                file.seek(0)
                assert file.read() == encode_job(job, (one.fileno(), UNWANTED, SAME_AS_STDOUT))
        for fd in descriptors:
            os.close(fd)


def test_a_request_and_an_event_arrive() -> None:
    ours, theirs = pair()
    with ours, theirs:
        send_request(ours, STOP, 10**18)
        assert theirs.recv(100) == bytes([3]) + bytes(7) + (10**18).to_bytes(8, "little")
        event = bytes([EXITED, 0, 1, 1]) + b"".join(n.to_bytes(4, "little") for n in (137, 2, 3, 4, 5))
        theirs.send(event + b"".join(n.to_bytes(8, "little") for n in (6, 2**40, 8)))
        assert receive_event(ours) == Event(EXITED, 0, 1, 1, 137, 2, 3, 4, 5, 6, 2**40, 8)


def test_an_unknown_status_is_negative() -> None:
    assert decode_event(bytes(4) + b"\xff" * 4 + bytes(40)).number == -1


def test_a_peer_that_is_gone_is_noticed_when_reading() -> None:
    """Also one that had something left to read."""
    ours, theirs = pair()
    with ours:
        send_request(ours, STOP, 0)
        theirs.close()
        assert receive_event(ours) is None
