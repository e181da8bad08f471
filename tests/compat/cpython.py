"""Runs CPython's own tests of subprocess and asyncio.subprocess with each command run by sidecall.

Each Popen executes `sidecall exec SERVICE` in front of its arguments and passes on the variables that it sets. All else
(descriptors, working directory, process groups, preexec_fn) applies to the client, as for any local program. The tests
compare what they get with what a local process gives, so each failure is a difference, or something that cannot cross.

With `--library`, `sidecall.Popen` is in the place of `subprocess.Popen`; there is no client then, and arguments that it
does not have are left out.

usage: PYTHON tests/compat/cpython.py SIDECALL [--library] [TEST...]
    PYTHON     an interpreter with its own `test` package
    SIDECALL   the installed command
    TEST       test.test_subprocess by default, and without --library test.test_asyncio.test_subprocess
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, AnyStr

NOT_RAISED = (
    "a command that cannot be started is reported by the client's exit status, since Popen has started the client"
)
CLIENTS_OWN = "it is set for the client; the command has what the server has, or what the configuration says"
ONLY_THREE = "only stdin, stdout and stderr cross"
POSIX_SPAWN = "it replaces _fork_exec, and from Python 3.13 on a program with a path is started by posix_spawn"
SHOWS_CLIENT = "it shows or checks the arguments, which have the client in front here"

EXPECTED = {
    "test_invalid_args": NOT_RAISED,
    "test_exception_bad_args_0": NOT_RAISED,
    "test_exception_bad_executable": NOT_RAISED,
    "test_leak_fast_process_del_killed": NOT_RAISED,
    "test_cwd_with_absolute_arg": NOT_RAISED,
    "test_cwd_with_relative_arg": NOT_RAISED,
    "test_cwd_with_relative_executable": NOT_RAISED,
    "test_double_close_on_error": NOT_RAISED,
    "test_executable_takes_precedence": NOT_RAISED,
    "test_file_not_found_includes_filename": NOT_RAISED,
    "test_handles_closed_on_exception": NOT_RAISED,
    "test_leaking_fds_on_error": NOT_RAISED,
    "test_close_fds": ONLY_THREE,
    "test_pass_fds": ONLY_THREE,
    "test_pass_fds_inheritable": ONLY_THREE,
    "test_pass_fds_redirected": ONLY_THREE,
    "test_extra_groups": CLIENTS_OWN,
    "test_extra_groups_empty_list": CLIENTS_OWN,
    "test_group": CLIENTS_OWN,
    "test_user": CLIENTS_OWN,
    "test_umask": CLIENTS_OWN,
    "test_preexec": CLIENTS_OWN,
    "test_restore_signals": CLIENTS_OWN,
    "test_exception_errpipe_bad_data": POSIX_SPAWN,
    "test_exception_errpipe_normal": POSIX_SPAWN,
    "test_repr": SHOWS_CLIENT,
    "test_run_with_pathlike_path": SHOWS_CLIENT,
}
"""Tests that cannot pass, with the reason."""

PRIVATE = "it looks at what is private to subprocess.Popen"
NO_PID = "there is no local process, so there is no pid"
NOT_RUN_BY_CLIENT = "sidecall.Popen has no such argument: the service decides"
OTHER_ERROR = "it is a UsageError, not a ValueError"
LIBRARY_EXPECTED = {
    **dict.fromkeys(
        (
            "test__use_vfork",
            "test_call_keyboardinterrupt_no_kill",
            "test_class_getitems",
            "test_communicate_BrokenPipeError_stdin_close",
            "test_communicate_BrokenPipeError_stdin_close_with_timeout",
            "test_communicate_BrokenPipeError_stdin_flush",
            "test_communicate_BrokenPipeError_stdin_write",
            "test_context_manager_keyboardinterrupt_no_kill",
            "test_exception_errpipe_bad_data",
            "test_exception_errpipe_normal",
            "test_failed_child_execute_fd_leak",
            "test_repr",
            "test_run_keyboardinterrupt_no_kill",
        ),
        PRIVATE,
    ),
    **dict.fromkeys(
        ("test_leak_fast_process_del_killed", "test_send_signal_race", "test_stopped", "test_zombie_fast_process_del"),
        NO_PID,
    ),
    **dict.fromkeys(
        ("test_close_fds", "test_pass_fds", "test_pass_fds_inheritable", "test_pass_fds_redirected"), ONLY_THREE
    ),
    **dict.fromkeys(
        (
            "test_extra_groups",
            "test_extra_groups_empty_list",
            "test_extra_groups_invalid_gid_t_values",
            "test_group",
            "test_pipesizes",
            "test_preexec",
            "test_preexec_errpipe_does_not_double_close_pipes",
            "test_preexec_exception",
            "test_restore_signals",
            "test_umask",
            "test_user",
        ),
        NOT_RUN_BY_CLIENT,
    ),
    **dict.fromkeys(("test_invalid_cmd", "test_invalid_env", "test_surrogates_error_message"), OTHER_ERROR),
    "test_run_with_pathlike_path": SHOWS_CLIENT,
}
"""Likewise, with `--library`."""

DEFAULT = ("test.test_subprocess", "test.test_asyncio.test_subprocess")


def wrap_popen(sidecall: str, service: str) -> None:
    """Have every Popen start its command by `sidecall exec`."""
    original = subprocess.Popen.__init__
    base = dict(os.environ)

    def start(self: Any, args: Any, *rest: Any, **options: Any) -> None:
        if isinstance(args, (str, bytes)) or hasattr(args, "__fspath__"):
            args = [args]
        args = list(args)
        if options.pop("shell", False):
            args = [options.pop("executable", None) or "/bin/sh", "-c", *args]
        elif executable := options.pop("executable", None):
            args = [executable, *args[1:]]
        env = options.get("env")
        given = {} if env is None else {key: value for key, value in env.items() if base.get(key) != value}
        variables = [
            word for key, value in given.items() for word in ("--env", f"{os.fsdecode(key)}={os.fsdecode(value)}")
        ]
        if env is not None:
            options["env"] = {**base, **env}
        directory = os.getcwd() if options.get("cwd") is None else os.path.abspath(os.fsdecode(options["cwd"]))
        prefix = [sidecall, "exec", "-q", "--cwd", directory, *variables, service]
        original(self, [*prefix, *args], *rest, **options)

    subprocess.Popen.__init__ = start  # type: ignore[method-assign]


def use_library(service: str) -> None:
    """Put `sidecall.Popen` in the place of `subprocess.Popen`."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "src"))
    import sidecall

    base = dict(os.environ)
    taken = {"stdin", "stdout", "stderr", "encoding", "errors"}

    class Popen(sidecall.Popen[AnyStr]):
        def __init__(self, args: Any, bufsize: Any = -1, executable: Any = None, *_: Any, **options: Any) -> None:
            if not isinstance(bufsize, int | None):
                raise TypeError("bufsize must be an integer")
            if options.get("startupinfo") or options.get("creationflags"):
                raise ValueError("for Windows alone")
            text, lines = options.get("text"), options.get("universal_newlines")
            if text is not None and lines is not None and bool(text) != bool(lines):
                raise subprocess.SubprocessError("text and universal_newlines contradict each other")
            words: list[Any] = [args] if isinstance(args, (str, bytes)) or hasattr(args, "__fspath__") else list(args)
            if options.get("shell"):
                words = [executable or "/bin/sh", "-c", *words]
            elif executable:
                words = [executable, *words[1:]]
            env = {os.fsdecode(name): os.fsdecode(value) for name, value in (options.get("env") or {}).items()}
            super().__init__(  # type: ignore[misc]
                service,
                words,
                bufsize=-1 if bufsize is None else bufsize,
                text=bool(text or lines),
                cwd=options.get("cwd") or os.getcwd(),
                env={name: value for name, value in env.items() if base.get(name) != value},
                **{name: value for name, value in options.items() if name in taken},
            )
            self.args = args

    subprocess.Popen = Popen  # type: ignore[assignment,misc]


def main(sidecall: str, *names: str) -> int:
    """Run the tests; print each failure, and how many passed."""
    by_library = names[:1] == ("--library",)
    names = names[by_library:] or DEFAULT[: 1 if by_library else None]
    expected = LIBRARY_EXPECTED if by_library else EXPECTED
    with tempfile.TemporaryDirectory() as directory:
        os.environ["SIDECALL_DIR"] = directory
        server = subprocess.Popen([sidecall, "serve", "--allow-any", "compat"])
        try:
            subprocess.run(
                [sidecall, "ping", "--connect-timeout", "20", "compat"], check=True, stdout=subprocess.DEVNULL
            )
            if by_library:
                use_library("compat")
            else:
                wrap_popen(sidecall, "compat")
            suite = unittest.defaultTestLoader.loadTestsFromNames(names)
            result = unittest.TextTestRunner(verbosity=0, buffer=True).run(suite)
        finally:
            server.terminate()
            server.wait()
    bad = {test.id().partition(" ")[0]: text for test, text in (*result.failures, *result.errors)}
    unexpected = 0
    for name, text in sorted(bad.items()):
        reason = expected.get(name.rpartition(".")[2], "")
        unexpected += not reason
        print(f"{name}: {reason or 'UNEXPECTED: ' + text.strip().splitlines()[-1][:150]}")
    count = result.testsRun - len(result.skipped)
    print(f"{count - len(bad)} of {count} tests passed; {unexpected} unexpected failures")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
