"""The example of a web application: real FastAPI and ffmpeg, through the page's own requests."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from conftest import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "web"

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("parts")]


@pytest.fixture(scope="module")
def parts() -> None:
    """Skip without FastAPI or ffmpeg; fail where all is required."""
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    missing += [] if shutil.which("ffmpeg") else ["ffmpeg"]
    if missing and "all" in os.environ.get("SIDECALL_TEST_REQUIRE", ""):
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


class Connection(http.client.HTTPConnection):
    """An HTTP connection over the application's socket, closed with what it returned."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket in place of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Web:
    """The running application, as the page uses it.

    Attributes:
        files: the directory of its jobs.
    """

    def __init__(self, path: Path, files: Path) -> None:
        self._path = path
        self.files = files

    def listens(self) -> bool:
        """Tell whether the application accepts connections by now."""
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(self._path)) == 0

    def request(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        with Connection(self._path) as connection:
            connection.request(method, target, body)
            response = connection.getresponse()
            return response.status, response.read()

    def convert(self, video: bytes) -> str:
        """Upload a video; return the job's name."""
        status, body = self.request("POST", "/jobs", video)
        assert status == 201, body
        return str(json.loads(body)["name"])

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a job as they come, up to its end."""
        with Connection(self._path) as connection:
            connection.request("GET", f"/jobs/{name}/events")
            response = connection.getresponse()
            while line := response.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

    def end(self, name: str) -> dict[str, Any]:
        """Wait for the end of a job; return its last event."""
        return list(self.events(name))[-1]


@pytest.fixture(scope="module")
def short_video(base: Path) -> bytes:
    """Return a video that is converted at once."""
    path = base / "short.mkv"
    source = "testsrc=duration=2:size=64x48:rate=10"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "mpeg4", path], check=True)
    return path.read_bytes()


@pytest.fixture(scope="module")
def long_video(base: Path, short_video: bytes) -> bytes:
    """Return a video that takes a minute to convert: an hour."""
    path = base / "long.mkv"
    repeated = ["-stream_loop", "1799", "-i", str(base / "short.mkv"), "-c", "copy", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *repeated], check=True)
    return path.read_bytes()


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """Return the directory of the sockets, and of the volume `files`."""
    with tempfile.TemporaryDirectory(prefix="sidecall-test-") as name:
        (Path(name) / "files").mkdir()
        yield Path(name)


@pytest.fixture
def server(base: Path) -> Iterator[Server]:
    """Return the tool's service, for the user of this test instead of the container's."""
    config = (EXAMPLE / "ffmpeg.toml").read_text()
    assert config.count("[1000]") == 1
    (base / "ffmpeg.toml").write_text(config.replace("[1000]", f"[{os.geteuid()}]"))
    server = Server(("-v", "--config", str(base / "ffmpeg.toml"), "--volume", f"files={base}/files"), base)
    yield server
    server.stop()


@contextlib.contextmanager
def application(base: Path, name: str) -> Iterator[Web]:
    """Run the application; nothing of its jobs is left after it."""
    path, log, files = base / name, base / f"{name}.log", base / "files" / name
    files.mkdir()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLE), "--uds", str(path), "app:app"]
    command += ["--timeout-graceful-shutdown", "60"]  # until it has noticed that the tests' connections are closed
    environ = {**os.environ, "SIDECALL_DIR": str(base), "WEB_FILES": str(files)}
    with log.open("wb") as output, subprocess.Popen(command, env=environ, stdout=output, stderr=output) as process:
        try:
            web = Web(path, files)
            while not web.listens():
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)  # uvicorn does not announce that it listens
            yield web
        finally:
            process.terminate()
    assert list(files.iterdir()) == []
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def web(base: Path) -> Iterator[Web]:
    """Return the running application."""
    with application(base, "web") as web:
        yield web


@pytest.mark.usefixtures("server")
def test_a_video_is_converted(web: Web, short_video: bytes) -> None:
    """The progress only grows, and the result is what was asked for."""
    name = web.convert(short_video)
    events = list(web.events(name))
    assert {event["state"] for event in events[:-1]} == {"running"}
    assert events[-1] == {"state": "done", "progress": 1.0, "reason": ""}
    progress = [event["progress"] for event in events]
    assert progress == sorted(progress)
    status, body = web.request("GET", f"/jobs/{name}/result")
    assert (status, body[4:8]) == (200, b"ftyp")
    assert web.request("DELETE", f"/jobs/{name}")[0] == 204
    assert web.request("GET", f"/jobs/{name}/result")[0] == 404


def test_the_progress_is_live_and_a_cancelled_job_has_ended_when_that_is_answered(
    server: Server, web: Web, long_video: bytes
) -> None:
    """No ffmpeg runs by then, and there is no part of a result."""
    name = web.convert(long_video)
    events = web.events(name)
    while not (event := next(events))["progress"]:
        assert event["state"] == "running"
    status, body = web.request("POST", f"/jobs/{name}/cancel")
    assert (status, json.loads(body)) == (200, {"state": "cancelled"})
    server.await_log("stopped=client")
    assert [path.name for path in (web.files / name).iterdir()] == ["upload"]
    assert [event["state"] for event in events][-1] == "cancelled"
    assert web.request("GET", f"/jobs/{name}/result")[0] == 409


@pytest.mark.usefixtures("server")
def test_what_is_no_video_fails_with_the_reason(web: Web) -> None:
    """The page shows what ffmpeg printed. A playlist is none: it could name other files."""
    end = web.end(web.convert(b"this is not a video\n"))
    assert end["state"] == "failed"
    assert "Invalid data found" in end["reason"]
    end = web.end(web.convert(b"ffconcat version 1.0\nfile '/etc/passwd'\n"))
    assert end["state"] == "failed"
    assert "root" not in end["reason"]


def test_without_the_service_a_job_fails_with_the_reason(web: Web) -> None:
    """The page is there all the same, and needs nothing of another site."""
    end = web.end(web.convert(b""))
    assert end["state"] == "failed"
    assert end["reason"].startswith("the socket is missing")
    status, page = web.request("GET", "/")
    assert (status, b"<title>" in page, b"//" in page) == (200, True, False)


def test_jobs_end_with_the_application(server: Server, base: Path, long_video: bytes) -> None:
    """What runs when it is stopped is terminated, and its files are removed."""
    with application(base, "other") as web:
        name = web.convert(long_video)
        assert not next(web.events(name))["progress"]
        server.await_log("command=convert")
