"""PROTOCOL.md and the code have the same messages, limits, options, details and codes."""

from __future__ import annotations

import re
from pathlib import Path

from sidecall.errors import DESCRIPTORS_LOST, REFUSALS
from sidecall.protocol import messages as m
from sidecall.protocol import options, states

PAGE = (Path(__file__).parents[2] / "PROTOCOL.md").read_text()


def test_the_page_has_every_message_with_its_fields() -> None:
    """Name, number, and type and name of each field, in order."""
    written = {}
    for name, number, fields in re.findall(r"```\n([A-Z]+) \((\d+)\)\n((?: {4}.*\n)*)```", PAGE):
        written[int(number)] = (name, tuple(tuple(line.split()) for line in fields.splitlines()))
    assert written == {number: (kind.__name__.upper(), kind.layout) for number, kind in m.MESSAGES.items()}


def test_the_page_has_every_limit() -> None:
    """Those that differ from the common one."""
    limits = {kind.__name__.upper(): kind.limit for kind in m.MESSAGES.values() if kind.limit != m.CONTROL_LIMIT}
    assert limits == {"CALL": 2 << 20, "DESCRIPTION": 1 << 20, "CALLS": 16 << 20, "DATA": (64 << 10) + 1}
    assert "CALL 2 MiB, DESCRIPTION 1 MiB, CALLS 16 MiB, DATA 64 KiB and one byte, every other message 64 KiB" in PAGE
    assert str(m.INITIAL_WINDOW) in PAGE


def test_the_page_has_every_option_and_detail() -> None:
    """And every value of `stopped`."""
    for name in (*options.CALL_OPTIONS, *options.EXIT_DETAILS, *options.PONG_DETAILS):
        assert f"`{name.decode()}`" in PAGE, name
    for cause in options.STOPPED_BY:
        assert f"`{cause}`" in PAGE


def test_the_page_has_every_code_of_a_refusal() -> None:
    """One row each."""
    rows = {int(code) for code in re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)}
    assert rows == {DESCRIPTORS_LOST} | {error.code for error in REFUSALS}


def test_the_page_draws_every_transition() -> None:
    """Each message stands on an arrow of its sender's diagram."""
    diagram = PAGE[PAGE.index("## 5. States") : PAGE.index("QUEUED and STARTED need")]
    client, server = diagram.split("server    idle")
    for role, text in ((states.CLIENT, client), (states.SERVER, server)):
        names = {kind.__name__.upper() for row in states.TRANSITIONS[role].values() for kind in row}
        assert names - {"HELLO"} <= set(re.findall(r"[A-Z]{3,}", text)), role
