"""Write native/tables.h: what the native client shares with the Python one, from the tables of the Python one.

usage: python tools/tables.py [--check]
  --check   write nothing; fail if the file is not up to date

Run it with Python 3.11 or newer, with `src` on PYTHONPATH. Only native/client includes the file.
"""

from __future__ import annotations

import re
import signal
import string
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sidecall import __version__, cli, errors, outcome, texts
from sidecall.cli import connect, exec, ping  # noqa: A004 the subcommand is called so
from sidecall.cli.options import HELP, Option, Unsupported, help_text
from sidecall.protocol import messages as m
from sidecall.protocol import options, states

if TYPE_CHECKING:
    from types import ModuleType

TARGET = Path(__file__).parents[1] / "native" / "tables.h"
_LETTERS = {"u8": "1", "u16": "2", "u32": "4", "u64": "8", "string": "s", "text": "t", "strings": "l", "rest": "r"}
_COMMANDS = {"exec": exec, "connect": connect, "ping": ping}


def literal(text: str) -> str:
    """Return a string literal of C, one for each line of the text."""
    table = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
    lines = text.splitlines(keepends=True) or [""]
    return " \\\n    ".join('"' + "".join(table.get(c, c) for c in line) + '"' for line in lines)


def printf(template: str) -> str:
    """Return a template of `texts` as a format string for printf."""
    parts = []
    for before, name, conversion, _ in string.Formatter().parse(template):
        parts.append(before.replace("%", "%%"))
        if name is not None:
            parts.append("%llu" if conversion == "d" else f"%{conversion or 's'}")
    return "".join(parts)


def enum(rows: dict[str, int]) -> str:
    """Return an enumeration."""
    return "enum {\n" + "".join(f"    {name} = {value},\n" for name, value in rows.items()) + "};\n"


def constant(name: str) -> str:
    """Return a name as C writes constants: TimedOut, timed-out and timed_out are TIMED_OUT."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[^A-Za-z]+", "_", name).upper()


def numbers() -> str:
    """Return messages, limits, stream modes, ends and exit codes."""
    parts = [enum({f"MESSAGE_{constant(kind.__name__)}": number for number, kind in m.MESSAGES.items()})]
    parts.append(
        enum(
            {name: getattr(m, name) for name in ("VERSION", "MAX_DATA", "INITIAL_WINDOW", "FIRST_IGNORABLE")}
            | {name: getattr(m, name) for name in vars(m) if name.endswith("_LIMIT")}
            | {"DESCRIPTORS_LOST": errors.DESCRIPTORS_LOST}
        )
    )
    parts.append("enum mode {\n" + "".join(
        f"    MODE_{constant(name)} = {mode},\n" for mode, name in m.STREAM_MODES.items()) + "};\n")  # fmt: skip
    parts.append(enum({name: getattr(m, name) for name in vars(m) if name.startswith("ENDED_")}))
    parts.append(enum({name: getattr(errors, name) for name in vars(errors) if name.startswith("EXIT_")}))
    codes = ", ".join(str(error.code) for error in errors.REFUSALS)
    parts.append(f"static const uint8_t REFUSALS[] = {{{codes}}};\n")
    return "\n".join(parts)


def signals() -> str:
    """Return the signals that a SIGNAL can carry, and those of them that end a process."""
    parts = []
    for name, numbers_ in (
        ("FORWARDED", m.FORWARDED_SIGNALS),
        ("ENDING", m.ENDING_SIGNALS),
        ("NEVER_LETHAL", m.NEVER_LETHAL_SIGNALS),
    ):
        names = ", ".join(signal.Signals(number).name for number in sorted(numbers_))
        parts.append(f"static const int {name}_SIGNALS[] = {{{names}}};\n")
    checks = " && ".join(f"{signal.Signals(number).name} == {number}" for number in sorted(m.SIGNALS))
    parts.append(f'_Static_assert({checks},\n    "the protocol numbers signals as Linux does on x86 and Arm");\n')
    return "".join(parts)


def layouts() -> str:
    """Return each message's fields, and what the server's state has to be for it, and becomes.

    The client's own state follows from that: it sends nothing but HELLO, one request, and what belongs to it.
    """
    transitions = states.TRANSITIONS[states.SERVER]
    names = list(transitions)
    parts = ["enum state { " + ", ".join(f"STATE_{constant(name)}" for name in names) + " };\n"]
    parts.append("static const char *const STATE_NAMES[] = {" + ", ".join(literal(name) for name in names) + "};\n")
    rows = []
    for number, kind in m.MESSAGES.items():
        moves = {name: moves[kind] for name, moves in transitions.items() if kind in moves}
        after = ", ".join(f"[STATE_{constant(name)}] = 1 + STATE_{constant(to)}" for name, to in moves.items())
        fields = "".join(_LETTERS[field] for field, _ in kind.layout)
        rows.append(f'    [{number}] = {{"{kind.__name__}", {kind.limit}, "{fields}", {{{after or "0"}}}}},\n')
    parts.append(
        "\n/* `fields`: 1, 2, 4, 8 a number of so many bytes, s string, t text, l strings, r the rest; `after`: the\n"
        " * server's state after it, plus 1, by its state before; 0 if it cannot be sent then. */\n"
        "static const struct layout {\n    const char *name;\n    uint32_t limit;\n    const char *fields;\n"
        f"    uint8_t after[{len(names)}];\n}} LAYOUTS[] = {{\n{''.join(rows)}}};\n"
    )
    return "".join(parts)


def words() -> str:
    """Return the names of features, those in NAME=VALUE entries, and those of outcomes."""
    rows = {f"FEATURE_{constant(name.decode())}": name.decode() for name in sorted(m.FEATURES)}
    rows |= {f"OPTION_{constant(name.decode())}": name.decode() for name in options.CALL_OPTIONS}
    for entries in (options.EXIT_DETAILS, options.PONG_DETAILS):
        rows |= {f"DETAIL_{constant(name.decode())}": name.decode() for name in entries}
    kinds = ("EXITED", "SIGNALED", "TIMED_OUT", "OUTPUT_FAILED", "REFUSED", "LOST", "DETACHED")
    rows |= {f"OUTCOME_{kind}": getattr(outcome, kind) for kind in kinds}
    stopped = ", ".join(literal(name) for name in options.STOPPED_BY)
    return (
        "".join(f"#define {name} {literal(value)}\n" for name, value in rows.items())
        + f"\nstatic const char *const STOPPED_BY[] = {{{stopped}}};\n"
    )


def command(name: str, module: ModuleType) -> str:
    """Return a subcommand's option table, and its help."""
    prefix = constant(name)
    given: tuple[Option, ...] = (*module.OPTIONS, HELP)
    keys = ", ".join(f"{prefix}_OPTION_{constant(option.key)}" for option in given)
    rows = "".join(
        f'    {{"{spelling}", {value}, {prefix}_OPTION_{constant(option.key)}, NULL}},\n'
        for option in given
        for value in [literal(option.value) if option.value else "NULL"]
        for spelling in option.names.split(", ")
    )
    unsupported: tuple[Unsupported, ...] = getattr(module, "UNSUPPORTED", ())
    rows += "".join(
        f'    {{"{spelling}", {literal(option.why)}, UNSUPPORTED, {literal(option.instead)}}},\n'
        for option in unsupported
        for spelling in option.names.split(", ")
    )
    return (
        f"enum {{ {keys} }};\n"
        f"#define {prefix}_OPTIONS \\\n    "
        + rows.strip().replace("\n", " \\\n")
        + f"\n#define {prefix}_USAGE {literal(module.USAGE)}\n"
        f"#define {prefix}_HELP \\\n    {literal(help_text(module.USAGE, module.ABOUT, module.OPTIONS))}\n"
    )


def sentences() -> str:
    """Return the sentences with their hints."""
    rows = []
    for name, text in vars(texts).items():
        if isinstance(text, texts.Text):
            rows.append(f"#define {name}_TEXT {literal(printf(text.reason))}\n")
            if text.hint:
                rows.append(f"#define {name}_HINT {literal(printf(text.hint))}\n")
    return "".join(rows)


def header() -> str:
    """Return the whole file."""
    parts = [
        "/* Made by tools/tables.py from the tables of the Python client. Do not edit: `python tools/tables.py`. */\n",
        "#ifndef TABLES_H\n#define TABLES_H\n",
        "#include <signal.h>\n#include <stddef.h>\n#include <stdint.h>\n",
        f"#define SOFTWARE_VERSION {literal(__version__)}\n",
        numbers(),
        signals(),
        layouts(),
        words(),
        *(command(name, module) for name, module in _COMMANDS.items()),
        f"#define MAIN_HELP \\\n    {literal(cli.USAGE)}\n",
        sentences(),
        "#endif\n",
    ]
    return "\n".join(parts)


def main() -> int:
    """Write the file, or compare it."""
    text = header()
    if "--check" not in sys.argv:
        TARGET.write_text(text)
    elif not TARGET.exists() or TARGET.read_text() != text:
        print(f"{TARGET.name} is not up to date: run `python tools/tables.py`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
