"""The bridge between two real containers, with plain socat in place of either side."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from containers.pod import Pod

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

SOCKET = "/run/sidecall/dialogue.sock"
SERVERS = {
    "sidecall": ("sidecall", "serve", "dialogue", "/programs/server-app"),
    "socat": ("socat", f"UNIX-LISTEN:{SOCKET},fork", "EXEC:/programs/server-app"),
}
CLIENTS = {
    "sidecall": ("sidecall", "connect", "--connect-timeout", "20", "dialogue", "/programs/client-app"),
    "socat": ("socat", f"UNIX-CONNECT:{SOCKET},retry=200,interval=0.1", "EXEC:/programs/client-app"),
}


@pytest.mark.parametrize(("server", "client"), [("sidecall", "sidecall"), ("socat", "sidecall"), ("sidecall", "socat")])
def test_the_original_dialogue(pod: Pod, server: str, client: str) -> None:
    """The two apps take turns, a line each, whichever side is socat; `connect` ends as its app ends."""
    pod.start(*SERVERS[server])
    done = pod.caller().exec(*CLIENTS[client])
    assert (pod.shared / "answers").read_text() == "SUCCESS: one\nFAIL: broken\nSUCCESS: three\n"
    if client == "sidecall":
        assert done.returncode == 7


def test_half_close_and_binary_data(pod: Pod) -> None:
    """What the server app still answers after the client closed its direction arrives, byte for byte."""
    pod.start("sidecall", "serve", "dialogue", "cat")
    done = pod.caller().exec("sidecall", "connect", "--connect-timeout", "20", "dialogue", "/programs/echo-client")
    assert done.returncode == 0, done.stderr
    expected = hashlib.sha256(bytes(range(256)) * 16_384).hexdigest()
    assert (pod.shared / "echoed").read_text() == f"4194304 {expected}"


def test_a_second_client_is_served_after_the_first(pod: Pod) -> None:
    """The service outlives a dialogue: the next client, from another container, gets its own."""
    pod.start(*SERVERS["sidecall"])
    for caller in (pod.caller(), pod.caller()):
        assert caller.exec(*CLIENTS["sidecall"]).returncode == 7
    assert (pod.shared / "answers").read_text() == "SUCCESS: one\nFAIL: broken\nSUCCESS: three\n" * 2
