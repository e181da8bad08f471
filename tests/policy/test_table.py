"""Reading a TOML table key by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sidecall.errors import ConfigError
from sidecall.policy.callers import Callers
from sidecall.policy.table import Table
from sidecall.transport.credentials import UNMAPPED

if TYPE_CHECKING:
    from collections.abc import Callable


def table(**content: object) -> Table:
    """Return a table of a file."""
    return Table("f.toml", "service", content)


READERS: dict[str, tuple[Callable[[Table], object], list[Any], list[Any]]] = {
    "text": (lambda t: t.text("k"), ["", "a"], [1, True, "\0", []]),
    "boolean": (lambda t: t.boolean("k"), [True, False], [0, 1, "true"]),
    "integer": (lambda t: t.integer("k", 5, 1, 9), [1, 9], [0, 10, True, 1.0, "1", 10**5000]),
    "seconds": (
        lambda t: t.seconds("k", None),
        [0.1, 5],
        [0, -1, float("inf"), float("nan"), 1e9, True, "1", 10**5000],
    ),
    "duration": (lambda t: t.duration("k", 1.0), [0, 5, 0.5], [-1, float("inf"), float("nan"), 1e9, True]),
    "choice": (lambda t: t.choice("k", "a", ("a", "b")), ["a", "b"], ["", "c", 1, []]),
    "number": (lambda t: t.number("k"), [-1, 0, 1.5], [float("inf"), float("nan"), True, "1", 10**5000]),
    "scalar": (lambda t: t.scalar("k"), ["a", 0, 1.5], [True, [], {}]),
    "texts": (lambda t: t.texts("k"), [[], ["a"]], ["a", [1], {}]),
    "variables": (lambda t: t.variables("k"), [[], ["A_1"]], [["1A"], ["A=B"], [""], "A"]),
    "array": (lambda t: t.array("k"), [[1], ["a", {}]], [[], "a", {}]),
    "signals": (lambda t: t.signals("k"), [[], ["TERM", "INT"]], [["SIGTERM"], ["SEGV"], [15], "TERM", [[]]]),
    "callers": (
        lambda t: t.callers("k", Callers()),
        [[], [0, 7], ["root", "@root", "@7"]],
        [7, [-1], [True], [UNMAPPED], [str(UNMAPPED)], [f"@{UNMAPPED}"], [2**32], ["no such user"], ["@"], [None]],
    ),
    "table": (lambda t: t.table("k"), [{}, {"a": 1}], [[], "a", 1]),
    "array of tables": (lambda t: t.array_of_tables("k"), [[], [{}]], [{}, "a", [1]]),
    "mapping": (lambda t: t.mapping("k"), [{}, {"A": "b"}], [{"1": "b"}, {"A": 1}, {"": ""}, {"A": "\0"}]),
}


@pytest.mark.parametrize("kind", READERS)
def test_each_kind_of_value(kind: str) -> None:
    """What is right is read, and what is wrong is one sentence with the file and the key."""
    read, right, wrong = READERS[kind]
    for value in right:
        whole = table(k=value)
        read(whole)
        whole.finish()
    for value in wrong:
        with pytest.raises(ConfigError, match=r"^f\.toml: (service\.)?k[^:]*: expected ") as error:
            read(table(k=value))
        assert "\n" not in error.value.reason


def test_names_become_numbers() -> None:
    """Signals and users, as configurations have them."""
    assert table(k=["TERM", "INT"]).signals("k") == {15, 2}
    assert table(k=["root", 7, "8", "@root", "@9"]).callers("k", Callers()) == Callers(
        frozenset({0, 7, 8}), frozenset({0, 9})
    )
    assert table().optional_callers("k") is None
    assert table(k=[]).optional_callers("k") == Callers()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("slotz", "service.slotz: unknown key (did you mean 'slots'?)"),
        ("most", "service.most: unknown key (did you mean 'max-count'?)"),
        ("x", "service.x: expected one of slots, max-count"),
    ],
)
def test_a_key_that_nobody_asked_for(key: str, said: str) -> None:
    """The nearest one is named, or the one that an old name has become, or all that there are."""
    whole = table(**{key: 1})
    whole.integer("slots", 1, 1)
    assert not whole.has("max-count")
    with pytest.raises(ConfigError) as error:
        whole.finish()
    assert error.value.reason == f"f.toml: {said}"


def test_tables_have_names() -> None:
    """Such as commands have; they are read in the order of the file."""
    whole = table(b={}, a={"k": 1})
    assert [name for name, _ in whole.tables()] == ["b", "a"]
    for name in ("", "-a", "a b", "é"):
        with pytest.raises(ConfigError, match="a name of letters, digits"):
            list(table(**{name: {}}).tables())
