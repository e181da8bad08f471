"""Device and inode of the directories that a client's paths lead through: the server finds them at its mount points."""

from __future__ import annotations

import os
import stat

_MOST_ARGUMENTS = 64
_MOST_DIRECTORIES = 128


def directory_ids(base: bytes, arguments: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return `DEVICE:INODE:PATH` for each directory that a working directory and some paths lead through.

    Args:
        base: the working directory, which relative paths are relative to.
        arguments: what can be paths; of `--name=value` only the value can be one.
    """
    found: dict[bytes, bytes] = {}
    for argument in (b"", *arguments[:_MOST_ARGUMENTS]):
        value = argument.partition(b"=")[2] if argument.startswith(b"-") else argument
        path = os.path.join(base, value)
        if not path.startswith(b"/"):
            continue  # relative, in a working directory that has been removed
        path = path.rstrip(b"/") or b"/"
        while path not in found and len(found) < _MOST_DIRECTORIES:
            found[path] = _entry(path)
            path = os.path.dirname(path)
    return tuple(entry for entry in found.values() if entry)


def _entry(path: bytes) -> bytes:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return b""
    return b"%d:%d:%s" % (status.st_dev, status.st_ino, path) if stat.S_ISDIR(status.st_mode) else b""
