"""Plans for tests, with the files that a call names only checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecall.server import policy
from sidecall.server.paths import Paths
from sidecall.server.volumes import Atlas

if TYPE_CHECKING:
    from sidecall.protocol.messages import Call
    from sidecall.server.config import Service
    from sidecall.server.policy import Plan


def plan(service: Service, call: Call, environ: dict[bytes, bytes], scratch: str = "") -> Plan:
    """Return what a call would execute."""
    with Paths(Atlas(service.volumes, call.folders), private=None) as paths:
        return policy.plan(service, call, environ, paths, scratch)
