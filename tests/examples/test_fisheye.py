"""The fisheye pipeline with real Hugin, ImageMagick and Snakemake, through the installed `sidecall` command."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "fisheye"
TOOLS = ("nona", "convert", "snakemake")
PATH = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
FRAME = (432, 216)

SMALL_FLAT = 'p f2 w288 h144 v360 n"TIFF" R0 E0\nm i0\ni f2 w432 h216 v409 r0 p0 y0 d-108 e0 S2,214,2,214 n"x.jpg"\n'
SMALL_PC = 'p f0 w200 h150 v90 n"TIFF" R0 E0\nm i0\ni f4 w288 h144 v360 r0 p-12 y34 n"x.tif"\n'

pytestmark = [pytest.mark.hugin, pytest.mark.usefixtures("tools")]


@pytest.fixture(scope="session")
def tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)}"
    if {"hugin", "all"} & set(os.environ.get("SIDECALL_TEST_REQUIRE", "").replace(",", " ").split()):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return the variables of a caller; the hugin service runs meanwhile."""
    base = tmp_path_factory.mktemp("service")
    scratch = base / "scratch"
    scratch.mkdir()
    variables = {**os.environ, "PATH": PATH, "SIDECALL_DIR": str(base), "XDG_CACHE_HOME": str(base / "cache")}
    shared = tmp_path_factory.getbasetemp()
    command = ["sidecall", "serve", "--config", str(EXAMPLE / "hugin.toml"), "--volume", f"images={shared}"]
    with (
        (base / "log").open("wb") as log,
        subprocess.Popen(
            command, env={**variables, "TMPDIR": str(scratch)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        ) as server,
    ):
        try:
            run(["sidecall", "ping", "--connect-timeout", "20", "hugin"], variables, check=True)
            yield variables
        finally:
            server.terminate()
    assert list(scratch.iterdir()) == []


@pytest.fixture
def projects(tmp_path: Path) -> Path:
    """Return a directory with the projects for small frames."""
    directory = tmp_path / "projects"
    directory.mkdir()
    (directory / "flat.pto").write_text(SMALL_FLAT)
    (directory / "pc.pto").write_text(SMALL_PC)
    return directory


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Return a directory with one small frame of each kind."""
    directory = tmp_path / "frames"
    directory.mkdir()
    picture = Image.radial_gradient("L").resize(FRAME).convert("RGB")
    picture.save(directory / "one.jpg")
    picture.rotate(180).save(directory / "two.png")
    picture.rotate(90).save(directory / "three.insp", format="JPEG")
    return directory


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with one rendered frame of full size, and what has to become of it."""
    directory = tmp_path_factory.mktemp("room")
    run([sys.executable, str(EXAMPLE / "frames.py"), str(directory), "--count", "1"], dict(os.environ), check=True)
    return directory


def run(
    command: list[str], environment: dict[str, str], *, check: bool = False, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=check,
        timeout=100,
    )


def hugin(
    environment: dict[str, str], pto: Path, image: Path, output: Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    script = str(EXAMPLE / "scripts" / "hugin.sh")
    return run([script, str(pto), str(image), str(output)], environment, cwd=cwd)


def pipeline(
    environment: dict[str, str], work: Path, frames: Path, projects: Path, cores: int
) -> subprocess.CompletedProcess[str]:
    command = ["snakemake", "--snakefile", str(EXAMPLE / "Snakefile"), "--directory", str(work), "--keep-going"]
    where = [f"frames={frames}", f"projects={projects}"]
    return run([*command, "--cores", str(cores), "--config", *where], environment)


def pictures(work: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (work / "final").iterdir()}


def hidden(directory: Path) -> list[Path]:
    """Return what an interrupted step may have left under a temporary name."""
    return [path for path in directory.rglob(".*") if path.is_file() and ".snakemake" not in path.parts]


def test_many_cores_make_the_bytes_that_one_core_makes(
    environment: dict[str, str], tmp_path: Path, frames: Path, projects: Path
) -> None:
    """Calls at once do not disturb each other, whatever the frame's kind, and nothing depends on the time of day."""
    for cores in (1, 4):
        done = pipeline(environment, tmp_path / str(cores), frames, projects, cores)
        assert done.returncode == 0, done.stderr
    assert pictures(tmp_path / "1").keys() == {"one.png", "two.png", "three.png"}
    assert pictures(tmp_path / "1") == pictures(tmp_path / "4")
    with Image.open(tmp_path / "1" / "final" / "one.png") as final:
        assert final.size == (500, 375)


def test_corrupt_frame_harms_no_other(
    environment: dict[str, str], tmp_path: Path, frames: Path, projects: Path
) -> None:
    """The pipeline fails with Hugin's own words, makes all other pictures, and leaves no half of the bad one."""
    (frames / "bad.jpg").write_bytes(b"this is no picture\n")
    work = tmp_path / "work"
    done = pipeline(environment, work, frames, projects, 4)
    assert done.returncode != 0
    assert "did not find a matching file type" in done.stderr
    assert pictures(work).keys() == {"one.png", "two.png", "three.png"}
    assert not list(work.glob("[!l]*/bad.*"))
    assert hidden(work) == []


def test_two_frames_of_one_name_are_refused(
    environment: dict[str, str], tmp_path: Path, frames: Path, projects: Path
) -> None:
    """Frames that would overwrite each other's picture are named, and nothing runs."""
    shutil.copy(frames / "one.jpg", frames / "one.jpeg")
    done = pipeline(environment, tmp_path / "work", frames, projects, 1)
    assert done.returncode != 0
    assert "would both become final/one.png" in done.stderr


def test_missing_project(environment: dict[str, str], tmp_path: Path, frames: Path) -> None:
    """The caller hears which project is not there, before Hugin is asked."""
    done = hugin(environment, tmp_path / "nope.pto", frames / "one.jpg", tmp_path / "out.tif")
    assert done.returncode == 64
    assert f"--pto: '{tmp_path}/nope.pto': No such file or directory" in done.stderr
    assert not (tmp_path / "out.tif").exists()


def test_missing_image(environment: dict[str, str], tmp_path: Path, projects: Path) -> None:
    """The caller hears which image is not there, before Hugin is asked."""
    done = hugin(environment, projects / "flat.pto", tmp_path / "none.jpg", tmp_path / "out.tif")
    assert done.returncode == 64
    assert f"--image: '{tmp_path}/none.jpg': No such file or directory" in done.stderr


def test_what_is_no_project(environment: dict[str, str], tmp_path: Path, frames: Path) -> None:
    """Hugin's own words arrive."""
    (tmp_path / "empty.pto").touch()
    done = hugin(environment, tmp_path / "empty.pto", frames / "one.jpg", tmp_path / "out.tif")
    assert done.returncode == 1
    assert "error while parsing panos tool script: " in done.stderr
    assert not (tmp_path / "out.tif").exists()


def test_image_that_breaks_off(environment: dict[str, str], tmp_path: Path, frames: Path, projects: Path) -> None:
    """Half an image is a success to nona; the caller is told the truth."""
    whole = (frames / "one.jpg").read_bytes()
    (frames / "half.jpg").write_bytes(whole[: len(whole) // 2])
    done = hugin(environment, projects / "flat.pto", frames / "half.jpg", tmp_path / "out.tif")
    assert done.returncode == 1
    assert "Premature end of JPEG file" in done.stderr
    assert "could not read the whole of" in done.stderr
    assert not (tmp_path / "out.tif").exists()


def test_relative_paths_and_spaces(environment: dict[str, str], tmp_path: Path, frames: Path, projects: Path) -> None:
    """Paths mean what they mean to the caller, and are never split into words."""
    odd = tmp_path / "a directory; with $(odd) 'names'"
    odd.mkdir()
    shutil.copy(frames / "one.jpg", odd / "an image.jpg")
    done = hugin(environment, projects / "flat.pto", Path("an image.jpg"), Path("out put.tif"), cwd=odd)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"hugin on {os.uname().nodename}\n"
    assert sorted(path.name for path in odd.iterdir()) == ["an image.jpg", "out put.tif"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a file system of 16 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    directory = tmp_path / "disk"
    directory.mkdir()
    if run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(directory)], dict(os.environ)).returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_full_disk(environment: dict[str, str], frames: Path, projects: Path, small_disk: Path) -> None:
    """The reason arrives at the client, and the disk has neither the output nor a part of it."""
    done = hugin(environment, projects / "flat.pto", frames / "one.jpg", small_disk / "out.tif")
    assert done.returncode == 73  # it is another mount in the volume: the finished file is copied there
    assert "No space left on device" in done.stderr
    assert list(small_disk.iterdir()) == []


def test_full_disk_in_the_builder(environment: dict[str, str], frames: Path, small_disk: Path) -> None:
    """The same for the steps in the builder."""
    script = str(EXAMPLE / "scripts" / "convert.sh")
    done = run([script, str(frames / "one.jpg"), str(small_disk / "out.png"), "-resize", "500x"], environment)
    assert done.returncode != 0
    assert "WriteBlob Failed" in done.stderr  # ImageMagick does not say why
    assert list(small_disk.iterdir()) == []


def busy(environment: dict[str, str]) -> bool:
    return "0 of 4 slots in use" not in run(["sidecall", "ping", "hugin"], environment, check=True).stdout


def test_interrupted_call_leaves_nothing(environment: dict[str, str], tmp_path: Path, room: Path) -> None:
    """A caller that is stopped dies of its signal; Hugin is stopped, and no part of the output is left."""
    output = tmp_path / "out.tif"
    words = [str(EXAMPLE / "flat.pto"), str(room / "frames" / "room-1.jpg"), str(output)]
    with subprocess.Popen(
        [str(EXAMPLE / "scripts" / "hugin.sh"), *words], env=environment, stdin=subprocess.DEVNULL
    ) as caller:
        until(lambda: busy(environment))
        caller.send_signal(signal.SIGTERM)
    assert caller.returncode == -signal.SIGTERM
    until(lambda: not busy(environment))
    assert list(tmp_path.iterdir()) == []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # a service does not announce its load


def remap(environment: dict[str, str], room: Path, directory: Path, flat: Path, pc: Path) -> Path:
    """Run the four stages by hand with other projects; return the directory of the picture."""
    directory.mkdir(parents=True)
    stages = [
        (flat, room / "frames" / "room-1.jpg", directory / "flat.tif"),
        (pc, directory / "flat.tif", directory / "pc.tif"),
    ]
    for stage in stages:
        assert hugin(environment, *stage).returncode == 0
    final = directory / "final"
    final.mkdir()
    convert = [str(EXAMPLE / "scripts" / "convert.sh"), str(directory / "pc.tif"), str(final / "room-1.png")]
    run([*convert, "-resize", "500x", "-flop"], environment, check=True)
    return final


def check(final: Path, room: Path) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, str(EXAMPLE / "check.py"), str(final), str(room / "truth")], dict(os.environ))


def test_right_projection_meets_the_bounds(environment: dict[str, str], tmp_path: Path, room: Path) -> None:
    """What the projects make is the regular picture."""
    final = remap(environment, room, tmp_path / "right", EXAMPLE / "flat.pto", EXAMPLE / "pc.pto")
    done = check(final, room)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("project", "right", "wrong", "violation"),
    [
        ("flat.pto", "i f2 w6912 h3456 v408.99", "i f2 w6912 h3456 v428.99", "dB against the direct view"),
        ("pc.pto", "p f0 w1600 h1200 v90", "p f0 w1600 h1200 v91", "dB against the direct view"),
        ("pc.pto", "p f0 w1600", "p f2 w1600", "is near where it has to be"),
    ],
    ids=["the lens 5 % wider", "the view 1 degree wider", "no perspective correction"],
)
def test_wrong_projection_fails(
    environment: dict[str, str], tmp_path: Path, room: Path, project: str, right: str, wrong: str, violation: str
) -> None:
    """The bounds notice a wrong projection."""
    files = {name: EXAMPLE / name for name in ("flat.pto", "pc.pto")}
    text = files[project].read_text()
    assert right in text
    files[project] = tmp_path / project
    files[project].write_text(text.replace(right, wrong))
    done = check(remap(environment, room, tmp_path / "wrong", files["flat.pto"], files["pc.pto"]), room)
    assert done.returncode == 1
    assert violation in done.stderr
