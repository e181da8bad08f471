"""Options as people type them."""

from __future__ import annotations

import pytest

from sidecall.cli.options import Option, Parsed, Unsupported, parse
from sidecall.errors import UsageError

OPTIONS = (
    Option("-w, --workdir, --cwd", "DIR", ""),
    Option("-e, --env", "NAME[=VALUE]", ""),
    Option("-q, --quiet", "", ""),
    Option("-v, --verbose", "", ""),
)
UNSUPPORTED = (Unsupported("-u, --user", "the reason", "the way"),)


def parsed(*words: str) -> Parsed:
    """Return what is found in the words."""
    return parse(OPTIONS, words, "sidecall test", unsupported=UNSUPPORTED)


@pytest.mark.parametrize(
    ("words", "environment", "directory", "flags"),
    [
        (["-qv"], [], "", "qv"),
        (["-q", "-v"], [], "", "qv"),
        (["-qeA=1"], ["A=1"], "", "q"),
        (["-qe", "A=1"], ["A=1"], "", "q"),
        (["-e=A=1", "-eB"], ["A=1", "B"], "", ""),
        (["-e="], [""], "", ""),
        (["-w", "/a", "--cwd=/b", "--workdir", "/c"], [], "/c", ""),
        (["-w/a"], [], "/a", ""),
        (["-eqv"], ["qv"], "", ""),
    ],
)
def test_short_options_are_bundled(words: list[str], environment: list[str], directory: str, flags: str) -> None:
    """The last of a bundle can have a value, in the same argument or in the next one."""
    found = parsed(*words, "name", "-q")
    assert found.args == ["name", "-q"]
    assert (found.all("env"), found.text("cwd")) == (environment, directory)
    assert [found.flag("quiet"), found.flag("verbose")] == ["q" in flags, "v" in flags]


@pytest.mark.parametrize(
    ("word", "reason", "hint"),
    [
        ("-qx", "unknown option -x", "see `sidecall test --help`"),
        ("--qv", "unknown option --qv", "see `sidecall test --help`"),
        ("-q=1", "-q takes no value", ""),
        ("--quiet=1", "--quiet takes no value", ""),
        ("-qe", "-e needs a value: NAME[=VALUE]", ""),
        ("-quroot", "-u is not supported: the reason", "the way"),
        ("--user=root", "--user is not supported: the reason", "the way"),
    ],
)
def test_a_wrong_option_is_one_sentence(word: str, reason: str, hint: str) -> None:
    """The option is named as it was typed."""
    with pytest.raises(UsageError) as error:
        parsed(word)
    assert (error.value.reason, error.value.hint) == (reason, hint)


def test_nothing_after_help_is_read() -> None:
    """`--help` helps with a command line that is wrong."""
    assert parsed("-qhx", "--nope").wants_help
