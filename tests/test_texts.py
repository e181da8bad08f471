"""The sentences that both clients print."""

from __future__ import annotations

import string

import pytest

from sidecall import texts

TEXTS = {name: value for name, value in vars(texts).items() if isinstance(value, texts.Text)}


def fields(text: str) -> list[tuple[str, str]]:
    """Return the names and formats of what is put in."""
    return [(name, form or "") for _, name, form, _ in string.Formatter().parse(text) if name is not None]


@pytest.mark.parametrize("name", TEXTS)
def test_each_is_a_clause_and_a_hint(name: str) -> None:
    """Without a final stop, on one line; each field is plain text, a whole number, or one with digits."""
    reason, hint = TEXTS[name]
    assert reason
    for text in (reason, hint):
        assert text.isprintable()
        assert text == text.strip()
        assert not text.endswith(".")
        assert not text.startswith(("error", "Error", "sidecall:"))
    for field, form in fields(reason) + fields(hint):
        assert field.isidentifier()
        assert form in {"", "d", ".0f", ".1f"}


def test_values_are_put_in() -> None:
    """Both parts get all of them; a brace in a value is no field."""
    assert texts.SOCKET_STALE(path="{x}")[0] == "no server is listening on {x} (stale socket)"
    assert texts.SECONDS_INVALID(name="timeout", given=texts.quoted("x")) == (
        "invalid --timeout 'x': expected a positive number of seconds", ""
    )  # fmt: skip
    assert texts.DIRECTORY_OPEN_TO_ALL(directory="/d")[1] == "run `chmod o-w /d` as its owner"
