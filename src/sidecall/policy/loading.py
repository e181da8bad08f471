"""What a service offers, read from a TOML file: which keys there are, and what fits together."""

from __future__ import annotations

import grp
import os
import pwd
import re
import resource
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

from sidecall.errors import ConfigError, UsageError
from sidecall.files.volumes import Volume
from sidecall.policy.config import SCRATCH, Command, Listen, RecordRules, Service, only_me
from sidecall.policy.parameters import TYPES, Parameter
from sidecall.policy.table import Table
from sidecall.policy.template import Group, Word, parse_group
from sidecall.supervise.control import RunAs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecall.policy.callers import Callers

_NO_ID = 2**32 - 1
"""What chown(2) and setresgid(2) take for "as it is"."""

FORMATS = ("json", "text")
"""Of the audit log: an object a line, or `key=value` pairs with JSON values for those that have spaces in them."""

_UNLIMITED = 2**63 - 1
"""What setrlimit takes for no limit at all is one more. Source: Python's resource module."""

_LIMITS = {
    "cpu-seconds": resource.RLIMIT_CPU,
    "memory-bytes": resource.RLIMIT_AS,
    "file-bytes": resource.RLIMIT_FSIZE,
    "open-files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "core-bytes": resource.RLIMIT_CORE,
}


def load(path: str, mounts: Mapping[str, str] | None = None) -> Service:
    """Read and check a configuration file.

    Args:
        path: the file's.
        mounts: absolute paths of volumes, by name, that take the place of what the file says.

    Raises:
        ConfigError: it cannot be read, is not TOML, or does not say what it should.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", "check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}") from error
    return loads(text, path, mounts)


def loads(text: str, path: str, mounts: Mapping[str, str] | None = None) -> Service:
    """Check a configuration that has been read; see `load`."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of a TOMLDecodeError, of a number of thousands of digits
        raise ConfigError(f"{path}: is not TOML: {error}", "see https://toml.io for its syntax") from error
    return _service(Table(path, "", content), mounts or {})


def _service(root: Table, mounts: Mapping[str, str]) -> Service:
    head = root.table("service")
    name = head.text("name")
    if not name:
        head.fail("name", 'the service\'s name, such as "hugin"')
    service = Service(_socket(head, name), None)
    service = replace(
        service,
        slots=head.integer("slots", service.slots, 1),
        queue=head.integer("queue", service.queue, 0),
        grace=head.seconds("grace", None) or service.grace,
        drain=head.duration("drain", service.drain),
    )
    service = replace(
        service,
        audit=_audit(head),
        audit_format=head.choice("audit-format", service.audit_format, FORMATS),
        per_caller=head.integer("per-caller", service.per_caller, 1),
        bytes_per_caller=head.integer("bytes-per-caller", service.bytes_per_caller, 1),
    )
    callers = head.callers("callers", only_me())
    head.finish()
    service = replace(service, volumes=_volumes(root.table("volumes"), mounts))
    service = replace(service, commands=_commands(root, service.volumes))
    service = replace(service, listeners=_listeners(root, service, callers))
    service = replace(service, records=_records(root.table("records")) if root.has("records") else None)
    root.finish()
    return service


def _socket(table: Table, name: str) -> str:
    """Return a socket's name, or its absolute path."""
    if name in {".", ".."}:
        table.fail("name", "a name, or the path of a socket", name)
    return _from_the_file(table, name) if "/" in name else name.removesuffix(".sock")


def _audit(table: Table) -> str:
    target = table.text("audit")
    if target in {"", "-"}:
        return target
    target = _from_the_file(table, target)
    if trouble := _why_not_writable(target):
        table.fail("audit", f"a file that can be written ({trouble})", target)
    return target


def _records(table: Table) -> RecordRules:
    directory = table.text("directory")
    if not directory:
        table.fail("directory", "the path of a directory")
    rules = RecordRules(_from_the_file(table, directory))
    rules = replace(
        rules,
        count=table.integer("count", rules.count, 1),
        age=table.seconds("age", rules.age) or rules.age,
        bytes_per_call=table.integer("bytes-per-call", rules.bytes_per_call, 1, _UNLIMITED),
        bytes=table.integer("bytes", rules.bytes, 1, _UNLIMITED),
        attached=table.boolean("attached"),
        required=table.boolean("required"),
    )
    table.finish()
    return rules


def _volumes(tables: Table, mounts: Mapping[str, str]) -> tuple[Volume, ...]:
    volumes = {name: _volume(name, table) for name, table in tables.tables()}
    for unknown in sorted(mounts.keys() - volumes.keys()):
        tables.fail(unknown, "to be declared, since it is given a path")
    return tuple(replace(volume, path=mounts.get(name, volume.path)) for name, volume in volumes.items())


def _volume(name: str, table: Table) -> Volume:
    path = table.text("path")
    if not path:
        table.fail("path", "the path of a directory")
    access = table.choice("access", "read", ("read", "write"))
    commit = table.choice("commit", "rename", ("rename", "copy"))
    table.finish()
    return Volume(name, _from_the_file(table, path), access == "write", commit == "copy")


def _listeners(root: Table, service: Service, callers: Callers) -> tuple[Listen, ...]:
    tables = root.array_of_tables("listen")
    listeners = tuple(_listen(table, service, callers) for table in tables) or (Listen(service.name, callers),)
    names = [listen.name for listen in listeners]
    for table, name in zip(tables, names, strict=False):
        if names.count(name) > 1:
            table.fail("name", "a socket of its own", name)
    return listeners


def _listen(table: Table, service: Service, callers: Callers) -> Listen:
    name = table.text("name")
    if not name:
        table.fail("name", "the socket's name or path")
    name = _socket(table, name)
    commands = frozenset(table.texts("commands")) if table.has("commands") else None
    for unknown in sorted((commands or frozenset()) - (service.commands or {}).keys()):
        table.fail("commands", "commands that are declared", unknown)
    listen = Listen(name, table.callers("callers", callers), commands)
    table.finish()
    return listen


def _commands(root: Table, volumes: Sequence[Volume]) -> dict[str, Command]:
    commands = {name: _command(name, table, volumes) for name, table in root.table("commands").tables()}
    if not commands:
        root.fail("commands", "at least one command, such as [commands.stitch]")
    return commands


def _command(name: str, table: Table, volumes: Sequence[Volume]) -> Command:
    parameters = {key: _parameter(key, below, volumes) for key, below in table.table("parameters").tables()}
    argv = _template(table, "argv", table.array("argv"), parameters)
    argv = (_beside_the_file(table, argv[0]), *argv[1:])
    directory = _directory(table, parameters)
    mentioned = frozenset[str]().union(*(group.names for group in (*argv, *([directory] if directory else []))))
    for unused in parameters.keys() - mentioned:
        table.fail(f"parameters.{unused}", f"a parameter that argv mentions as {{{unused}}}")
    user, home, run_as = _run_as(table)
    landlock = _landlock(table)
    command = Command(
        name=name,
        argv=argv,
        summary=table.text("summary"),
        parameters=parameters,
        timeout=table.seconds("timeout", None),
        directory=directory,
        environment=table.mapping("env"),
        pass_environment=table.variables("pass-env"),
        pass_directory=table.boolean("pass-cwd"),
        scratch=table.boolean("scratch") or SCRATCH in mentioned or landlock is not None,
        grace=table.seconds("grace", None),
        keeps_background=table.choice("background", "stop", ("stop", "keep")) == "keep",
        signals=table.signals("signals"),
        callers=table.optional_callers("callers"),
        stdin=table.boolean("stdin", default=True),
        passes=table.boolean("pass-descriptors", default=True),
        terminal=table.boolean("terminal"),
        landlock=landlock,
        user=user,
        home=home,
        run_as=run_as,
    )
    if command.pass_directory and not volumes:
        table.fail("pass-cwd", "volumes to choose from: declare them as [volumes.NAME]")
    if command.terminal and not command.stdin:
        table.fail("terminal", "a command with `stdin = true`, since a terminal is its stdin, too", True)
    table.finish()
    return command


def _landlock(table: Table) -> tuple[str, ...] | None:
    """Return the paths that a command is confined to; None if it is not confined."""
    if not table.has("landlock"):
        return None
    paths = table.texts("landlock")
    for path in paths:
        if not path or "\0" in path:
            table.fail("landlock", "paths of files and directories", path)
    return tuple(_from_the_file(table, path) for path in paths)


def _run_as(table: Table) -> tuple[str, str, RunAs]:
    """Return the name of the user that a command runs as, that user's home directory, and the rest."""
    user, group, home = table.text("user"), table.text("group"), ""
    uid = gid = groups = None
    try:
        if user:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
            user, home, uid, gid = entry.pw_name, entry.pw_dir, entry.pw_uid, entry.pw_gid
            groups = tuple(os.getgrouplist(user, gid))
        if group:
            gid = min(int(group), _NO_ID) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        table.fail("user" if user and uid is None else "group", "a name that this system knows", user or group)
    if gid == _NO_ID:
        table.fail("group", "a number that a group can have", group)
    if os.geteuid() != 0 and (uid not in {None, os.geteuid()} or gid not in {None, os.getegid()}):
        table.fail("user" if user else "group", "the server's own, since it does not run as root", user or group)
    if os.geteuid() != 0:
        uid = gid = groups = None  # it is all that already, and may not even say so
    umask = table.text("umask")
    if umask and not re.fullmatch("[0-7]{1,4}", umask):
        table.fail("umask", 'an octal number, such as "022"', umask)
    run_as = RunAs(
        uid,
        gid,
        groups,
        umask=int(umask, 8) if umask else -1,
        nice=table.integer("nice", 0, 0, 39),
        oom_score_adj=table.integer("oom-score-adj", RunAs().oom_score_adj, 0, 1000),
        limits=_limits(table.table("limits")),
    )
    return user, home, run_as


def _limits(table: Table) -> tuple[tuple[int, int], ...]:
    limits = tuple((which, table.integer(key, 0, 0, _UNLIMITED)) for key, which in _LIMITS.items() if table.has(key))
    table.finish()
    return limits


def _template(
    table: Table, key: str, items: Sequence[object], parameters: Mapping[str, Parameter]
) -> tuple[Group, ...]:
    groups = []
    for item in items:
        words = [item] if isinstance(item, str) else item
        if (
            not isinstance(words, list)
            or not words
            or not all(isinstance(word, str) and "\0" not in word for word in words)
        ):
            table.fail(key, "strings, or arrays of strings that stand or fall together", item)
        try:
            group = parse_group(words)
        except ValueError as error:
            table.fail(key, f"words with {{parameter}} in them: {error}")
        for name in sorted(group.names - parameters.keys() - {SCRATCH}):
            table.fail(key, f"only declared parameters, but {{{name}}} is none")
        groups.append(group)
    return tuple(groups)


def _directory(table: Table, parameters: Mapping[str, Parameter]) -> Group | None:
    """Return the template of the working directory; a relative path there starts at the configuration's directory."""
    text = table.text("cwd")
    if not text:
        return None
    (directory,) = _template(table, "cwd", [text], parameters)
    for parameter in (parameters[name] for name in sorted(directory.names & parameters.keys())):
        if parameter.type == "flag" or (parameter.optional and parameter.default is None):
            table.fail("cwd", f"only parameters that are always there, but {{{parameter.name}}} is optional", text)
        if parameter.secret:
            table.fail(
                "cwd", f"no secret parameters, since errors name the directory, but {{{parameter.name}}} is secret"
            )
    (literal, name), *rest = directory.words[0].pieces
    beside = os.path.join(os.path.dirname(os.path.abspath(table.file)), literal) if literal else ""
    return Group((Word(((beside, name), *rest)),))


def _beside_the_file(table: Table, first: Group) -> Group:
    """Return the group of the command's first word; a relative path there starts at the configuration's directory."""
    program, *options = first.words
    if program.names:
        table.fail("argv", "a first word without parameters: a caller must not choose the program")
    if first.names:
        table.fail("argv", "a first word by itself: an array with parameters may be left out, or stand twice")
    path = program.fill({}).decode()
    if not path:
        table.fail("argv", "a first word that names a program", path)
    if "/" in path and not os.path.isabs(path):
        path = _from_the_file(table, path)
    return Group((Word(((path, None),)), *options))


def _from_the_file(table: Table, path: str) -> str:
    """Return an absolute path; a relative one starts at the configuration's directory."""
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(table.file)), path))


def _parameter(name: str, table: Table, volumes: Sequence[Volume]) -> Parameter:
    kind = table.text("type", "str")
    if kind not in TYPES:
        table.fail("type", f"one of {', '.join(TYPES)}", kind)
    is_flag, is_number, is_path = kind == "flag", kind in {"int", "float"}, kind == "path"
    parameter = Parameter(
        name=name,
        type=kind,
        help=table.text("help"),
        repeatable=table.boolean("repeatable"),
        optional=not is_flag and table.boolean("optional"),
        default=None if is_flag else _default(table),
        pattern=_pattern(table) if kind == "str" else None,
        allow_leading_dash=kind in {"str", "int", "float"} and table.boolean("allow-leading-dash"),
        choices=table.texts("choices") if kind == "choice" else (),
        minimum=table.number("min") if is_number else None,
        maximum=table.number("max") if is_number else None,
        value=table.text("value", f"--{name}") if is_flag else "",
        max_count=table.integer("max-count", Parameter.max_count, 1),
        secret=table.boolean("secret"),
        access=table.choice("access", "read", ("read", "write")) if is_path else "read",
        volumes=table.texts("volumes") if is_path else (),
        pin=not is_path or table.boolean("pin", default=True),
        atomic=is_path and table.boolean("atomic"),
    )
    table.finish()
    if is_path:
        _check_volumes(parameter, table, {volume.name: volume for volume in volumes})
    _check_parameter(parameter, table)
    return parameter


def _check_volumes(parameter: Parameter, table: Table, volumes: Mapping[str, Volume]) -> None:
    if not volumes:
        table.fail("", "volumes that a path can be on: declare them as [volumes.NAME]")
    for unknown in sorted(set(parameter.volumes) - volumes.keys()):
        table.fail("volumes", f"names of declared volumes: {', '.join(volumes)}", unknown)
    allowed = parameter.volumes or tuple(volumes)
    if parameter.access == "write" and not any(volumes[name].writable for name in allowed):
        table.fail("access", 'a volume that says `access = "write"`, too', "write")
    if parameter.access == "write" and not parameter.atomic:
        for name in allowed:
            if volumes[name].writable and volumes[name].copies:
                table.fail("atomic", f'`true`, since the volume {name} has `commit = "copy"`', False)
    if parameter.atomic and parameter.access != "write":
        table.fail("atomic", 'a path with `access = "write"`', True)


def _default(table: Table) -> str | None:
    value = table.scalar("default")
    return None if value is None else str(value)


def _pattern(table: Table) -> str | None:
    pattern = table.text("pattern")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        table.fail("pattern", f"a regular expression ({error})", pattern)
    return pattern or None


def _check_parameter(parameter: Parameter, table: Table) -> None:
    if parameter.name == SCRATCH:
        table.fail("", f"another name: {{{SCRATCH}}} is the call's own directory")
    if parameter.name == "help":
        table.fail("", "another name: --help describes the command")
    if parameter.minimum is not None and parameter.maximum is not None and parameter.minimum > parameter.maximum:
        table.fail("min", f"at most max, which is {parameter.maximum:g}", parameter.minimum)
    if parameter.minimum is not None and parameter.minimum < 0 and not parameter.allow_leading_dash:
        table.fail(
            "allow-leading-dash", "`true`, since min is negative: such a value looks like an option to the program"
        )
    if parameter.type == "choice" and not parameter.choices:
        table.fail("choices", "at least one choice")
    if parameter.default is not None:
        try:
            parameter.check(parameter.default.encode(), "/")
        except UsageError as error:
            table.fail("default", f"a value that fits ({error.reason})")


def _why_not_writable(target: str) -> str:
    """Return why a file cannot be appended to, as far as can be told without making or opening it; else nothing."""
    if os.path.isdir(target):
        return "it is a directory"
    if os.path.exists(target):
        return "" if os.access(target, os.W_OK) else "it may not be written"
    above = os.path.dirname(target)
    if not os.path.isdir(above):
        return "its directory is not there"
    return "" if os.access(above, os.W_OK | os.X_OK) else "its directory may not be written"
