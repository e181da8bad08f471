"""The process attributes of prctl(2) that the standard library does not offer. Nothing here knows why they are set."""

from __future__ import annotations

from sidecall._kernel import prctl

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Make this process the parent of every descendant whose own parent ends, as pid 1 is.

    It is not inherited, and cannot be escaped: neither a double fork nor a new session leaves the subreaper.
    Source: PR_SET_CHILD_SUBREAPER(2const).

    Raises:
        OSError: the kernel refuses.
    """
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent, by now, ends. Source: PR_SET_PDEATHSIG(2const).

    Raises:
        OSError: the kernel refuses.
    """
    prctl(_PR_SET_PDEATHSIG, number)


def disable_core_dumps() -> None:
    """Have this process leave no core dump: RLIMIT_CORE does not bind a core_pattern that is a pipe. Source: core(5).

    Raises:
        OSError: the kernel refuses.
    """
    prctl(_PR_SET_DUMPABLE, 0)


def set_name(name: str) -> None:
    """Set the name, of up to 15 bytes, that ps(1) shows for this process. Source: PR_SET_NAME(2const)."""
    prctl(_PR_SET_NAME, name.encode())
