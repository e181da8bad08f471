"""The calls of the soak: a command or client behaves badly in one way, and the end is known if nothing disturbs it."""

from __future__ import annotations

from typing import NamedTuple

MARK = "98765"
"""In the words or the environment of everything that a command starts: what is left of a call is found by it."""

_BULK = 300_000
_MANY = b"y" * _BULK


class Adversary(NamedTuple):
    """One command.

    Attributes:
        name: what it does.
        script: the same for sh(1).
        status: how it ends: its exit code, or minus its signal.
        stdin: what it is given.
        stdout: what it prints.
        stderr: how many bytes it prints there.
        client: what is special about its client, one of CLIENTS.
        weight: how often it is chosen.
    """

    name: str
    script: str
    status: int = 0
    stdin: bytes = b""
    stdout: bytes = b""
    stderr: int = 0
    client: str = ""
    weight: int = 10


LINGERING, STALLED, FORWARDED, CONFINED = CLIENTS = ("lingering", "stalled", "forwarded", "confined")
"""Its stdin is a socket whose close blocks; it reads late; a forwarder of bytes is in between; the server that it calls
can have few processes."""

_FORK_CHAIN = "import os\\nfor _ in range(2000):\\n if os.fork(): os._exit(0)\\n os.setsid()"
_CHAIN = "import os\\nwhile 1:\\n if os.fork(): os._exit(0)\\n os.setsid()"
_BOMB = "import os\\nwhile 1:\\n try: os.fork()\\n except OSError: pass"

ADVERSARIES = (
    Adversary("exits", "exit 7", 7),
    Adversary("dies of TERM", "kill -TERM $$", -15),
    Adversary("dies of KILL", "kill -KILL $$", -9),
    Adversary("dumps core", "cd /tmp && ulimit -c 1 2>/dev/null; kill -QUIT $$", -3),
    Adversary("echoes", "cat", 0, _MANY, _MANY),
    Adversary("writes after its stdin ended", "cat >/dev/null; echo late", 0, _MANY, b"late\n"),
    Adversary("writes much", f"head -c {_BULK} /dev/zero | tr '\\0' x", 0, b"", b"x" * _BULK),
    Adversary("fills its stderr", f"head -c {_BULK} /dev/zero >&2; exit 4", 4, stderr=_BULK),
    Adversary(
        "floods both", f"head -c {_BULK} /dev/zero >&2 & head -c {_BULK} /dev/zero; wait", 0, b"", bytes(_BULK), _BULK
    ),
    Adversary("exits before it reads", "exit 5", 5, _MANY),
    Adversary("stops reading", "head -c 10 >/dev/null; sleep 0.1; exit 6", 6, _MANY),
    Adversary("closes its streams", "exec 0<&- 1>&- 2>&-; sleep 0.05; exit 3", 3, b"x"),
    Adversary("ignores TERM", "trap '' TERM INT HUP; sleep 0.2; echo done", 0, b"", b"done\n"),
    Adversary("leaves a helper", f"sleep {MARK} & echo left", 0, b"", b"left\n"),
    Adversary("leaves a deaf helper", f"(trap '' TERM; sleep {MARK}; sleep {MARK}) & echo left", 0, b"", b"left\n"),
    Adversary(
        "daemonises", f"setsid sh -c 'trap \"\" TERM HUP; (sleep {MARK} &) ; sleep {MARK}' & echo up", 0, b"", b"up\n"
    ),
    Adversary(
        "daemonises without environment",
        f"env -i /usr/bin/setsid -f /bin/sh -c 'trap \"\" TERM; sleep {MARK}'; exit 8",
        8,
    ),
    Adversary("forks while it is killed", f"python3 -I -S -c \"exec('{_FORK_CHAIN}')\" & exit 9", 9),
    Adversary(
        "changes O_NONBLOCK",
        "python3 -I -S -c 'import os\nfor fd in 0, 1, 2: os.set_blocking(fd, False)\nos.write(1, b\"set\")'; exit 2",
        2,
        b"",
        b"set",
    ),
    Adversary("forks a chain without end", f"python3 -I -S -c \"exec('{_CHAIN}')\" & exit 9", 9, weight=5),
    Adversary("is a fork bomb", f"python3 -I -S -c \"exec('{_BOMB}')\" & exit 9", 9, client=CONFINED, weight=2),
    Adversary("has a lingering socket as stdin", "echo out; exit 5", 5, b"", b"out\n", client=LINGERING),
    Adversary("reads a lingering socket", "cat; exit 5", 5, _MANY, _MANY, client=LINGERING),
    Adversary("is read late", f"exec head -c {_BULK} /dev/zero", 0, b"", bytes(_BULK), client=STALLED),
    Adversary("is called through a forwarder", "cat; exit 7", 7, _MANY, _MANY, client=FORWARDED),
    Adversary("answers through a forwarder", f"exec head -c {_BULK} /dev/zero", 0, b"", bytes(_BULK), client=FORWARDED),
    Adversary("ends early through a forwarder", "exit 8", 8, _MANY, client=FORWARDED),
)
