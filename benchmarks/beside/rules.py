"""What the rules cost: calls of any command beside declared ones that are checked, audited and put into place."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from beside.programs import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable

    from beside.place import Place
    from beside.programs import Programs
    from beside.results import Case

TABLE = "what the rules cost"
ANY = "any command"
POLICY = """
[service]
name = "policy"
audit = "{directory}/audit"

[volumes.data]
path = "{directory}"
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
parameters.output = {{ type = "path", access = "write", atomic = true }}
"""


def rules_cases(place: Place, programs: Programs) -> dict[Case, Callable[[], float]]:
    """Start a service with rules; return calls of the library, of any command and of declared ones."""
    directory = place.directory
    Path(directory, "policy.toml").write_text(POLICY.format(directory=directory))
    image, output = f"{directory}/image", f"{directory}/output"
    Path(image).write_bytes(b"picture")
    place.serve(*programs.servers[FIRST], "serve", "--config", f"{directory}/policy.toml")
    place.ask("command", [programs.command, "ping", "--quiet", "--connect-timeout", "20", "policy"])
    calls = {
        ANY: ("bench", ["true"]),
        "declared, audited": ("policy", ["plain"]),
        "a file and a number": ("policy", ["checked", "--image", image, "--level", "3"]),
        "any command: cp": ("bench", ["cp", image, output]),
        "cp of a file, replaced": ("policy", ["replaced", "--image", image, "--output", output]),
    }
    return {(TABLE, name): partial(place.ask, "library", *call) for name, call in calls.items()}
