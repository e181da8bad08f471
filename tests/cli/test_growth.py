"""Protocol 1 can grow: each side of a later release talks to this one, in both directions, with both clients.

The later release is `tests/programs/grown.py`, and the native client compiled from changed sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, PROGRAMS, PYTHON_COMMAND, ROOT, both_modes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Server

CLIENTS = sorted({CLIENT, PYTHON_COMMAND})
SCRIPT = ("sh", "-c", "cat; echo err >&2; exit $0")

NATIVE_CHANGES = {
    "put_integer(&frame, has_terminal, 4); /* needs */": """if (getenv("GROWN_NEEDS") != NULL) {
        put_integer(&frame, 1, 4);
        put_string(&frame, "colour");
    } else
        put_integer(&frame, 0, 4);""",
    "put_integer(&frame, 1, 4); /* knows */": """put_integer(&frame, 2, 4);
    put_string(&frame, "colour");""",
    """    put_string(&frame, SOFTWARE);
    end_frame(channel, &frame);
""": """    put_string(&frame, SOFTWARE);
    end_frame(channel, &frame);
    frame = begin_frame(channel, 129, CONTROL_LIMIT);
    put_integer(&frame, 50, 1);
    end_frame(channel, &frame);
""",
    "put_integer(frame, count, 4);": """put_integer(frame, count + (getenv("GROWN_OPTION") != NULL), 4);
    if (getenv("GROWN_OPTION") != NULL)
        put_string(frame, "colour=yes");""",
    "case ENDED_EXITED:": "case 9: case ENDED_EXITED:",
}
"""What the later native client does differently: see `grown.py`."""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the command of the later release."""
    program = tmp_path_factory.mktemp("grown") / "sidecall"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {PROGRAMS / "grown.py"} "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture(scope="module")
def grown_native(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the native client of the later release."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    directory = tmp_path_factory.mktemp("native")
    shutil.copytree(ROOT / "native", directory / "native")
    changed = 0
    for source in (directory / "native" / "client").glob("*.c"):
        text = source.read_text()
        for before, after in NATIVE_CHANGES.items():
            changed += text.count(before)
            text = text.replace(before, after)
        source.write_text(text)
    assert changed == len(NATIVE_CHANGES)
    sources = sorted((directory / "native" / "client").glob("*.c"))
    program = str(directory / "sidecall")
    subprocess.run(["cc", "-I", directory / "native", *sources, "-o", program], check=True)
    return program


@pytest.fixture(params=["python", "native"])
def grown_client(request: pytest.FixtureRequest) -> str:
    """Return each client of the later release."""
    client: str = request.getfixturevalue("grown" if request.param == "python" else "grown_native")
    return client


@pytest.fixture
def grown_tool(serve: Callable[..., Server], grown: str) -> Server:
    """Return a server of the later release."""
    return serve("--allow-any", "tool", program=grown)


def call(client: str, *arguments: str, **variables: str) -> tuple[int, bytes, bytes]:
    """Make a call; return how it ended and what it printed."""
    done = subprocess.run(
        [client, "exec", *arguments],
        input=b"some input",
        capture_output=True,
        env={**os.environ, **variables},
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@both_modes
@pytest.mark.parametrize("client", CLIENTS)
def test_a_later_server_serves_this_client(grown_tool: Server, client: str, mode: tuple[str, ...]) -> None:
    """What it knows, its messages that can be ignored and its details change nothing."""
    assert grown_tool.path.exists()
    assert call(client, *mode, "tool", *SCRIPT, "3") == (3, b"some input", b"err\n")


@both_modes
@pytest.mark.parametrize("client", CLIENTS)
def test_a_later_kind_of_end_is_an_unknown_outcome(grown_tool: Server, client: str, mode: tuple[str, ...]) -> None:
    """Not a violation, and never taken for one of the known kinds."""
    assert grown_tool.path.exists()
    code, out, err = call(client, *mode, "tool", *SCRIPT, "44")
    assert (code, out) == (125, b"some input")
    assert b"the exit status of the command is unknown" in err


@pytest.mark.parametrize("client", CLIENTS)
def test_a_need_of_a_later_server_is_refused_by_name(
    serve: Callable[..., Server], grown: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client ends with 76, and names the feature."""
    monkeypatch.setenv("GROWN_NEEDS", "1")
    serve("--allow-any", "tool", program=grown)
    code, _, err = call(client, "tool", "true")
    assert code == 76
    assert b"the server needs the feature 'colour'" in err


@pytest.mark.parametrize("client", CLIENTS)
def test_a_later_server_answers_ping(grown_tool: Server, client: str) -> None:
    """A detail of PONG that is not known is ignored."""
    assert grown_tool.path.exists()
    done = subprocess.run([client, "ping", "tool"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"slots in use" in done.stdout


@both_modes
def test_this_server_serves_a_later_client(tool: Server, grown_client: str, mode: tuple[str, ...]) -> None:
    """What it knows and its messages that can be ignored change nothing."""
    assert tool.path.exists()
    assert call(grown_client, *mode, "tool", *SCRIPT, "3") == (3, b"some input", b"err\n")
    assert call(grown_client, *mode, "tool", *SCRIPT, "44")[0] == 44


@both_modes
@pytest.mark.parametrize(
    ("variable", "named"),
    [("GROWN_OPTION", b"unknown call option 'colour'"), ("GROWN_NEEDS", b"unknown feature 'colour'")],
)
def test_what_a_later_client_asks_for_is_refused_by_name(
    tool: Server, tmp_path: Path, grown_client: str, mode: tuple[str, ...], variable: str, named: bytes
) -> None:
    """An option or a need: with 76, and nothing is started."""
    assert tool.path.exists()
    code, _, err = call(grown_client, *mode, "tool", "touch", str(tmp_path / "ran"), **{variable: "1"})
    assert code == 76
    assert named in err
    assert not (tmp_path / "ran").exists()


@both_modes
def test_two_of_the_later_release_use_what_is_new(grown_tool: Server, grown_client: str, mode: tuple[str, ...]) -> None:
    """The tests above would hold nothing if the later release did not have it."""
    assert grown_tool.path.exists()
    new = {"GROWN_OPTION": "1", "GROWN_NEEDS": "1"}
    assert call(grown_client, *mode, "tool", *SCRIPT, "44", **new) == (44, b"some input", b"err\n")
