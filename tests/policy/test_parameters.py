"""What is said to a caller whose parameters do not fit: the exact words."""

from __future__ import annotations

import pytest

from sidecall.errors import UsageError
from sidecall.policy.parameters import Parameter, parse, shortened

DECLARED = {
    "size": Parameter("size", "int", help="pixels", optional=True, minimum=1, maximum=9),
    "f": Parameter("f", "float", optional=True, minimum=0.5),
    "mode": Parameter("mode", "choice", optional=True, choices=("a", "b")),
    "word": Parameter("word", "str", optional=True, pattern="[a-c]+"),
    "fast": Parameter("fast", "flag", value="-f"),
    "many": Parameter("many", "path", optional=True, repeatable=True),
}


@pytest.mark.parametrize(
    ("words", "reason", "hint"),
    [
        ([b"--size", b"0"], "--size must be at least 1: '0'", "pixels"),
        ([b"--size=10"], "--size must be at most 9: '10'", "pixels"),
        ([b"--size", b""], "--size must be a whole number: ''", "pixels"),
        ([b"--size", b"0x5"], "--size must be a whole number: '0x5'", "pixels"),
        ([b"--size", b"1_0"], "--size must be a whole number: '1_0'", "pixels"),
        ([b"--size", b" 5"], "--size must be a whole number: ' 5'", "pixels"),
        ([b"--size"], "--size needs a value", "pixels"),
        ([b"--f", b"inf"], "--f must be a number: 'inf'", ""),
        ([b"--f", b"."], "--f must be a number: '.'", ""),
        ([b"--f", b".4"], "--f must be at least 0.5: '.4'", ""),
        ([b"--mode", b"c"], "--mode must be one of a, b: 'c'", ""),
        ([b"--word", b"-a"], "--word must not begin with a dash: '-a'", ""),
        ([b"--word", b"x"], "--word must match [a-c]+: 'x'", ""),
        ([b"--word", b"\xff"], "--word must match [a-c]+: '\\\\udcff'", ""),
        ([b"--word", b"a\0"], "--word has a NUL byte: 'a\\x00'", ""),
        ([b"--many="], "--many must be a path, not empty", ""),
        ([b"--fast=1"], "--fast is a flag and takes no value", ""),
        ([b"--size", b"5", b"--size=6"], "--size is given 2 times, expected once", ""),
        ([b"--fast", b"--fast"], "--fast is given 2 times, expected once", ""),
        ([b"--siz", b"5"], "c has no parameter --siz", "did you mean --size?"),
        ([b"--zzz"], "c has no parameter --zzz", "`c --help` lists its parameters"),
        ([b"--"], "c has no parameter --", "`c --help` lists its parameters"),
        (
            [b"-size"],
            "unexpected argument '-size': parameters are given as --name value",
            "`c --help` lists its parameters",
        ),
    ],
)
def test_what_a_caller_is_told(words: list[bytes], reason: str, hint: str) -> None:
    """The reason names the parameter, what it must be and what was given; the hint says what to do."""
    with pytest.raises(UsageError) as error:
        parse(DECLARED, words, "/base", "c")
    assert (error.value.reason, error.value.hint) == (reason, hint)


def test_a_required_parameter_is_missed() -> None:
    """A parameter that is neither optional nor has a default must be given."""
    with pytest.raises(UsageError) as error:
        parse({"x": Parameter("x", "str")}, [], "/", "c")
    assert error.value.reason == "--x is missing"


def test_what_stands_in_for_what_is_missing() -> None:
    """A default is checked and made absolute like a given value; a flag and an optional parameter have no value."""
    declared = {
        "d": Parameter("d", "path", default="x"),
        "o": Parameter("o", "str", optional=True),
        "f": Parameter("f", "flag", value="-f"),
    }
    assert parse(declared, [], "/base", "c") == {"d": (b"/base/x",), "o": (), "f": ()}


def test_repeated_parameters_keep_their_order() -> None:
    """Each value of a repeated parameter is checked by itself, and they stay in order."""
    values = parse(DECLARED, [b"--many", b"b", b"--fast", b"--many=/a"], "/base", "c")
    assert values["many"] == (b"/base/b", b"/a")
    assert values["fast"] == (b"-f",)


def test_a_value_may_hold_anything() -> None:
    """Only the first `=` divides; the value after it, and a whole word as value, are taken as they are."""
    declared = {"any": Parameter("any", "str", allow_leading_dash=True)}
    assert parse(declared, [b"--any=a=b --c\n$(x)"], "/", "c") == {"any": (b"a=b --c\n$(x)",)}
    assert parse(declared, [b"--any", b"--any"], "/", "c") == {"any": (b"--any",)}


@pytest.mark.parametrize(
    ("value", "minimum", "maximum"),
    [(b"9007199254740993", None, 9007199254740992), (b"-9007199254740993", -9007199254740992, None)],
)
def test_bounds_are_exact_for_whole_numbers(value: bytes, minimum: int | None, maximum: int | None) -> None:
    """One over the greatest value allowed is over it, however large."""
    declared = {"n": Parameter("n", "int", minimum=minimum, maximum=maximum)}
    with pytest.raises(UsageError):
        parse(declared, [b"--n", value], "/", "c")


def test_a_reason_is_one_line_whatever_the_caller_said() -> None:
    """A caller cannot write lines or terminal codes into the server's log."""
    with pytest.raises(UsageError) as error:
        parse(DECLARED, [b"--x\ncall 7 exited 0\x1b[2J"], "/", "c")
    assert error.value.reason.isprintable()


def test_long_parameters_are_shortened() -> None:
    """In all to some characters; what is left whole stays as it is."""
    assert shortened({"a": ["12"], "b": ["3", "4"]}, 4) == {"a": ["12"], "b": ["3", "4"]}
    assert shortened({"a": ["12"], "b": ["345", "6"], "c": ["7"]}, 4) == {"a": ["12"], "b": ["34…"]}
    assert shortened({"a": ["x" * 1000]}, 200) == {"a": ["x" * 200 + "…"]}
    assert shortened({}) == {}
