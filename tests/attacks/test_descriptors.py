"""Descriptors that block when they are closed, on a real server: wherever a client sends one, others are served."""

from __future__ import annotations

import ctypes
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

import sidecall as client
from attacks.hostile import INVITED, OWN, STRANGER, Hostile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Run, Server, Table

pytestmark = pytest.mark.long

CONFIG = f"""
[service]
name = "x"
slots = 30
grace = 0.2
drain = 0.2
callers = [{OWN}, {INVITED}]
[commands.true]
argv = ["true"]
[commands.cat]
argv = ["cat"]
"""
KINDS = {"lingering": "a TCP socket that lingers", "silent": "a file of a silent FUSE daemon"}
MNT_DETACH = 2


def why_no_fuse() -> str:
    """Return why no FUSE file can be mounted here, or an empty string."""
    if OWN != 0 or not os.access("/dev/fuse", os.W_OK):
        return "mounting a FUSE file needs root and /dev/fuse"
    libc, device = ctypes.CDLL(None, use_errno=True), os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        if libc.mount(b"probe", b"/mnt", b"fuse", 0, options):
            return f"cannot mount a FUSE file: {os.strerror(ctypes.get_errno())}"
        libc.umount2(b"/mnt", MNT_DETACH)
    finally:
        os.close(device)
    return ""


@pytest.mark.parametrize("user", [INVITED, STRANGER] if OWN == 0 else [OWN])
def test_a_descriptor_that_blocks_holds_up_nobody(
    serve: Callable[..., Server], directory: Path, sidecall: Run, table: Table, user: int
) -> None:
    """Others are served, and the server ends, while it would still block whatever closes it: for ten minutes."""
    directory.chmod(0o755)
    (directory / "x.toml").write_text(CONFIG)
    server = serve("--config", str(directory / "x.toml"))
    with ExitStack() as stack:
        for kind, what in KINDS.items():
            if kind == "silent" and (reason := why_no_fuse()):
                table(f"{what}, by uid {user}", f"not tried: {reason}")
                continue
            slowest, places = 0.0, 0
            for _ in stack.enter_context(Hostile(server.path, user, "descriptors", kind)):
                began = time.monotonic()
                assert client.run("x", ["true"], connect_timeout=60).returncode == 0
                slowest, places = max(slowest, time.monotonic() - began), places + 1
            table(f"{what}, in {places} places, by uid {user}", f"others are served within {slowest * 1000:.0f} ms")
        assert sidecall("exec", "x", "true").returncode == 0
        began = time.monotonic()
        server.process.terminate()
        assert server.process.wait(60) == 0
        table(f"the same, by uid {user}, while the server is to end", f"it ends in {time.monotonic() - began:.1f} s")
