"""Who can send what when: the conversation's states as data. PROTOCOL.md draws its diagrams from these tables.

Each role has a state of its own, moved by its own messages (`TRANSITIONS`). A few messages of the server also need, and
can move, the client's state (`PEER_STATES`): STARTED, for one, answers a CALL and lets stream data flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecall.protocol import messages as m

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIENT = "client"
SERVER = "server"

IDLE = "idle"
READY = "ready"
CALLING = "calling"
WAITING = "waiting"
RUNNING = "running"
DONE = "done"

TRANSITIONS: Mapping[str, Mapping[str, Mapping[type[m.Message], str]]] = {
    CLIENT: {
        IDLE: {m.Hello: READY},
        READY: {
            m.Ping: READY,
            m.Describe: READY,
            m.Status: READY,
            m.Cancel: READY,
            m.Remove: READY,
            m.Call: CALLING,
            m.Follow: CALLING,
        },
        CALLING: {m.Pass: CALLING, m.Signal: CALLING, m.Resize: CALLING},
        RUNNING: {
            m.Signal: RUNNING,
            m.Resize: RUNNING,
            m.Data: RUNNING,
            m.Eof: RUNNING,
            m.Window: RUNNING,
            m.Stop: RUNNING,
        },
    },
    SERVER: {
        IDLE: {m.Hello: READY},
        READY: {
            m.Notice: READY,
            m.Pong: READY,
            m.Description: READY,
            m.Calls: READY,
            m.Queued: WAITING,
            m.Started: RUNNING,
            m.Refused: DONE,
            m.Exit: DONE,
        },
        WAITING: {m.Notice: WAITING, m.Queued: WAITING, m.Started: RUNNING, m.Refused: DONE, m.Exit: DONE},
        RUNNING: {
            m.Notice: RUNNING,
            m.Data: RUNNING,
            m.Eof: RUNNING,
            m.Window: RUNNING,
            m.Stop: RUNNING,
            m.Exit: DONE,
        },
        DONE: {},
    },
}

PEER_STATES: Mapping[type[m.Message], Mapping[str, str]] = {
    m.Pong: {READY: READY, CALLING: CALLING},
    m.Description: {READY: READY, CALLING: CALLING},
    m.Calls: {READY: READY, CALLING: CALLING},
    m.Queued: {CALLING: CALLING},
    m.Started: {CALLING: RUNNING},
    m.Exit: {CALLING: CALLING, RUNNING: RUNNING},
}

SENDER = {m.STDIN: CLIENT, m.STDOUT: SERVER, m.STDERR: SERVER}
"""Who sends DATA and EOF of a stream; the other one sends WINDOW and STOP for it."""


class Conversation:
    """The states of both roles, as one side sees them."""

    def __init__(self) -> None:
        self.states = {CLIENT: IDLE, SERVER: IDLE}

    def move(self, role: str, message_type: type[m.Message]) -> bool:
        """Move on for a message of `role`; return False, and stay, if it cannot be sent now."""
        next_state = TRANSITIONS[role][self.states[role]].get(message_type)
        if next_state is None:
            return False
        needed = PEER_STATES.get(message_type) if role == SERVER else None
        if needed is not None:
            client_state = needed.get(self.states[CLIENT])
            if client_state is None:
                return False
            self.states[CLIENT] = client_state
        self.states[role] = next_state
        return True
