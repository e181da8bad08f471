"""What servers and supervisors say to each other arrives as it was said, short or long."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sidecall.supervise.control import (
    EXITED,
    VERSION_OF_CONTROL,
    RUN,
    SIGNAL,
    STOP,
    Job,
    Event,
    ResourceUsage,
    decode_order,
    decode_reply,
    encode_job,
    read_job,
    receive,
    send_job,
    send_order,
    send_reply,
)

HEADER = Path(__file__).parents[2] / "native/supervisor/line.h"
PLAIN = Job([b"true"], {}, None, 0.5, leave=False)
FULL = Job(
    [b"tool", b"", b"--x=\xff\n"],
    {b"A": b"", b"B": b"c=d", b"PATH": b"/bin"},
    b"/work directory",
    1e9,
    leave=True,
    uid=0,
    gid=65534,
    groups=(1, 2, 4294967294),
    umask=0o027,
    nice=-20,
    limits=((0, 1), (7, 2**64 - 1)),
)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


@pytest.mark.parametrize(
    "job",
    [
        PLAIN,
        FULL,
        FULL._replace(groups=()),
        PLAIN._replace(directory=b""),
        FULL._replace(argv=[b"tool", b"x" * 100_000], environ={}),
    ],
    ids=["plain", "full", "no groups at all", "empty directory", "long"],
)
def test_a_job_arrives_whole(job: Job) -> None:
    """Every field, and the three streams; no groups are not the supervisor's own groups."""
    ours, theirs = pair()
    with ours, theirs:
        send_job(ours, job, (0, 1, 2))
        message, descriptors = receive(theirs, 4)
        assert message[0] == RUN
        assert read_job(message, descriptors) == job
        assert len(descriptors) == 3
        for fd in descriptors:
            os.close(fd)


def test_a_job_is_laid_out_as_the_native_keeper_reads_it() -> None:
    """The sizes and places are those of `native/supervisor/line.h`; each number lies at a multiple of its own size."""
    assert f'#define VERSION_OF_CONTROL "{VERSION_OF_CONTROL}" ' in HEADER.read_text()
    message = encode_job(FULL)
    assert message[:4] == bytes([1, 1, 1, 1])
    assert int.from_bytes(message[8:16], "little") == 10**18
    assert [int.from_bytes(message[at : at + 4], "little") for at in (28, 32, 36, 40)] == [3, 2, 3, 3]
    assert message[48:64] == bytes(8) + b"\1" + bytes(7)
    assert message[80:92] == b"\1\0\0\0\2\0\0\0\xfe\xff\xff\xff"
    assert message[92:] == b"/work directory\0tool\0\0--x=\xff\n\0A=\0B=c=d\0PATH=/bin\0"


@pytest.mark.parametrize(("kind", "value"), [(SIGNAL, 15), (STOP, 0), (STOP, 10**18)])
def test_an_order_arrives(kind: int, value: int) -> None:
    ours, theirs = pair()
    with ours, theirs:
        send_order(ours, kind, value)
        message, _ = receive(theirs)
        assert (len(message), decode_order(message)) == (16, (kind, value))


def test_a_reply_arrives() -> None:
    reply = Event(EXITED, 137, ResourceUsage(1, 2**40, 3), stopped=True, left=False)
    ours, theirs = pair()
    with ours, theirs:
        send_reply(ours, reply)
        message, _ = receive(theirs)
        assert (len(message), decode_reply(message)) == (32, reply)


def test_a_peer_that_is_gone_is_found_out_when_reading() -> None:
    """Also one that had something left to read; saying something to it is no error."""
    ours, theirs = pair()
    with ours:
        send_order(ours, STOP, 0)
        theirs.close()
        send_order(ours, STOP, 0)
        assert receive(ours) == (b"", [])
