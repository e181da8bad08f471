"""What a hostile client does to a service, as a program: it can be of another user, and in another container.

usage: hostile.py SOCKET UID ATTACK [ARG...]

UID is the user to become, `-` for none. It prints a line for each thing that it has done, and goes on when it reads
one. It holds what it has opened until its stdin ends.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import encodings.idna  # noqa: F401 which another user might not be able to import later
import itertools
import os
import resource
import select
import socket
import struct
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MNT_DETACH = 2
FUSE_GETATTR, FUSE_OPEN, FUSE_INIT = 3, 14, 26

HELLO = encode(m.Hello(m.VERSION, (), (), "hostile"))
PASS = encode(m.Pass())
TRUE = m.Call(b"true", (), (), b"", b"/", (), (), m.NONE, m.NONE, m.NONE)
CAT = encode(m.Call(b"cat", (), (), b"", b"/", (), (), m.PASSED, m.PASSED, m.PASSED))
RELAYED = encode(m.Call(b"cat", (), (), b"", b"/", (), (), m.RELAYED, m.RELAYED, m.RELAYED))
LARGE = encode(m.Call(b"true", (b"x" * (m.CALL_LIMIT - 100),), (), b"", b"/", (), (), m.NONE, m.NONE, m.NONE))

kept: list[object] = []
daemons: list[int] = []


def connect(path: str) -> socket.socket:
    """Return a connection, which stays open."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.settimeout(20)
    kept.append(sock)
    return sock


def attach(sock: socket.socket, data: bytes, descriptors: list[int], flags: int = 0, *, after: bytes = b"") -> None:
    """Send bytes, and bytes with descriptors."""
    sock.sendall(after)
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))], flags)


def lingering() -> int:
    """Return a TCP socket whose last close(2) waits ten minutes: its peer does not read what is to be sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sock = socket.create_connection(listener.getsockname())
        kept.append(listener.accept()[0])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))
    return sock.detach()


def silent() -> int:
    """Return a file whose every close(2) blocks: its FUSE daemon has answered until it was open, and is silent now.

    The kernel releases all that wait for the daemon once that has exited. Source: fuse(4).
    """
    device = os.open("/dev/fuse", os.O_RDWR)
    place, name = tempfile.mkstemp()
    os.close(place)
    options = f"fd={device},rootmode=100000,user_id={os.geteuid()},group_id={os.getegid()},allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"silent", name.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    wanted, holding = os.pipe()
    if not os.fork():
        os.close(holding)
        be_daemon(device, wanted)
        os._exit(0)
    os.close(device)
    daemons.append(holding)
    file = os.open(name, os.O_RDWR)
    libc.umount2(name.encode(), MNT_DETACH)
    os.unlink(name)
    return file


def be_daemon(device: int, wanted: int) -> None:
    """Answer what has to do with opening the file, and nothing else, until a pipe has ended."""
    attributes = struct.pack("=6Q10I", 1, 0, 0, 0, 0, 0, 0, 0, 0, 0o100666, 1, 0, 0, 0, 4096, 0)
    answers = {
        FUSE_INIT: struct.pack("=6I", 7, 31, 65536, 0, 0, 65536) + bytes(40),
        FUSE_GETATTR: struct.pack("=QII", 1, 0, 0) + attributes,
        FUSE_OPEN: struct.pack("=QII", 1, 0, 0),
    }
    with contextlib.suppress(OSError):
        while wanted not in select.select([device, wanted], [], [])[0]:
            _, kind, serial = struct.unpack_from("=IIQ", os.read(device, 1 << 20))
            if kind in answers:
                os.write(device, struct.pack("=IiQ", 16 + len(answers[kind]), 0, serial) + answers[kind])


def descriptors(path: str, kind: str) -> Iterator[str]:
    """Send a descriptor that blocks when it is closed, in each place where one can be."""
    null = os.open(os.devnull, os.O_RDWR)
    file = silent() if kind == "silent" else -1
    yield "ready"

    def blocking() -> int:
        return lingering() if kind == "lingering" else os.dup(file)

    for place, send in PLACES.items():
        fd = blocking()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused by now
            send(connect(path), fd, null)
        if kind == "lingering":  # a silent one cannot be closed here
            threading.Thread(target=os.close, args=(fd,), daemon=True).start()  # blocks if the server has none any more
        yield place


def _late(sock: socket.socket, fd: int, null: int) -> None:
    attach(sock, PASS, [null] * 3, after=HELLO + CAT)
    attach(sock, encode(m.Signal(1)), [fd])


def _gone(sock: socket.socket, fd: int, null: int) -> None:
    attach(sock, PASS, [fd, null, null], after=HELLO + CAT)
    sock.close()


def _answered(sock: socket.socket, fd: int, null: int) -> None:
    sock.sendall(HELLO + encode(TRUE))
    sock.recv(65536)
    attach(sock, b"x", [fd])


PLACES: dict[str, Callable[[socket.socket, int, int], None]] = {
    "with HELLO": lambda sock, fd, _: attach(sock, HELLO + CAT, [fd]),
    "with CALL": lambda sock, fd, _: attach(sock, CAT, [fd], after=HELLO),
    "as a stream": lambda sock, fd, null: attach(sock, PASS, [fd, null, null], after=HELLO + CAT),
    "one more than streams": lambda sock, fd, _: attach(sock, PASS, [fd] * 4, after=HELLO + CAT),
    "253 times, truncated": lambda sock, fd, _: attach(sock, PASS, [fd] * 253, after=HELLO + CAT),
    "without a passed stream": lambda sock, fd, _: attach(sock, PASS, [fd], after=HELLO + RELAYED),
    "out of band": lambda sock, fd, _: attach(sock, b"!", [fd], socket.MSG_OOB, after=HELLO),
    "on a later frame": _late,
    "as a stream of a client that is gone": _gone,
    "behind the answer": _answered,
}


def unfinished(path: str, count: str) -> Iterator[str]:
    """Send all but the last byte of the largest call on many connections."""
    yield "ready"
    refused = 0
    for _ in range(int(count)):
        try:
            sock = connect(path)
            sock.sendall(HELLO + LARGE[:-1])
        except OSError:
            refused += 1
    yield f"{refused} refused"


def idle(path: str, count: str) -> Iterator[str]:
    """Connect and send nothing."""
    yield "ready"
    for _ in range(int(count)):
        connect(path)
    yield "connected"


def connects(path: str) -> Iterator[str]:
    """Connect and close, again and again."""
    yield "ready"

    def repeat() -> None:
        with contextlib.suppress(OSError):
            while True:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(path)

    for _ in range(2):
        threading.Thread(target=repeat, daemon=True).start()
    yield "connecting"


def refused(path: str) -> Iterator[str]:
    """Send what has to be refused, again and again."""
    yield "ready"

    def repeat() -> None:
        with contextlib.suppress(OSError):
            while True:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(path)
                    sock.settimeout(20)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                        while sock.recv(65536):
                            pass

    threading.Thread(target=repeat, daemon=True).start()
    yield "sending"


ATTACKS: dict[str, Callable[..., Iterator[str]]] = {
    attack.__name__: attack for attack in (descriptors, unfinished, idle, connects, refused)
}


def main() -> None:
    """Do step after step."""
    path, uid, name, *arguments = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    steps = ATTACKS[name](path, *arguments)
    next(steps)
    if uid != "-":
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    for step in itertools.chain(steps, ["done"]):
        print(step, flush=True)
        if not sys.stdin.readline():
            break
    sys.stdin.read()
    for holding in daemons:  # they end first: to exit with their files would wait for them
        os.close(holding)
    os._exit(0)


if __name__ == "__main__":
    main()
