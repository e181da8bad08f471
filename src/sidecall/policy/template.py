"""argv templates: from declared words and checked values to the words of a command. No shell, no splitting.

A word is text with `{name}` in it; `{{` and `}}` stand for the braces. A word whose parameter was not given is left
out, one whose parameter was given several times stands once for each value. A *group* (a list of words in the
template) is left out or repeated as a whole: `["--exclude", "{exclude}"]`.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Values = Mapping[str, Sequence[bytes]]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Word:
    """One word of a template: literal pieces, each followed by a parameter's name or by nothing."""

    pieces: tuple[tuple[str, str | None], ...]

    @property
    def names(self) -> frozenset[str]:
        """The parameters that the word mentions."""
        return frozenset(name for _, name in self.pieces if name is not None)

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """Return the word with each parameter replaced by its value."""
        return b"".join(text.encode() + (values[name] if name else b"") for text, name in self.pieces)


@dataclass(frozen=True)
class Group:
    """Words that stand or fall together; a single word is a group of one."""

    words: tuple[Word, ...]

    @property
    def names(self) -> frozenset[str]:
        """The parameters that the group mentions."""
        return frozenset[str]().union(*(word.names for word in self.words))

    def fill(self, values: Values) -> Iterator[bytes]:
        """Yield the group's words: once, or not at all, or once for each value of its one repeated parameter."""
        several = max((len(values[name]) for name in self.names), default=1)
        if any(not values[name] for name in self.names):
            return
        for index in range(several):
            chosen = {name: values[name][min(index, len(values[name]) - 1)] for name in self.names}
            yield from (word.fill(chosen) for word in self.words)


def parse_word(text: str) -> Word:
    """Read one word of a template.

    Raises:
        ValueError: a brace stands alone, or holds something that is no parameter's name.
    """
    pieces = []
    for literal, name, specification, conversion in string.Formatter().parse(text):
        if name is not None and (specification or conversion or not _NAME.fullmatch(name)):
            raise ValueError(f"{text!r} has braces around something that is no parameter's name")
        pieces.append((literal, name))
    return Word(tuple(pieces))


def parse_group(item: str | Sequence[str]) -> Group:
    """Read one item of a template: a word, or a list of words.

    Raises:
        ValueError: see `parse_word`.
    """
    words = [item] if isinstance(item, str) else item
    return Group(tuple(parse_word(word) for word in words))


def fill(template: Sequence[Group], values: Values) -> list[bytes]:
    """Return the argv that a template gives for `values`; a name without values is one that was not given."""
    return [word for group in template for word in group.fill(values)]
