"""Run commands in a VM with QEMU's guest agent, which needs no network there.

It does for a VM what `docker exec` does for a container. The protocol:
https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fleet.machine import Output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    Ask = Any

_GREETING = 10.0
"""Seconds in which an agent that is alive usually greets: a VM under emulation is slow."""
_ANSWER = 60.0
"""Seconds in which an agent that has greeted answers."""
_POLL = 0.05


class AgentSilentError(Exception):
    """Nothing answers in the VM, as while it boots."""


def run(place: Path, argv: Sequence[str], *, patience: float = 0.0) -> Output:
    """Run the command in the VM whose socket is `place`/agent.sock, and return its output.

    Raise `AgentSilentError` if nothing answers, not even after `patience` seconds more.
    """
    order = {"path": "/usr/bin/env", "arg": list(argv), "capture-output": True}
    with _agent(place, patience) as ask:
        pid = ask("guest-exec", order)["pid"]
    while True:
        with _agent(place, patience) as ask:
            done = ask("guest-exec-status", {"pid": pid})
        if done["exited"]:
            break
        time.sleep(_POLL)
    stdout, stderr = (
        base64.b64decode(done.get(key, "")).decode(errors="replace").replace("\r\n", "\n")
        for key in ("out-data", "err-data")
    )
    status = 128 + done["signal"] if "signal" in done else done["exitcode"]
    return Output(status=status, stdout=stdout, stderr=stderr)


@contextmanager
def _agent(place: Path, patience: float) -> Iterator[Ask]:
    """Yield a function that asks the agent and returns its answer. One process at a time: QEMU allows no more."""
    deadline = time.monotonic() + patience
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with _greeted(folder, deadline) as connection, connection.makefile("rwb") as stream:
            connection.settimeout(_ANSWER)
            yield lambda command, arguments: _ask(stream, command, arguments)
    except (OSError, ValueError, KeyError) as error:
        raise AgentSilentError(str(error)) from error
    finally:
        os.close(folder)


def _greeted(folder: int, deadline: float) -> socket.socket:
    """Return a connection to an agent that is alive.

    Answers to earlier questions that nobody waited for are skipped.
    """
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_GREETING)
            # Not by the socket's own path: the path of a UNIX socket has at most 107 bytes.
            connection.connect(f"/proc/self/fd/{folder}/agent.sock")
            _synchronise(connection)
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)
        else:
            return connection


def _synchronise(connection: socket.socket) -> None:
    mark = secrets.randbits(32)
    with connection.makefile("rwb") as stream:
        _send(stream, "guest-sync", {"id": mark})
        while (line := stream.readline()) and json.loads(line).get("return") != mark:
            pass
    if not line:
        raise ConnectionResetError("the VM went off")


def _ask(stream: Any, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    _send(stream, command, arguments)
    answer: dict[str, Any] = json.loads(stream.readline())["return"]
    return answer


def _send(stream: Any, command: str, arguments: dict[str, Any]) -> None:
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
