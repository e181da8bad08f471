"""Who may call: users, groups, and the overflow ids that stand for every unmapped one."""

from __future__ import annotations

import pytest

from sidecall.policy.callers import Callers
from sidecall.transport.credentials import UNMAPPED, Peer

RULE = Callers(frozenset({7, UNMAPPED}), frozenset({70, UNMAPPED}))


@pytest.mark.parametrize(
    ("peer", "is_included"),
    [
        (Peer(7, 8), True),
        (Peer(8, 70), True),
        (Peer(8, 9, (10, 70)), True),
        (Peer(8, 9, (10, 11)), False),
        (Peer(70, 7), False),
        (Peer(0, 0), False),
        (Peer(UNMAPPED, UNMAPPED, (UNMAPPED,)), False),
        (Peer(UNMAPPED, 70), True),
        (Peer(7, UNMAPPED), True),
    ],
)
def test_a_peer_is_included_by_its_user_or_any_of_its_groups(peer: Peer, is_included: bool) -> None:
    """A uid is no gid, root has no privilege, and what is unmapped is nobody in particular, also if it is named."""
    assert RULE.include(peer) is is_included


def test_nobody_is_included_by_an_empty_rule() -> None:
    assert not Callers().include(Peer(0, 0, (0,)))
