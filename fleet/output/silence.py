"""Keep a terminal from showing what is typed while a table moves on it."""

from __future__ import annotations

import contextlib
import os
import termios
from typing import TextIO


class Silence:
    """Switches the echo of a terminal off and on again.

    What is typed, Ctrl-C too, would be shown in the middle of the table and leave a row behind. Does nothing where the
    stream is no terminal, or where this process is in the background: it would be stopped for the attempt.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_silent = False

    def begin(self) -> None:
        """Stop the echo, if there is one."""
        self._is_silent = self._is_silent or self._set_echo(on=False)

    def end(self) -> None:
        """Echo again, if `begin` has stopped it."""
        if self._is_silent:
            self._is_silent = not self._set_echo(on=True)

    def _set_echo(self, *, on: bool) -> bool:
        """Return whether that has changed something."""
        with contextlib.suppress(termios.error, OSError, ValueError):
            number = self._stream.fileno()
            attributes = termios.tcgetattr(number)
            if bool(attributes[3] & termios.ECHO) == on or _is_in_background(number):
                return False
            attributes[3] ^= termios.ECHO
            termios.tcsetattr(number, termios.TCSANOW, attributes)
            return True
        return False


def _is_in_background(terminal: int) -> bool:
    """Whether another job of the shell has the terminal. A terminal that no shell controls stops nobody."""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        return False
