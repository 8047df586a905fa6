"""Have Nix evaluate where it has no logins and little memory: another user's service does it, behind a socket.

What evaluates a flake reads what others have written, and may take whatever it can get. So that is done by somebody
who has nothing. See `fleet.serve.evaluator` for the other end.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from fleet.errors import CommandFailedError
from fleet.machine import Output
from fleet.machine.local import HERE
from fleet.text import parsed_json, without_control

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from fleet.machine import Command, Machine, OnLine, TcpStream

LARGEST = 64 << 20
"""Bytes of one message."""


def is_evaluation(argv: tuple[str, ...]) -> bool:
    """Whether a command lets Nix evaluate something."""
    return argv[:1] == ("nix",) and "eval" in argv


class EvaluatesElsewhere:
    """This machine, but for evaluations."""

    def __init__(self, socket: Path, here: Machine) -> None:
        """`socket` is where the service answers, once for each connection."""
        self._socket = socket
        self._here = here

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`."""
        if not is_evaluation(command.argv):
            return await self._here.run(command, on_line=on_line)
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket, limit=LARGEST)
        except OSError as error:
            raise self._failed(command, f"cannot be reached at {self._socket}: {error.strerror}") from error
        try:
            writer.write(json.dumps(command.argv).encode() + b"\n")
            await writer.drain()
            while line := await reader.readline():
                found = _message(line)
                if "status" in found:
                    return Output(
                        status=int(found["status"]),
                        stdout=str(found.get("stdout", "")),
                        stderr=without_control(str(found.get("stderr", ""))),
                    )
                if on_line is not None:
                    on_line(without_control(str(found.get("line", ""))))
        except (OSError, ValueError) as error:
            raise self._failed(command, f"says what cannot be read: {error}") from error
        finally:
            writer.close()
        raise self._failed(command, "was ended: it took more memory or time than it may have")

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        """See `Machine.dial`."""
        return self._here.dial(host, port, timeout=timeout)

    @staticmethod
    def _failed(command: Command, what: str) -> CommandFailedError:
        return CommandFailedError(HERE, f"the service that evaluates {what}", ran=str(command)[:500])


def _message(line: bytes) -> dict[str, Any]:
    """Return a message. Raise `ValueError` for what is none."""
    found = parsed_json(line)
    if not isinstance(found, dict):
        raise ValueError("it is no message")  # noqa: TRY004 - as for any other text
    return found
