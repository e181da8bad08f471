"""`--env` and `--env-file`, as `docker exec` takes them; native/client/variables.c does the same.

A NAME alone passes on the current value; one that is not set is left out. Source: docker/cli, opts/file.go.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sidecall import texts
from sidecall.errors import UsageError
from sidecall.protocol.messages import CALL_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SPACE = b" \t\v\f\r"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def variables(files: Sequence[str], given: Sequence[str]) -> tuple[bytes, ...]:
    """Return NAME=VALUE entries of some files, and of what is given one by one, which comes later and so counts.

    Raises:
        UsageError: one is malformed, or a file cannot be read.
    """
    found = [entry for file in files for entry in _variables_in(file)]
    for entry in map(os.fsencode, given):
        if not entry or entry.startswith(b"="):
            raise UsageError(*texts.VARIABLE_INVALID(given=texts.quoted(os.fsdecode(entry))))
        found.append(entry)
    return tuple(entry for each in found for entry in _with_value(each))


def _variables_in(file: str) -> Iterator[bytes]:
    for number, line in enumerate(_content(file).removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1):
        entry = line.lstrip(_SPACE).removesuffix(b"\r")
        if not entry or entry.startswith(b"#"):
            continue
        name = entry.partition(b"=")[0]
        if not name or any(byte in _SPACE for byte in name) or b"\0" in entry:
            raise UsageError(*texts.ENV_FILE_INVALID(line=number, file=file))
        yield entry


def _content(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            content = opened.read(CALL_LIMIT + 1)
    except OSError as error:
        raise UsageError(*texts.ENV_FILE_UNREADABLE(file=file, error=error.strerror)) from error
    if len(content) > CALL_LIMIT:
        raise UsageError(*texts.ENV_FILE_TOO_LONG(file=file, limit=CALL_LIMIT))
    return content


def _with_value(entry: bytes) -> Iterator[bytes]:
    if b"=" in entry:
        yield entry
    elif (value := os.environb.get(entry)) is not None:
        yield entry + b"=" + value
