"""The engine, the image and the containers that the container tests share."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containers.pod import Container, Engine, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
REPO = HERE.parent.parent


def required() -> bool:
    """Say whether these tests may not be skipped: SIDECALL_TEST_REQUIRE holds `containers` or `all`."""
    words = os.environ.get("SIDECALL_TEST_REQUIRE", "").replace(",", " ").split()
    return "containers" in words or "all" in words


def give_up(reason: str) -> None:
    """Skip with the reason, or fail with it where containers are required."""
    if required():
        pytest.fail(reason)
    pytest.skip(reason)


def exports(text: str) -> dict[str, str]:
    """Read the `export NAME=VALUE` lines of tools/containers.sh."""
    words = (shlex.split(line)[1].partition("=") for line in text.splitlines())
    return {name: value for name, _, value in words}


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Return a working engine; skip (or fail) with the set-up's own sentence where there is none."""
    if not required() and not (shutil.which("podman") or shutil.which("docker")):
        give_up("neither podman nor docker is installed: tools/containers.sh setup")
    setup = subprocess.run([REPO / "tools" / "containers.sh", "setup"], capture_output=True, text=True, check=False)
    if setup.returncode != 0:
        give_up(setup.stderr.strip())
    found = exports(setup.stdout)
    flags = tuple(shlex.split(found["BUILD_FLAGS"]))
    return Engine(found["ENGINE"], {**os.environ, **found}, flags)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel under test: the one SIDECALL_TEST_WHEEL names, or one built from this tree."""
    if given := os.environ.get("SIDECALL_TEST_WHEEL"):
        return Path(given)
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, REPO],
        check=True,
    )
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="session")
def image(engine: Engine, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image with the wheel installed; it stays afterwards, as the next build's cache."""
    context = tmp_path_factory.mktemp("context")
    shutil.copy(wheel, context)
    dockerfile = ("--file", str(HERE / "Dockerfile"))
    name = "sidecall-test"
    engine.must("build", *engine.build_flags, "--tag", name, *dockerfile, str(context), seconds=500)
    return name


@pytest.fixture
def pod(engine: Engine, image: str, tmp_path: Path) -> Iterator[Pod]:
    """Give a test a volume and containers of its own."""
    with Pod(engine, image, tmp_path) as pod:
        yield pod


@pytest.fixture(scope="module")
def caller(engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """Give the tests that break nothing one caller beside `tool`, which has more slots than they use."""
    with Pod(engine, image, tmp_path_factory.mktemp("pod")) as pod:
        pod.service("tool", "--slots", "8")
        yield pod.caller()
