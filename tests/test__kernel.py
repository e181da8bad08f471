"""System calls that the standard library lacks, as a build without a loader has them too."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from sidecall._kernel import getsockopt, openat2, prctl

if TYPE_CHECKING:
    from pathlib import Path

RESOLVE_BENEATH = 0x08


def test_an_option_of_a_socket_is_what_python_reads() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        value = getsockopt(sock.fileno(), socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        assert value == sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100)


def test_a_path_is_resolved_as_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "link").symlink_to("/etc/passwd")
    root = os.open(tmp_path, os.O_PATH)
    try:
        with open(openat2(root, b"file", os.O_RDONLY | os.O_CLOEXEC, RESOLVE_BENEATH)) as file:
            assert file.read() == "content"
        for path in (b"link", b"../x", b"missing"):
            with pytest.raises(OSError, match=os.fsdecode(path)):
                openat2(root, path, os.O_RDONLY | os.O_CLOEXEC, RESOLVE_BENEATH)
    finally:
        os.close(root)


def test_what_the_kernel_refuses_raises() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        prctl(-1, 0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        getsockopt(-1, socket.SOL_SOCKET, socket.SO_SNDBUF, 4)
