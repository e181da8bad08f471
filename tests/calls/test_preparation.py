"""What a call needs before its command starts is made once it has a slot, and removed with it."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sidecall.calls.preparation import check, prepare, shared_directory
from sidecall.errors import CallDenied
from sidecall.files.scratch import Scratch
from sidecall.files.volumes import Volume
from sidecall.policy.config import Command, Service
from sidecall.policy.parameters import Parameter
from sidecall.policy.plan import NO_OPTIONS
from sidecall.policy.template import parse_group
from sidecall.protocol.messages import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecall.calls.preparation import Prepared


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scratch]:
    """Return the directories of a server; nothing of them is left after the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "data").mkdir()
    scratch = Scratch()
    yield scratch
    scratch.close()
    assert os.listdir(tmp_path / "tmp") == []
    assert all(not name.startswith(".sidecall") for name in os.listdir(tmp_path / "data"))


def service(tmp_path: Path) -> Service:
    """Return a service with a command that takes a file and has a directory of its own."""
    command = Command(
        "c",
        (parse_group("prog"), parse_group("{in}"), parse_group("{scratch}")),
        parameters={"in": Parameter("in", "path")},
        scratch=True,
    )
    return Service("s", {"c": command}, volumes=(Volume("data", str(tmp_path / "data")),))


def call(path: Path) -> Call:
    """Return a CALL that names a file."""
    return Call(b"c", (b"--in", bytes(path)), (), b"", b"/", (), (), 0, 0, 0)


def named(path: Path, directory_ids: tuple[bytes, ...]) -> Call:
    """Return a CALL of a client that is in a directory."""
    return Call(b"c", (), (), b"", bytes(path), directory_ids, (), 0, 0, 0)


def test_the_directory_of_a_client(tmp_path: Path) -> None:
    """It is found if it is the same one here; the server's own needs no name."""
    status, own = tmp_path.stat(), os.stat(".")
    here = b"%d:%d:%s" % (status.st_dev, status.st_ino, bytes(tmp_path))
    elsewhere = b"%d:%d:/elsewhere" % (own.st_dev, own.st_ino)
    assert asyncio.run(shared_directory(named(tmp_path, (here,)))) == bytes(tmp_path)
    assert asyncio.run(shared_directory(named(Path("/elsewhere"), (elsewhere,)))) == b""
    assert asyncio.run(shared_directory(named(tmp_path, (b"1:1:%s" % bytes(tmp_path),)))) is None
    assert asyncio.run(shared_directory(named(tmp_path / "missing", (here,)))) is None
    assert asyncio.run(shared_directory(named(tmp_path, (b"1:1:/missing",)))) is None


def test_a_directory_that_does_not_answer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call goes on without it."""
    answers = threading.Event()
    monkeypatch.setattr("sidecall.calls.preparation._LOOK_TIME", 0.01)
    monkeypatch.setattr("sidecall.calls.preparation._is_directory", lambda *_: answers.wait())
    assert asyncio.run(shared_directory(named(tmp_path, (b"1:1:%s" % bytes(tmp_path),)))) is None
    answers.set()


async def _removed(prepared: Prepared) -> None:
    await prepared.remove()


def test_what_is_made_is_removed(tmp_path: Path, scratch: Scratch) -> None:
    """The link to the file, and the scratch directory with all that the command has left in it."""
    (tmp_path / "data" / "file").write_text("content")
    prepared = prepare(service(tmp_path), call(tmp_path / "data" / "file"), NO_OPTIONS, "a-1", scratch)
    _, link, own = prepared.plan.argv
    with open(link) as file:
        assert file.read() == "content"
    with open(os.path.join(own, b"left"), "w") as file:
        file.write("x")
    assert prepared.plan.environ[b"SIDECALL_CALL"] == b"a-1"
    asyncio.run(_removed(prepared))
    assert not os.path.lexists(link)
    assert not os.path.exists(own)


def test_a_refused_call_leaves_nothing(tmp_path: Path, scratch: Scratch) -> None:
    """Neither before the queue, where nothing is made, nor after it."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with pytest.raises(CallDenied):
            check(service(tmp_path), call(tmp_path / "secret"), NO_OPTIONS)
        assert os.listdir(tmp_path / "tmp") == []
    with pytest.raises(CallDenied):
        prepare(service(tmp_path), call(tmp_path / "secret"), NO_OPTIONS, "a-1", scratch)
    (own,) = (tmp_path / "tmp").iterdir()
    assert list(own.iterdir()) == []
    scratch.close()
    assert len(os.listdir("/proc/self/fd")) == before
