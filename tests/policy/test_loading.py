"""A configuration's mistakes, one clear sentence each; and what a good one means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from policy.plans import plan
from sidecall.calls.admission import Admission
from sidecall.errors import CallDenied, ConfigError, NoSuchCommand, ServiceBusy, UsageError
from sidecall.policy.callers import Callers
from sidecall.policy.config import Listen, Service
from sidecall.policy.loading import load
from sidecall.policy.parameters import Parameter, parse
from sidecall.policy.template import fill, parse_group
from sidecall.protocol.messages import Call

if TYPE_CHECKING:
    from pathlib import Path

HEAD = '[service]\nname = "x"\n'
COMMAND = HEAD + '[commands.c]\nargv = ["true"]\n'
PARAMETER = HEAD + '[commands.c]\nargv = ["true", "{p}"]\n[commands.c.parameters.p]\n'


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("service = 1", "service: expected a table, not 1"),
        ("", 'service.name: expected the service\'s name, such as "hugin"'),
        ("[service]\nname = 5", "service.name: expected a string, not 5"),
        (HEAD, "commands: expected at least one command, such as [commands.stitch]"),
        (HEAD + "slots = 0", "service.slots: expected a whole number of at least 1, not 0"),
        (HEAD + "slots = true", "service.slots: expected a whole number of at least 1, not True"),
        (HEAD + "queue = -1", "service.queue: expected a whole number of at least 0, not -1"),
        (HEAD + "drain = -1", "service.drain: expected a number of seconds, 0 or more, not -1"),
        (COMMAND + "grace = 0", "commands.c.grace: expected a positive number of seconds, not 0"),
        (COMMAND + 'background = "leave"', "commands.c.background: expected one of stop, keep, not 'leave'"),
        (COMMAND + 'leftovers = "leave"', "commands.c.leftovers: unknown key (did you mean 'background'?)"),
        (PARAMETER + "repeated = true", "commands.c.parameters.p.repeated: unknown key (did you mean 'repeatable'?)"),
        (PARAMETER + "most = 5", "commands.c.parameters.p.most: unknown key (did you mean 'max-count'?)"),
        (
            PARAMETER + "leading-dash = true",
            "commands.c.parameters.p.leading-dash: unknown key (did you mean 'allow-leading-dash'?)",
        ),
        (
            COMMAND + 'signals = ["STOP"]',
            "commands.c.signals: expected an array of HUP, INT, QUIT, KILL, USR1, USR2, TERM, CONT, TSTP, not ['STOP']",
        ),
        (
            COMMAND + "signals = [[]]",
            "commands.c.signals: expected an array of HUP, INT, QUIT, KILL, USR1, USR2, TERM, CONT, TSTP, not [[]]",
        ),
        (HEAD + "grace = 0", "service.grace: expected a positive number of seconds, not 0"),
        (
            HEAD + "callers = [65534]",
            'service.callers: expected an array of uids, user names and "@group"s, none of them 65534, not [65534]',
        ),
        (COMMAND.replace("name", "nome"), 'service.name: expected the service\'s name, such as "hugin"'),
        (
            HEAD + 'slot = 1\n[commands.c]\nargv = ["true"]',
            "service.slot: unknown key (did you mean 'slots'?)",
        ),
        ("extra = 1\n" + COMMAND, "extra: expected one of service, volumes, commands, listen"),
        (HEAD + "[commands.c]\n", "commands.c.argv: expected a non-empty array"),
        (HEAD + "[commands.c]\nargv = []", "commands.c.argv: expected a non-empty array, not []"),
        (
            HEAD + "[commands.c]\nargv = [1]",
            "commands.c.argv: expected strings, or arrays of strings that stand or fall together, not 1",
        ),
        (
            HEAD + '[commands.c]\nargv = ["true", "{p}"]',
            "commands.c.argv: expected only declared parameters, but {p} is none",
        ),
        (
            HEAD + '[commands.c]\nargv = ["true", "{a b}"]',
            "commands.c.argv: expected words with {parameter} in them: "
            "'{a b}' has braces around something that is no parameter's name",
        ),
        (
            HEAD + '[commands.c]\nargv = ["{p}"]\n[commands.c.parameters.p]',
            "commands.c.argv: expected a first word without parameters: a caller must not choose the program",
        ),
        (
            HEAD + '[commands.c]\nargv = ["true"]\n[commands.c.parameters.p]',
            "commands.c.parameters.p: expected a parameter that argv mentions as {p}",
        ),
        (HEAD + '[commands."a b"]', "commands.a b: expected a name of letters, digits, `-` and `_`"),
        (COMMAND + 'timeout = "1"', "commands.c.timeout: expected a positive number of seconds, not '1'"),
        (
            COMMAND + "terminal = true\nstdin = false",
            "commands.c.terminal: expected a command with `stdin = true`, since a terminal is its stdin, too, not True",
        ),
        (COMMAND + "timout = 1", "commands.c.timout: unknown key (did you mean 'timeout'?)"),
        (COMMAND + "env = { A = 1 }", "commands.c.env.A: expected a string, not 1"),
        (COMMAND + 'env = { "A=" = "1" }', "commands.c.env.A=: expected the name of an environment variable"),
        (COMMAND + 'pass-env = "A"', "commands.c.pass-env: expected an array of strings, not 'A'"),
        (COMMAND + 'landlock = [""]', "commands.c.landlock: expected paths of files and directories, not ''"),
        (COMMAND + 'landlock = "/usr"', "commands.c.landlock: expected an array of strings, not '/usr'"),
        (COMMAND + 'scratch = "yes"', "commands.c.scratch: expected true or false, not 'yes'"),
        (
            PARAMETER + 'type = "file"',
            "commands.c.parameters.p.type: expected one of str, path, int, float, choice, flag, not 'file'",
        ),
        (PARAMETER + 'type = "choice"', "commands.c.parameters.p.choices: expected at least one choice"),
        (PARAMETER + 'type = "int"\nmin = "1"', "commands.c.parameters.p.min: expected a number, not '1'"),
        (
            PARAMETER + 'type = "int"\ndefault = "x"',
            "commands.c.parameters.p.default: expected a value that fits (--p must be a whole number: 'x')",
        ),
        (PARAMETER + 'type = "path"\npattern = "x"', "commands.c.parameters.p.pattern: expected one of "),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    """A mistake names the file, the key and what was expected."""
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as error:
        load(str(path))
    assert error.value.reason.startswith(f"{path}: {sentence}")
    assert "\n" not in error.value.reason


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"a = ", "is not TOML: "), (b"\xff", "is not UTF-8 text: "), (None, "cannot be read: No such file or directory")],
)
def test_what_is_no_configuration(tmp_path: Path, content: bytes | None, words: str) -> None:
    """A file that cannot be read as TOML is said not to be."""
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load(str(path))
    assert error.value.reason.startswith(f"{path}: {words}")


def test_a_bad_pattern_is_said_to_be(tmp_path: Path) -> None:
    """A regular expression that does not compile is a mistake of the configuration."""
    (tmp_path / "bad.toml").write_text(PARAMETER + 'pattern = "["')
    with pytest.raises(ConfigError, match="parameters.p.pattern: expected a regular expression"):
        load(str(tmp_path / "bad.toml"))


def call(command: bytes, *arguments: bytes, env: tuple[bytes, ...] = (), directory: bytes = b"") -> Call:
    """Return a CALL from a caller in /home."""
    return Call(command, arguments, env, directory, b"/usr", (), (), 0, 0, 0)


def offered(tmp_path: Path, content: str) -> Service:
    """Return the service that a configuration declares."""
    (tmp_path / "s.toml").write_text(content)
    return load(str(tmp_path / "s.toml"))


def test_a_plan_is_what_was_declared(tmp_path: Path) -> None:
    """Declared words, variables, directory and timeout become the plan, and nothing else does."""
    service = offered(
        tmp_path,
        HEAD + '[commands.c]\nargv = ["./run", "{p}"]\ntimeout = 5\nenv = { A = "1" }\npass-env = ["B"]\n'
        'cwd = "{scratch}"\n[commands.c.parameters.p]\ntype = "path"\n[volumes.all]\npath = "/"\n',
    )
    made = plan(
        service,
        call(b"c", b"--p", b"bin", env=(b"B=2",)),
        {b"A": b"0", b"C": b"3"},
        "/scratch",
        options=(b"timeout-ms=9000",),
    )
    assert made.argv == [os.fsencode(tmp_path / "run"), b"/usr/bin"]
    assert made.environ == {b"A": b"1", b"B": b"2", b"C": b"3", b"SIDECALL_SCRATCH": b"/scratch"}
    assert (made.directory, made.timeout) == (b"/scratch", 5)
    assert plan(service, call(b"c", b"--p", b"bin"), {}, "/s", options=(b"timeout-ms=1000",)).timeout == 1


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    """Relative sockets, working directories, programs and audit logs start at the configuration's directory."""
    service = offered(
        tmp_path,
        '[service]\nname = "s/x.sock"\naudit = "log"\n[[listen]]\nname = "./y"\n[commands.c]\nargv = ["./run"]\n'
        'cwd = "in/{p}"\n[commands.c.parameters]\np = {}\n',
    )
    made = plan(service, call(b"c", b"--p", b"q"), {}, "")
    assert (made.argv[0], made.directory) == (f"{tmp_path}/run".encode(), f"{tmp_path}/in/q".encode())
    assert (service.name, service.listeners[0].name) == (f"{tmp_path}/s/x.sock", f"{tmp_path}/y")
    assert service.audit == f"{tmp_path}/log"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (call(b"d"), NoSuchCommand),
        (call(b"\xff"), NoSuchCommand),
        (call(b"c", env=(b"PATH=/tmp",)), CallDenied),
        (call(b"c", directory=b"/tmp"), CallDenied),
        (call(b"c", env=(b"=x",)), UsageError),
        (call(b"c", b"--q"), UsageError),
    ],
)
def test_what_was_not_offered_is_refused(tmp_path: Path, request_: Call, error: type[Exception]) -> None:
    """Deny by default: commands, parameters, variables and directories that nobody declared."""
    with pytest.raises(error):
        plan(offered(tmp_path, COMMAND), request_, {}, "")


def test_any_command_is_any_command() -> None:
    """A service for development runs the words that it gets, but no words with a NUL byte."""
    service = Service("any", None)
    assert plan(service, call(b"ls", b"-l", directory=b"/tmp"), {}, "").argv == [b"ls", b"-l"]
    with pytest.raises(UsageError):
        plan(service, call(b"l\0s"), {}, "")


@pytest.mark.parametrize(
    ("template", "values", "words"),
    [
        (["a", "{x}"], {"x": (b"1",)}, [b"a", b"1"]),
        (["a", "{x}"], {"x": ()}, [b"a"]),
        (["-x={x}"], {"x": (b"1", b"2")}, [b"-x=1", b"-x=2"]),
        ([["-x", "{x}"], "b"], {"x": (b"1", b"2")}, [b"-x", b"1", b"-x", b"2", b"b"]),
        ([["-x", "{x}"]], {"x": ()}, []),
        (["{{{x}}}"], {"x": (b"1",)}, [b"{1}"]),
        (["{x}{y}"], {"x": (b"1", b"2"), "y": (b";rm *",)}, [b"1;rm *", b"2;rm *"]),
        (["{x}"], {"x": (b"{y} a b",)}, [b"{y} a b"]),
    ],
)
def test_templates(template: list[str | list[str]], values: dict[str, tuple[bytes, ...]], words: list[bytes]) -> None:
    """A value is one piece of one word, whatever is in it; words and groups stand, fall or repeat."""
    assert fill([parse_group(item) for item in template], values) == words


DECLARED = {
    "path": Parameter("path", "path", optional=True),
    "int": Parameter("int", "int", optional=True, minimum=-5, maximum=5, allow_leading_dash=True),
    "float": Parameter("float", "float", optional=True),
    "str": Parameter("str", "str", optional=True, pattern="[a-c]*"),
    "any": Parameter("any", "str", optional=True, allow_leading_dash=True),
}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([b"--path", b"a/../b"], b"/home/a/../b"),
        ([b"--path=/x"], b"/x"),
        ([b"--path", b"-rf"], b"/home/-rf"),
        ([b"--path", b"\xff"], b"/home/\xff"),
        ([b"--int", b"-5"], b"-5"),
        ([b"--float", b"1e3"], b"1e3"),
        ([b"--str="], b""),
        ([b"--any", b"--x"], b"--x"),
    ],
)
def test_parameters_that_fit(words: list[bytes], value: bytes) -> None:
    """A value that was declared so arrives as it was given."""
    assert [found for found in parse(DECLARED, words, "/home", "c").values() if found] == [(value,)]


@pytest.mark.parametrize(
    "words",
    [
        [b"--path", b""],
        [b"--path", b"a\0b"],
        [b"--int", b"6"],
        [b"--int", b"-6"],
        [b"--int", b"1.0"],
        [b"--int", b"1\n"],
        [b"--int", "\u0661".encode()],
        [b"--float", b"nan"],
        [b"--float", b"1e999"],
        [b"--str", b"abcd"],
        [b"--str", b"abc\n"],
        [b"--str", b"\xff"],
        [b"--no"],
        [b"x"],
        [b""],
    ],
)
def test_parameters_that_do_not_fit(words: list[bytes]) -> None:
    """A value that was not declared so is refused."""
    with pytest.raises(UsageError):
        parse(DECLARED, words, "/home", "c")


def test_admission() -> None:
    """Slots first, then the queue in order of arrival, then refusal; whoever leaves makes room."""
    admission: Admission[str] = Admission(slots=1, queue=2)
    assert admission.admit("a", can_queue=False) == 0
    assert admission.admit("b", can_queue=True) == 1
    assert admission.admit("c", can_queue=True) == 2
    with pytest.raises(ServiceBusy):
        admission.admit("d", can_queue=True)
    with pytest.raises(ServiceBusy):
        admission.admit("e", can_queue=False)
    assert list(admission.release("b")) == []
    assert list(admission.release("a")) == ["c"]
    assert list(admission.release("a")) == []
    assert (admission.running, admission.waiting) == (1, 0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (HEAD + 'slots = "2"', "service.slots: expected a whole number of at least 1, not '2'"),
        (HEAD + "slots = 1.0", "service.slots: expected a whole number of at least 1, not 1.0"),
        (HEAD + "grace = nan", "service.grace: expected a positive number of seconds, not nan"),
        (HEAD + "grace = inf", "service.grace: expected a positive number of seconds, not inf"),
        (
            HEAD + "callers = 0",
            'service.callers: expected an array of uids, user names and "@group"s, none of them 65534, not 0',
        ),
        (
            HEAD + "callers = [true]",
            'service.callers: expected an array of uids, user names and "@group"s, none of them 65534, not [True]',
        ),
        (
            HEAD + 'callers = ["nobody-of-that-name"]',
            "service.callers: expected names that this system knows, not 'nobody-of-that-name'",
        ),
        (HEAD + "[commands]\nc = 1", "commands.c: expected a table, not 1"),
        (COMMAND + "parameters = 1", "commands.c.parameters: expected a table, not 1"),
        (COMMAND + "summary = 1", "commands.c.summary: expected a string, not 1"),
        (HEAD + "slots = 5000000000", "service.slots: expected a whole number of at most 4294967295, not 5000000000"),
        (HEAD + "queue = 5000000000", "service.queue: expected a whole number of at most 4294967295, not 5000000000"),
        (HEAD + f"slots = {'9' * 5000}", "is not TOML: Exceeds the limit"),
        (f"[service]\nname = 0x{'f' * 5000}", "service.name: expected a string, not a number that long"),
        ("a = " + "[" * 100_000, "is not TOML: maximum recursion depth exceeded"),
        ('[service]\nname = ".."', "service.name: expected a name, or the path of a socket, not '..'"),
        (COMMAND + '[[listen]]\nname = "."', "listen[0].name: expected a name, or the path of a socket, not '.'"),
        (
            HEAD + 'callers = ["99999999999"]',
            "service.callers: expected numbers that an id can have, not '99999999999'",
        ),
        (
            HEAD + "callers = [99999999999]",
            'service.callers: expected an array of uids, user names and "@group"s, none of them 65534, not [',
        ),
        (COMMAND + 'group = "99999999999"', "commands.c.group: expected a number that a group can have, not '9999"),
        (COMMAND + "nice = 9999999999", "commands.c.nice: expected a whole number of at most 39, not 9999999999"),
        (
            COMMAND + "limits = { memory-bytes = 99999999999999999999 }",
            "commands.c.limits.memory-bytes: expected a whole number of at most 9223372036854775807, not 999999999",
        ),
        (PARAMETER + f'type = "int"\nmin = 1{"0" * 400}', "commands.c.parameters.p.min: expected a number, not 1000"),
        (PARAMETER + 'pattern = "a{99999999999999}"', "commands.c.parameters.p.pattern: expected a regular expression"),
        (
            PARAMETER.replace('["true", "{p}"]', '[["true", "{p}"], "id"]'),
            "commands.c.argv: expected a first word by itself: an array with parameters may be left out, or s",
        ),
        (
            PARAMETER.replace("argv", 'cwd = "{p}"\nargv') + "optional = true",
            "commands.c.cwd: expected only parameters that are always there, but {p} is optional, not '{p}'",
        ),
        (COMMAND + 'cwd = "{x}"', "commands.c.cwd: expected only declared parameters, but {x} is none"),
        (COMMAND + "timeout = 0", "commands.c.timeout: expected a positive number of seconds, not 0"),
        (COMMAND + 'env = "A=1"', "commands.c.env: expected a table, not 'A=1'"),
        (
            HEAD + '[commands.c]\nargv = ["{scratch}/x"]',
            "commands.c.argv: expected a first word without parameters: a caller must not choose the program",
        ),
        (
            HEAD + '[commands.c]\nargv = ["x", []]',
            "commands.c.argv: expected strings, or arrays of strings that stand or fall together, not []",
        ),
        (
            HEAD + '[commands.c]\nargv = ["x", ["y", 1]]',
            "commands.c.argv: expected strings, or arrays of strings that stand or fall together, not ['y', 1]",
        ),
        (
            PARAMETER + 'pattren = "x"',
            "commands.c.parameters.p.pattren: unknown key (did you mean 'pattern'?)",
        ),
        (PARAMETER + 'type = "str"\nmin = 1', "commands.c.parameters.p.min: expected "),
        (PARAMETER + 'type = "str"\nchoices = ["a"]', "commands.c.parameters.p.choices: expected "),
        (PARAMETER + 'type = "str"\nvalue = "a"', "commands.c.parameters.p.value: expected "),
        (PARAMETER + 'type = "flag"\noptional = true', "commands.c.parameters.p.optional: expected "),
        (PARAMETER + 'type = "flag"\ndefault = "x"', "commands.c.parameters.p.default: expected "),
        (PARAMETER + 'type = "int"\npattern = "x"', "commands.c.parameters.p.pattern: expected "),
        (
            PARAMETER + 'type = "path"\nallow-leading-dash = true',
            "commands.c.parameters.p.allow-leading-dash: expected ",
        ),
        (PARAMETER + "repeatable = 1", "commands.c.parameters.p.repeatable: expected true or false, not 1"),
        (PARAMETER + "default = true", "commands.c.parameters.p.default: expected a string or a number, not True"),
        (
            PARAMETER + 'type = "choice"\nchoices = ["a"]\ndefault = "b"',
            "commands.c.parameters.p.default: expected a value that fits (--p must be one of a: 'b')",
        ),
        (
            PARAMETER + 'type = "int"\nmax = 5\ndefault = 6',
            "commands.c.parameters.p.default: expected a value that fits (--p must be at most 5: '6')",
        ),
    ],
)
def test_more_mistakes_each_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    """Wrong types at each level, keys that do not go with a parameter's type, and defaults that do not fit."""
    test_a_mistake_is_one_sentence(tmp_path, content, sentence)


def test_what_nobody_says_has_its_documented_value(tmp_path: Path) -> None:
    """The defaults are those of docs/configuration.md."""
    service = offered(tmp_path, COMMAND)
    assert (service.queue, service.grace, service.drain, service.volumes) == (1000, 10.0, 5.0, ())
    assert service.listeners == (Listen("x", Callers(frozenset({os.geteuid()}))),)
    assert (service.slots, service.per_caller, service.bytes_per_caller) == (64, 2000, 64 << 20)
    command = (service.commands or {})["c"]
    assert (command.timeout, command.scratch, command.pass_directory) == (None, False, False)


def test_a_confined_command_has_paths_and_a_scratch_directory(tmp_path: Path) -> None:
    """Relative paths start at the file; TMPDIR is the scratch directory, unless it is configured."""
    given = offered(tmp_path, COMMAND + 'landlock = ["/usr", "lib"]')
    planned = plan(given, call(b"c"), {b"TMPDIR": b"/tmp"}, "/own")
    assert planned.confined_to[:2] == (b"x/usr", b"x" + os.fsencode(tmp_path / "lib"))
    assert planned.confined_to[-1] == b"w/own"
    assert (planned.environ[b"TMPDIR"], planned.environ[b"SIDECALL_SCRATCH"]) == (b"/own", b"/own")
    assert (given.commands or {})["c"].needs_directory
    given = offered(tmp_path, COMMAND + 'landlock = []\nenv.TMPDIR = "/other"')
    assert plan(given, call(b"c"), {}, "/own").environ[b"TMPDIR"] == b"/other"
    assert plan(offered(tmp_path, COMMAND), call(b"c"), {}, "").confined_to == ()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (HEAD + '[commands.c]\nargv = ["true", "a\\u0000b"]', "NUL in argv: ValueError at the first call"),
        (HEAD + '[commands.c]\nargv = [""]', "an empty program: 127 at every call"),
        (PARAMETER + 'type = "int"\nmin = 5\nmax = 1', "min over max: no value can ever fit"),
        (PARAMETER + 'type = "float"\nmin = nan', "nan as a bound: every value fits"),
        (
            HEAD + '[commands.c]\nargv = ["x", "{scratch}"]\n[commands.c.parameters.scratch]',
            "a parameter called scratch: the caller's value is overwritten",
        ),
        (COMMAND + 'pass-env = ["A=B"]', "a name that no variable can have"),
    ],
)
def test_what_cannot_work_is_said_at_once(tmp_path: Path, content: str, what: str) -> None:
    """A configuration that passes `--check` can be served."""
    with pytest.raises(ConfigError):
        offered(tmp_path, content)
    assert what


def test_a_first_group_keeps_all_its_words(tmp_path: Path) -> None:
    """`argv = [["./run", "-x"]]` is a program with an option, wherever the program is."""
    service = offered(tmp_path, HEAD + '[commands.c]\nargv = [["./run", "-x"], "y"]')
    assert plan(service, call(b"c"), {}, "").argv == [os.fsencode(tmp_path / "run"), b"-x", b"y"]
