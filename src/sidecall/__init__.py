"""Run a command in the container next door as if it were local.

`run` is the library's way to make a call, `run_async` the same for asyncio, `Popen` for a call to work with while it
runs; `python -m sidecall` and the `sidecall` command are the other two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecall.client.aio import run_async
    from sidecall.client.api import DEVNULL, PIPE, STDOUT, CallFailed, CompletedCall, run
    from sidecall.client.detached import detach, logs, remove, wait
    from sidecall.client.popen import Popen
    from sidecall.errors import (
        CallDenied,
        ConnectionLost,
        NoSuchCommand,
        ServiceBusy,
        ServiceUnavailable,
        SidecallError,
    )
    from sidecall.outcome import Outcome

__version__ = "0.1.0"

__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CallDenied",
    "CallFailed",
    "CompletedCall",
    "ConnectionLost",
    "NoSuchCommand",
    "Outcome",
    "Popen",
    "ServiceBusy",
    "ServiceUnavailable",
    "SidecallError",
    "__version__",
    "detach",
    "logs",
    "remove",
    "run",
    "run_async",
    "wait",
]

_HOMES = {
    "sidecall.client.aio": ("run_async",),
    "sidecall.client.api": ("DEVNULL", "PIPE", "STDOUT", "CallFailed", "CompletedCall", "run"),
    "sidecall.client.detached": ("detach", "logs", "remove", "wait"),
    "sidecall.client.popen": ("Popen",),
    "sidecall.errors": (
        "CallDenied",
        "ConnectionLost",
        "NoSuchCommand",
        "ServiceBusy",
        "ServiceUnavailable",
        "SidecallError",
    ),
    "sidecall.outcome": ("Outcome",),
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use: the command line, which uses none, starts faster."""
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return globals().setdefault(name, getattr(import_module(home), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
