"""Rules about who may call. Pure: the names in them were looked up when the configuration was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecall.transport.credentials import UNMAPPED

if TYPE_CHECKING:
    from sidecall.transport.credentials import Peer


@dataclass(frozen=True)
class Callers:
    """Who may call: these users, and the members of these groups.

    Attributes:
        uids: numeric user ids.
        gids: numeric group ids; a caller's own and its supplementary ones count.
    """

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()

    def include(self, peer: Peer) -> bool:
        """Tell whether a peer is one of them, by what the kernel says of it."""
        groups = {peer.gid, *peer.groups} - {UNMAPPED}
        return (peer.uid in self.uids and peer.uid != UNMAPPED) or bool(groups & self.gids)
