"""Plans for tests, with the files that a call names only checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecall.files.paths import Paths
from sidecall.files.volumes import VolumeMap
from sidecall.policy import plan as policy
from sidecall.protocol.options import CallOptions

if TYPE_CHECKING:
    from sidecall.policy.config import Service
    from sidecall.policy.plan import Plan
    from sidecall.protocol.messages import Call


def plan(
    service: Service, call: Call, environ: dict[bytes, bytes], scratch: str = "", *, options: tuple[bytes, ...] = ()
) -> Plan:
    """Return what a call would execute."""
    with Paths(VolumeMap(service.volumes, call.directory_ids), private=None) as paths:
        return policy.plan(service, call, environ, paths, scratch, options=CallOptions(options))
