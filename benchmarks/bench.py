"""How long a call takes beside what people use today, in one run: medians, and ratios to a local spawn.

`make bench` prints a table. What is not installed is left out and said so. Nothing here is a test.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sidecall

if TYPE_CHECKING:
    from collections.abc import Callable

SIDECALL = str(Path(sys.executable).parent / "sidecall")
ROUNDS = 100
POLICY = """
[service]
name = "policy"
audit = "{folder}/audit"

[volumes.data]
path = "{folder}"
access = "write"

[commands.plain]
argv = ["true"]

[commands.checked]
argv = ["true", "{{image}}", "{{level}}"]
parameters.image = {{ type = "path" }}
parameters.level = {{ type = "int", min = 1, max = 9 }}

[commands.replaced]
argv = ["cp", "{{image}}", "{{output}}"]
parameters.image = {{ type = "path" }}
parameters.output = {{ type = "path", access = "write", replace = true }}
"""
MEBIBYTES = 1024
CROWD = 300


def command(*words: str) -> Callable[[], object]:
    """Return a function that runs a command to its end."""
    return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def serve(stack: ExitStack, *words: str) -> None:
    """Run a server until the stack ends, and return once it listens."""
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    stack.callback(server.wait)
    stack.callback(server.terminate)


def latency_cases(stack: ExitStack, folder: str) -> dict[str, Callable[[], object]]:
    """Return each way of running `true`, its server started."""
    serve(stack, SIDECALL, "serve", "--allow-any", "bench", "--slots", "64")
    subprocess.run([SIDECALL, "ping", "--wait", "10", "--quiet", "bench"], check=True)
    cases = {
        "local spawn": command("true"),
        "python3 -I -S -c pass": command(sys.executable, "-I", "-S", "-c", "pass"),
        "sidecall exec": command(SIDECALL, "exec", "-q", "bench", "true"),
        "sidecall exec --relay": command(SIDECALL, "exec", "-q", "--relay", "bench", "true"),
        "sidecall.run (library)": lambda: sidecall.run("bench", ["true"], check=True),
    }
    return cases | peer_cases(stack, folder)


def peer_cases(stack: ExitStack, folder: str) -> dict[str, Callable[[], object]]:
    """Return the same in other programs' ways; what is not installed is left out, and said so."""
    cases: dict[str, Callable[[], object]] = {}
    if found("s6-sudo", "s6-ipcserver", "s6-sudod"):
        path = f"{folder}/s6.sock"
        serve(stack, "s6-ipcserver", "-c", "1000", path, "s6-sudod", "true")
        cases["s6-sudo"] = command("s6-sudo", path)
        await_socket(path)
    if found("socat"):
        path = f"{folder}/socat.sock"
        serve(stack, "socat", f"UNIX-LISTEN:{path},fork,backlog=128", "EXEC:true")
        cases["socat"] = command("socat", "-t5", "-", f"UNIX-CONNECT:{path}")
        script = f"coproc S {{ socat - UNIX-CONNECT:{path}; }}; echo START >&${{S[1]}}; cat <&${{S[0]}}; wait"
        cases["bash around socat"] = command("bash", "-c", script)
        await_socket(path)
    return cases


def found(*programs: str) -> bool:
    """Tell whether all of some programs are installed."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        print(f"left out, not installed: {', '.join(missing)}")
    return not missing


def await_socket(path: str) -> None:
    """Wait until a server has made its socket."""
    while not os.path.exists(path):
        time.sleep(0.01)


def policy_cases(stack: ExitStack, folder: str) -> dict[str, Callable[[], object]]:
    """Return calls of the library, of any command and of declared ones, with files and without."""
    Path(folder, "policy.toml").write_text(POLICY.format(folder=folder))
    image, output = f"{folder}/image", f"{folder}/output"
    Path(image).write_bytes(b"picture")
    serve(stack, SIDECALL, "serve", "--config", f"{folder}/policy.toml")
    subprocess.run([SIDECALL, "ping", "--wait", "10", "--quiet", "policy"], check=True)
    calls = {
        "any command": ("bench", ["true"]),
        "declared, audited": ("policy", ["plain"]),
        "a file and a number": ("policy", ["checked", "--image", image, "--level", "3"]),
        "any command: cp": ("bench", ["cp", image, output]),
        "cp of a file, replaced": ("policy", ["replaced", "--image", image, "--output", output]),
    }
    return {name: partial(sidecall.run, *words, check=True) for name, words in calls.items()}


def medians(cases: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Time each case `ROUNDS` times, in turns, so that a noisy moment hits every one; return medians in seconds."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, action in cases.items():
            times[name].append(seconds(action))
    return {name: statistics.median(taken) for name, taken in times.items()}


def crowd(cases: dict[str, Callable[[], object]]) -> None:
    """Print how many calls a second each case makes, by the number of its callers."""
    print(f"\n{'calls a second, by callers':<28}{'1':>8}{'16':>8}{'64':>8}")
    for name, action in cases.items():
        rates = []
        for callers in (1, 16, 64):
            with ThreadPoolExecutor(callers) as pool:
                rates.append(CROWD / seconds(lambda: list(pool.map(lambda _: action(), range(CROWD)))))  # noqa: B023
        print(f"{name:<28}" + "".join(f"{rate:8.0f}" for rate in rates))


def throughput(case: str, *words: str) -> None:
    """Print how fast a command copies zeros from stdin to stdout."""
    source = f"head -c {MEBIBYTES}M /dev/zero | {' '.join(words)} > /dev/null"
    took = seconds(lambda: subprocess.run(["bash", "-o", "pipefail", "-c", source], check=True))
    print(f"{case:<26}{MEBIBYTES / took:8.0f} MiB/s")


def main() -> None:
    """Print the tables."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["SIDECALL_DIR"] = folder
        cases = latency_cases(stack, folder)
        taken = medians(cases)
        print(f"running `true`, median of {ROUNDS}")
        for name, median in taken.items():
            print(f"{name:<26}{median * 1000:8.2f} ms   {median / taken['local spawn']:5.1f} local spawns")
        crowd({name: action for name, action in cases.items() if name.startswith(("local", "sidecall", "s6", "socat"))})
        taken = medians(policy_cases(stack, folder))
        print(f"\nwhat the rules cost: calls of the library, median of {ROUNDS}")
        for name, median in taken.items():
            print(f"{name:<26}{median * 1000:8.2f} ms   {median / taken['any command']:5.2f}")
        print(f"\n{MEBIBYTES} MiB through `cat`")
        throughput("local pipe", "cat")
        throughput("sidecall exec", SIDECALL, "exec", "bench", "cat")
        throughput("sidecall exec --relay", SIDECALL, "exec", "--relay", "bench", "cat")
        if found("socat"):
            path = f"{folder}/cat.sock"
            serve(stack, "socat", f"UNIX-LISTEN:{path},fork", "EXEC:cat")
            await_socket(path)
            throughput("socat", "socat", "-t5", "-", f"UNIX-CONNECT:{path}")


if __name__ == "__main__":
    main()
