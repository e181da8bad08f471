"""Run a command in the container next door as if it were local.

`run` is the library's way to make a call; `python -m sidecall` and the `sidecall` command are the other two.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sidecall.client.api import CompletedCall, run
    from sidecall.errors import SidecallError
    from sidecall.outcome import Outcome

__version__ = "0.1.0"

__all__ = ["CompletedCall", "Outcome", "SidecallError", "__version__", "run"]

_HOMES = {
    "CompletedCall": "sidecall.client.api",
    "Outcome": "sidecall.outcome",
    "SidecallError": "sidecall.errors",
    "run": "sidecall.client.api",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use: the command line, which uses none, starts faster."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
