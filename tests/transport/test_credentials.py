"""Who a peer is, by what the kernel reports."""

from __future__ import annotations

import os
import socket

import pytest

from sidecall.transport.credentials import peer_of, uid_of


def test_a_peer_has_the_uid_and_the_groups_of_its_process() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
        assert (peer.uid, peer.gid, set(peer.groups)) == (os.geteuid(), os.getegid(), set(os.getgroups()))
        assert uid_of(ours) == os.geteuid()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes on groups, which needs root")
@pytest.mark.parametrize("count", [0, 1, 256, 257, 65536])
def test_a_peer_has_all_its_groups(count: int) -> None:
    """Also more than Python's own getsockopt has room for."""
    groups = tuple(range(100000, 100000 + count))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0sidecall-test-{os.getpid()}")
        listener.listen()
        pid = os.fork()
        if not pid:
            try:
                os.setgroups(groups)
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(listener.getsockname())
                    client.recv(1)
            finally:
                os._exit(0)
        accepted, _ = listener.accept()
        with accepted:
            assert peer_of(accepted).groups == groups
        os.waitpid(pid, 0)
