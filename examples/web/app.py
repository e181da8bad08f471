"""A page that converts an uploaded video, by ffmpeg in another container, with live progress and a button to cancel.

The upload and the result are files on a volume that both containers have. The progress is ffmpeg's stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse

import sidecall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FILES = Path(os.environ.get("WEB_FILES", "/work"))
MAX_UPLOAD = 1 << 30
"""Bytes."""


class Job:
    """One conversion. Its directory is removed with it.

    Attributes:
        state: `running`, `done`, `failed` or `cancelled`.
        progress: how much is done, from 0 to 1.
        reason: why it failed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state, self.progress, self.reason = "running", 0.0, ""
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    @property
    def upload(self) -> Path:
        """The file that was uploaded."""
        return self.directory / "upload"

    @property
    def result(self) -> Path:
        """The file that is made; it does not exist before it is complete."""
        return self.directory / "result.mp4"

    async def _run(self) -> None:
        try:
            await self._convert(await self._duration())
            self._set(state="done", progress=1.0)
        except asyncio.CancelledError:  # sidecall has terminated ffmpeg by now
            self._set(state="cancelled")
        except sidecall.CallFailed as error:  # ffmpeg ran, and printed why it failed
            self._set(state="failed", reason=(error.completed.stderr or b"").decode(errors="replace") or error.reason)
        except sidecall.SidecallError as error:  # it did not run: the service is down or busy, or refuses the call
            self._set(state="failed", reason=f"{error.reason}. {error.hint}")

    async def _duration(self) -> float:
        """Return the length of the video in seconds."""
        done = await sidecall.run_async(
            "ffmpeg",
            ["duration", "--video", self.upload],
            stdin=sidecall.DEVNULL,
            capture_output=True,
            check=True,
        )
        return float(done.stdout or b"0")

    async def _convert(self, seconds: float) -> None:
        """Run ffmpeg. If this task is cancelled, ffmpeg is terminated, and no result appears."""
        read, write = os.pipe()
        following = asyncio.create_task(self._follow(read, seconds))
        try:
            await sidecall.run_async(
                "ffmpeg",
                ["convert", "--video", self.upload, "--output", self.result],
                stdin=sidecall.DEVNULL,
                stdout=write,
                stderr=sidecall.PIPE,
                check=True,
            )
        finally:
            os.close(write)  # the last writer: `following` reads the rest and ends
            await following

    async def _follow(self, read: int, seconds: float) -> None:
        """Read what `ffmpeg -progress` prints: lines such as `out_time_us=1500000`."""
        lines = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        with open(read, "rb", buffering=0) as file:
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), file)
            async for line in lines:
                name, _, value = line.decode().strip().partition("=")
                if name == "out_time_us" and value.isdigit() and seconds:
                    self._set(progress=min(int(value) / 1e6 / seconds, 1.0))

    def _set(self, *, state: str | None = None, progress: float | None = None, reason: str = "") -> None:
        self.state = state or self.state
        self.progress = self.progress if progress is None else progress
        self.reason = reason
        self._changed.set()
        self._changed = asyncio.Event()

    async def events(self) -> AsyncIterator[str]:
        """Yield what a page's EventSource reads: the state now, and after each change."""
        while True:
            changed = self._changed
            now = {"state": self.state, "progress": self.progress, "reason": self.reason}
            yield f"data: {json.dumps(now)}\n\n"
            if self.state != "running":
                return
            await changed.wait()

    async def end(self) -> None:
        """Cancel it, and remove its files once nothing writes to them."""
        self.task.cancel()
        await asyncio.wait([self.task])
        shutil.rmtree(self.directory, ignore_errors=True)


JOBS: dict[str, Job] = {}


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """End all jobs with the server."""
    yield
    await asyncio.gather(*(job.end() for job in JOBS.values()))


app = FastAPI(title="Convert a video", lifespan=lifespan)


def find(name: str) -> Job:
    """Return a job by its name."""
    if name not in JOBS:
        raise HTTPException(404, "there is no such job")
    return JOBS[name]


Found = Annotated[Job, Depends(find)]


@app.get("/")
def page() -> FileResponse:
    """Return the page."""
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/jobs", status_code=201)
async def create(request: Request) -> dict[str, str]:
    """Store the request's body, which is the video, and begin to convert it."""
    directory = Path(tempfile.mkdtemp(prefix="job-", dir=FILES))
    directory.chmod(0o2770)  # `tool` writes the result, by the group that both have
    try:
        with open(directory / "upload", "wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
                if file.tell() > MAX_UPLOAD:
                    raise HTTPException(413, "the file is too large")
    except BaseException:
        shutil.rmtree(directory)
        raise
    JOBS[directory.name] = Job(directory)
    return {"name": directory.name}


@app.get("/jobs/{name}/events")
async def events(job: Found) -> StreamingResponse:
    """Stream the progress, as server-sent events."""
    return StreamingResponse(job.events(), media_type="text/event-stream")


@app.get("/jobs/{name}/result")
def result(job: Found) -> FileResponse:
    """Return the finished video."""
    if job.state != "done":
        raise HTTPException(409, f"the job is {job.state}")
    return FileResponse(job.result, media_type="video/mp4")


@app.post("/jobs/{name}/cancel")
async def cancel(job: Found) -> dict[str, str]:
    """Cancel the job; return once ffmpeg has been terminated."""
    job.task.cancel()
    await asyncio.wait([job.task])
    return {"state": job.state}


@app.delete("/jobs/{name}", status_code=204)
async def remove(name: str, job: Found) -> None:
    """Cancel the job if it runs, and remove its files."""
    del JOBS[name]
    await job.end()
