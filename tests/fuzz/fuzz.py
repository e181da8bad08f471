"""Fuzz targets: whatever arrives, what PROTOCOL.md promises of it holds.

usage: fuzz.py TARGET [LIBFUZZER OPTION or CORPUS...]      the targets are the functions of TARGETS
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["sidecall", "tomllib"]):
    from sidecall.errors import ConfigError, ProtocolError, SidecallError, UsageError
    from sidecall.files.paths import Paths
    from sidecall.files.volumes import VolumeMap
    from sidecall.policy import plan as policy
    from sidecall.policy.loading import loads
    from sidecall.policy.parameters import Parameter, parse
    from sidecall.protocol.codec import encode, frame_at
    from sidecall.protocol.connection import Connection
    from sidecall.protocol.messages import FIRST_IGNORABLE, NONE, RELAYED, SAME_AS_STDOUT, Call, Hello
    from sidecall.protocol.states import CLIENT, SERVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecall.protocol.messages import Message

DECLARED = {
    parameter.name: parameter
    for parameter in (
        Parameter("s", "str", optional=True, pattern="[a-z-]{1,5}", repeatable=True, max_count=3),
        Parameter("free", "str", optional=True, allow_leading_dash=True),
        Parameter("p", "path", optional=True),
        Parameter("i", "int", optional=True, minimum=-5, maximum=9, default="3"),
        Parameter("f", "float", optional=True, minimum=0),
        Parameter("c", "choice", optional=True, choices=("a", "-b")),
        Parameter("v", "flag", value="--verbose"),
    )
}

OFFER = loads(
    """
    [service]
    name = "x"
    [volumes.v]
    path = "/usr/share"
    [commands.c]
    argv = ["run", "{p}", ["-n", "{n}"], "x={s}"]
    pass-env = ["A"]
    pass-cwd = true
    [commands.c.parameters]
    p = { type = "path", optional = true }
    n = { type = "int", min = 0, optional = true }
    s = { optional = true, repeatable = true }
    """,
    "/x.toml",
)


def codec(data: bytes) -> None:
    """Bytes are no frame yet, a broken one, or the one way in which a message is written."""
    try:
        found = frame_at(bytearray(data), 0)
    except ProtocolError:
        return
    if found is not None:
        message, end = found
        assert encode(message) == data[:end] if message is not None else data[4] >= FIRST_IGNORABLE


def connection(data: bytes) -> None:
    """However the bytes are cut into pieces, the same messages come out, and the same violation."""
    if len(data) < 2:
        return
    role, size, stream = (CLIENT, SERVER)[data[0] % 2], 1 + data[1] % 40, data[2:]
    whole = _received(role, [stream])
    cut = _received(role, [stream[at : at + size] for at in range(0, len(stream), size)])
    assert whole == cut


def _received(role: str, pieces: list[bytes]) -> tuple[list[Message], str]:
    end, received = Connection(role), []
    if role == CLIENT:
        end.send(Hello(1, (), (), "fuzz"))
        end.send(Call(b"c", (), (), b"", b"/", (), (), RELAYED, RELAYED, SAME_AS_STDOUT))
    try:
        for piece in pieces:
            end.receive_data(piece)
            for message in end.events():
                received.append(message)  # noqa: PERF402 what came before a violation counts
    except ProtocolError as error:
        return received, error.reason
    return received, ""


def parameters(data: bytes) -> None:
    """A value is what was declared, or the call is refused."""
    words = data.split(b"\n")
    try:
        values = parse(DECLARED, words, "/base", "c")
    except UsageError:
        return
    assert values.keys() == DECLARED.keys()
    assert all(b"\0" not in value for given in values.values() for value in given)
    assert len(values["s"]) <= 3
    assert all(re.fullmatch(b"[a-z][a-z-]{0,4}", value) for value in values["s"])
    assert all(value.startswith(b"/") for value in values["p"])
    assert all(-5 <= int(value) <= 9 for value in values["i"])
    assert all(float(value) >= 0 for value in values["f"])
    assert set(values["c"]) <= {b"a", b"-b"}
    assert set(values["v"]) <= {b"--verbose"}


def calls(data: bytes) -> None:
    """A call is refused, or becomes a plan that is made of what was declared, and of files beneath the volume."""
    parts = data.split(b"\n")
    words = tuple(part for part in parts if not part.startswith(b"!"))
    said = [part[1:] for part in parts if part.startswith(b"!")]
    directories = tuple(part for part in said if part[:1].isdigit())
    environment = tuple(part for part in said if not part[:1].isdigit())
    call = Call(
        b"c",
        words,
        environment,
        environment[0] if environment else b"",
        b"/usr/share",
        directories,
        (),
        NONE,
        NONE,
        NONE,
    )
    try:
        with Paths(VolumeMap(OFFER.volumes, call.directory_ids), private=None) as paths:
            plan = policy.plan(OFFER, call, {}, paths)
    except SidecallError as error:
        _check(error.reason.isprintable())
        return
    assert plan.argv[0] == b"run"
    assert set(plan.environ) <= {b"A"}
    for word in plan.argv[1:]:
        inside = word.startswith(b"/usr/share") and os.path.realpath(word).startswith(b"/usr/share")
        assert inside or word == b"-n" or word.isdigit() or word[1:].isdigit() or word.startswith(b"x=")


def _check(holds: bool) -> None:
    assert holds


def config(data: bytes) -> None:
    """A file is a configuration, or one printable sentence."""
    text = data.decode(errors="replace")
    try:
        loads(text, "/x.toml")
    except ConfigError as error:
        _check(error.reason.startswith("/x.toml: ") and error.reason.isprintable())


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (codec, connection, parameters, calls, config)
}

if __name__ == "__main__":
    chosen = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, chosen)
    atheris.Fuzz()
