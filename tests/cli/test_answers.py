"""What a broken or hostile service answers to questions: never a traceback, nothing that a terminal would obey."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from conftest import CLIENT, SIDECALL
from sidecall.protocol import messages as m
from sidecall.protocol.codec import encode

if TYPE_CHECKING:
    from pathlib import Path

ODD = "x\x1b]0;title\x07\x9b31m"
GREETING = encode(m.Hello(1, (), (), ODD))
COMMAND = {
    "name": ODD,
    "summary": ODD,
    "timeout": None,
    "environment": [ODD],
    "working_directory": True,
    "stdin": True,
    "parameters": [{"name": ODD, "type": ODD, "required": True, "help": ODD, "default": ODD}],
}
DESCRIPTION = {"service": ODD, "any_command": False, "volumes": {ODD: {"path": ODD, "access": ODD}}}
CALL = {"call": ODD, "state": ODD, "uid": 1, "seconds": 1, "command": ODD}


def ask(directory: Path, answer: m.Message, *words: str) -> tuple[int, str]:
    """Return how `sidecall` ends that asks a service which answers so, and all that it says."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "odd.sock"))
        listener.listen()

        def serve() -> None:
            service, _ = listener.accept()
            with service:
                service.recv(65536)
                service.sendall(GREETING + encode(answer))

        thread = threading.Thread(target=serve)
        thread.start()
        program = CLIENT if words[0] == "exec" else SIDECALL
        done = subprocess.run([program, *words], capture_output=True, check=False, timeout=60)
        thread.join()
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("answer", [b"{", b"[]", b"null", b"\xff", b"{}", b"[" * 100_000, b'{"any_command": 0}'])
@pytest.mark.parametrize("words", [("describe", "odd"), ("exec", "odd", "x", "--help")])
def test_what_is_no_description_is_a_broken_protocol(directory: Path, words: tuple[str, ...], answer: bytes) -> None:
    """A description that is none ends with 76 and one sentence."""
    code, said = ask(directory, m.Description(answer), *words)
    assert (code, said) == (76, "sidecall: the answer of the server is not a description\n")


@pytest.mark.parametrize("answer", [b"{", b"null", b"\xff", b"[1]", b"[{}]"])
def test_what_is_no_list_of_calls_is_a_broken_protocol(directory: Path, answer: bytes) -> None:
    """So does a list of calls."""
    code, said = ask(directory, m.Calls(answer), "status", "odd")
    assert (code, said) == (76, "sidecall: the answer of the server is not a list of calls\n")


def test_what_is_no_json_is_not_passed_on_as_such(directory: Path) -> None:
    """Nor does `--json` print what is none."""
    code, said = ask(directory, m.Description(b'{"\x1b'), "describe", "--json", "odd")
    assert (code, said) == (76, "sidecall: the answer of the server is not JSON\n")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("describe", "odd"), m.Description(json.dumps({**DESCRIPTION, "commands": [COMMAND]}).encode())),
        (("describe", "--json", "odd"), m.Description(json.dumps(DESCRIPTION, ensure_ascii=False).encode())),
        (("exec", "odd", "x", "--help"), m.Description(json.dumps({**DESCRIPTION, "any_command": True}).encode())),
        (("status", "odd"), m.Calls(json.dumps([CALL]).encode())),
        (("ping", "odd"), m.Pong(())),
    ],
)
def test_a_terminal_sees_printable_text_only(directory: Path, words: tuple[str, ...], answer: m.Message) -> None:
    """What a service calls things cannot control the terminal that shows it."""
    code, said = ask(directory, answer, *words)
    assert code == 0
    assert "title" in said
    assert said.replace("\n", "").isprintable()


def test_a_calls_name_is_printable_too(directory: Path) -> None:
    """What `-v` says of a call holds no control character of the service's."""
    code, said = ask(directory, m.Started(ODD), "exec", "-v", "--no-stdin", "odd", "true")
    assert code == 125
    assert "started as call x\\x1b]0;title" in said
    assert said.replace("\n", "").isprintable()
