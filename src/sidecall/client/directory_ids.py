"""What a caller tells of the directories that its paths lead through, so that the service can find them at its own place.

On the exec path: it imports nothing but `os`.
"""

from __future__ import annotations

import os
import stat

_MOST_WORDS = 64
_MOST_DIRS = 128


def directory_ids(base: bytes, words: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return `DEVICE:INODE:PATH` for each directory that a working directory and the paths among some words lead through.

    Args:
        base: the working directory, which relative words are relative to.
        words: what may be paths; of `--name=value` only the value may be one.
    """
    found: dict[bytes, bytes] = {}
    for word in (b"", *words[:_MOST_WORDS]):
        value = word.partition(b"=")[2] if word.startswith(b"-") else word
        path = os.path.join(base, value).rstrip(b"/") or b"/"
        while path not in found and len(found) < _MOST_DIRS:
            found[path] = _entry(path)
            path = os.path.dirname(path)
    return tuple(entry for entry in found.values() if entry)


def _entry(path: bytes) -> bytes:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return b""
    return b"%d:%d:%s" % (status.st_dev, status.st_ino, path) if stat.S_ISDIR(status.st_mode) else b""
