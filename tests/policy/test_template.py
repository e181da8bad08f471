"""Templates: which words are refused, and that values are never looked into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall.policy.template import fill, parse_group, parse_word


@pytest.mark.parametrize(
    "text", ["{", "}", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a b}", "{a{b}}", "a{b", "{ a}"]
)
def test_braces_hold_a_parameters_name(text: str) -> None:
    """Whatever else format strings can do is refused: a template reaches no attribute, index or conversion."""
    with pytest.raises(ValueError, match="."):
        parse_word(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [("", set()), ("plain", set()), ("{a}", {"a"}), ("{a-b}={c_d}{a-b}", {"a-b", "c_d"}), ("{{a}}", set())],
)
def test_a_word_knows_its_parameters(text: str, names: set[str]) -> None:
    """The names are those in single braces."""
    assert parse_word(text).names == names


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4))
def test_a_value_is_one_piece_of_one_word(values: list[bytes]) -> None:
    """No value, whatever its bytes, adds, removes or splits a word."""
    template = [parse_group("run"), parse_group(["-x", "<{v}>"]), parse_group("end")]
    words = [b"run", *(word for value in values for word in (b"-x", b"<" + value + b">")), b"end"]
    assert fill(template, {"v": values}) == words


def test_a_group_needs_all_its_parameters() -> None:
    """A group with one parameter missing is left out as a whole."""
    template = [parse_group(["{a}", "{b}"]), parse_group("{a}")]
    assert fill(template, {"a": (b"1",), "b": ()}) == [b"1"]


def test_words_without_parameters_stand_once() -> None:
    """A plain group is neither repeated nor left out, and an empty word is a word."""
    assert fill([parse_group(["a", ""]), parse_group("é")], {}) == [b"a", b"", "é".encode()]
