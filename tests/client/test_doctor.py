"""What keeps a client from its service, as findings. The command, and real containers: tests/cli, tests/containers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sidecall.client.doctor import OK, PROBLEM, examine, examine_directory, services_in

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Server


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """The line of a compose file mounts a volume there; the code is that of a call."""
    (tmp_path / "file").write_text("")
    for name, said in (("gone", "does not exist"), ("file", "is not a directory")):
        (finding,) = examine_directory(str(tmp_path / name))
        assert (finding.severity, finding.code, said in finding.text) == (PROBLEM, 69, True)
        assert f'"ipc:{tmp_path / name}"' in finding.fix
    assert examine_directory(str(tmp_path)) == []


def test_a_service_that_answers(tool: Server, directory: Path) -> None:
    """Nothing is a problem, the last finding says so, and nothing is left in the directory."""
    before = sorted(directory.iterdir())
    found = examine(str(directory / "tool.sock"))
    assert PROBLEM not in {finding.severity for finding in found}
    assert (found[-1].severity, "0 of 4 slots in use" in found[-1].text) == (OK, True)
    assert sorted(directory.iterdir()) == before
    assert services_in(str(directory)) == [str(directory / "tool.sock")]


def test_sockets_that_are_none_or_that_nobody_serves(directory: Path) -> None:
    """Each last finding is the problem, with what to do."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(directory / "stale.sock"))
    (directory / "file.sock").write_text("")
    (directory / "made.sock").mkdir()
    for name, said, fix in (
        ("stale", "no server is listening", "replaces a stale socket"),
        ("file", "is a file, not a socket", "volumes:"),
        ("made", "is a directory, not a socket: the container engine makes one", "volumes:"),
        ("gone", "socket gone.sock not found", "sidecall serve"),
    ):
        finding = examine(str(directory / f"{name}.sock"))[-1]
        assert (finding.severity, finding.code) == (PROBLEM, 69)
        assert said in finding.text
        assert fix in finding.fix
