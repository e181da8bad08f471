"""Which directories a client sends, by device and inode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sidecall.client.directory_ids import directory_ids

if TYPE_CHECKING:
    from pathlib import Path


def entry(path: bytes) -> bytes:
    """Return what is sent for a directory."""
    status = os.stat(path)
    return b"%d:%d:%s" % (status.st_dev, status.st_ino, path)


def test_a_path_is_sent_with_all_that_it_leads_through(tmp_path: Path) -> None:
    """The working directory and each directory above a path; neither files nor what does not exist."""
    base = os.fsencode(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    sent = directory_ids(base, (b"a/b/missing", b"--in=a/file", b"--flag"))
    assert {entry(base), entry(base + b"/a"), entry(base + b"/a/b"), entry(b"/")} <= set(sent)
    assert len(sent) == len({*sent}) == base.count(b"/") + 1 + 2


def test_only_so_many_are_sent(tmp_path: Path) -> None:
    """64 arguments are looked at, and 128 paths."""
    for number in range(100):
        (tmp_path / str(number) / "x" / "y").mkdir(parents=True)
    base = os.fsencode(tmp_path)
    sent = directory_ids(base, tuple(b"%d/x/y" % number for number in range(100)))
    assert len(sent) == 128
    assert not any(b"/64/" in each for each in directory_ids(base, tuple(b"%d" % number for number in range(100))))


def test_a_relative_path_without_a_working_directory_is_not_sent() -> None:
    """From a removed working directory only absolute paths lead somewhere."""
    assert directory_ids(b"", (b"usr", b"/usr", b"a\0b")) == (entry(b"/usr"), entry(b"/"))
