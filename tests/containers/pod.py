"""Containers for the tests: start them around one shared volume, run commands in them, leave nothing behind.

Knows podman and docker by their common command line; what is asserted about sidecall stands in the tests.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROGRAMS = Path(__file__).parent / "programs"
_numbers = itertools.count()


@dataclass(frozen=True)
class Engine:
    """A container engine that works.

    Args:
        name: `podman` or `docker`.
        environment: what it has to run with.
        build_flags: flags for a build that fetches packages.
    """

    name: str
    environment: dict[str, str]
    build_flags: tuple[str, ...]

    def __call__(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one engine command to its end, at most `seconds`, and return what it said."""
        return subprocess.run(
            [self.name, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def must(self, *arguments: str, seconds: float = 60) -> str:
        """Run one engine command that has to succeed and return its stdout."""
        done = self(*arguments, seconds=seconds)
        assert done.returncode == 0, f"{self.name} {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def remove(self, *containers: str) -> None:
        """Remove containers at once, running or not."""
        at_once = ("--time", "0") if self.name == "podman" else ()
        self.must("rm", "--force", *at_once, "--volumes", *containers)


@dataclass(frozen=True)
class Container:
    """A started container."""

    engine: Engine
    name: str

    def exec(self, *argv: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in the container to its end; return its status, stdout and stderr.

        An engine's own failures share the numbers 125 to 127 with sidecall: where those matter, let a shell
        in the container print the status.
        """
        return self.engine("exec", self.name, *argv, seconds=seconds)

    def popen(self, *argv: str) -> subprocess.Popen[str]:
        """Start a command in the container with its stdout and stderr on pipes."""
        return subprocess.Popen(
            [self.engine.name, "exec", self.name, *argv],
            env=self.engine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        """Kill every process of the container, as a host's power switch would."""
        self.engine.must("kill", "--signal", "KILL", self.name)

    def logs(self) -> str:
        """Return what the container's main process has written."""
        done = self.engine("logs", self.name)
        return done.stdout + done.stderr


class Pod:
    """Containers around one volume, as compose would start them, all gone at the end of the `with` block.

    Every container sees `ipc` at /run/sidecall, `shared` at /shared and the programs of these tests,
    read-only, at /programs. None has a network.
    """

    def __init__(self, engine: Engine, image: str, directory: Path) -> None:
        self.engine = engine
        self.image = image
        self.ipc = directory / "ipc"
        self.shared = directory / "shared"
        for part in (self.ipc, self.shared):
            part.mkdir()
        self._names: list[str] = []

    def start(self, *command: str) -> Container:
        """Start a container whose main process is `command`."""
        mounts = (f"{self.ipc}:/run/sidecall", f"{self.shared}:/shared")
        volumes = [word for mount in mounts for word in ("--volume", mount)]
        return self.start_with([*volumes, *self.programs_mount()], *command)

    def programs_mount(self) -> tuple[str, str]:
        """Return the options that mount the programs of these tests."""
        return "--volume", f"{PROGRAMS}:/programs:ro"

    def start_with(self, options: list[str], *command: str) -> Container:
        """Start a container with these options of the engine's in place of the usual volumes."""
        name = f"sidecall-test-{os.getpid()}-{next(_numbers)}"
        self._names.append(name)
        self.engine.must("run", "--detach", "--network=none", "--name", name, *options, self.image, *command)
        return Container(self.engine, name)

    def service(self, name: str, *options: str) -> Container:
        """Start a container that offers any command under `name`; return once it answers."""
        container = self.start("sidecall", "serve", "--allow-any", name, *options)
        ping = container.exec("sidecall", "ping", "--connect-timeout", "20", name)
        assert ping.returncode == 0, f"no service: {ping.stderr}\n{container.logs()}"
        return container

    def caller(self) -> Container:
        """Start a container that waits to be told what to call."""
        return self.start("sleep", "infinity")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._names:
            self.engine.remove(*self._names)


class Compose:
    """The containers of a compose file, started as a user would, all gone at the end of the `with` block.

    Args:
        directory: has the file, and what it mounts.
    """

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.directory = directory
        self.name = f"sidecall-test-{os.getpid()}-{next(_numbers)}"
        self._command = [*engine.environment["COMPOSE"].split(), "-p", self.name]
        if engine.name == "podman":  # which otherwise adds a /tmp to a read-only container
            self._command.append("--podman-run-args=--read-only-tmpfs=false")

    def __enter__(self) -> Self:
        try:
            self._run("up", "-d")
        except BaseException:
            self._run("down", "--volumes", "--timeout", "1")
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._run("down", "--volumes", "--timeout", "1")

    def id(self, service: str) -> str:
        """Return the container of a service."""
        labels = {"project": self.name, "service": service}
        filters = [f"--filter=label=com.docker.compose.{label}={value}" for label, value in labels.items()]
        return self.engine.must("ps", "--all", "--quiet", *filters).strip()

    def exec(self, service: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container of a service."""
        return self.engine("exec", self.id(service), *argv)

    def must(self, service: str, *argv: str) -> str:
        """Run a command that has to succeed; return its stdout."""
        done = self.exec(service, *argv)
        assert done.returncode == 0, done.stderr + self.engine("logs", self.id("tool")).stderr
        return done.stdout

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            [*self._command, *words],
            cwd=self.directory,
            env=self.engine.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
