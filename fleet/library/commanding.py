"""Run a command of people on many hosts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import ConfigError, StoppedError
from fleet.library.reading import ask_all
from fleet.machine import Command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.deploy.stop import Stop
    from fleet.errors import FleetError
    from fleet.inventory import Host
    from fleet.library.reading import OnWait
    from fleet.machine import Connector, Link, Output
    from fleet.model import HostName

TIMEOUT = 600.0
"""Seconds that a command has on each host, unless somebody says otherwise."""
KILL, LATE = 5.0, 20.0
"""Seconds after `timeout` after which it is killed, and after which nobody waits for the host any more."""
KEPT = 256 << 10
"""The last bytes of each output that are kept of a host. A thousand hosts may all say as much."""


def as_command(words: str | Sequence[str], *, timeout: float) -> Command:
    """Return the command: a text is a line for `sh`, and words are a program and its arguments.

    It ends with status 124 if it takes longer than `timeout` seconds, or with 137 if it does not listen to that.
    Raise `ConfigError` if there is nothing to run.
    """
    argv = ("sh", "-c", words) if isinstance(words, str) else tuple(words)
    if not argv or not argv[-1 if isinstance(words, str) else 0].strip():
        raise ConfigError("there is no command to run", hint="fleet exec HOST -- COMMAND")
    if any("\0" in word for word in argv):
        raise ConfigError("a command cannot have a NUL in it")
    # The host ends it, so that what it has written until then is there.
    limited = ("timeout", f"--kill-after={KILL:g}", f"{timeout:.3f}", *argv)
    return Command(argv=limited, timeout=timeout + LATE, keep=KEPT, ends_with_us=True)


async def run_on_all(
    logins: Connector, hosts: Sequence[Host], command: Command, *, at_once: int, stop: Stop, on_wait: OnWait
) -> dict[HostName, Output | FleetError]:
    """Run the command on every host, `at_once` of them at the same time.

    Return what it wrote and how it ended, or why that is not known, in the order of the hosts. At a request to stop, no
    further host begins, and the command is ended where it runs; the answer of these hosts is `StoppedError`.
    """

    begun: set[HostName] = set()

    async def run(host: Host, link: Link) -> Output:
        begun.add(host.name)
        return await link.run(command)

    def told(name: HostName, answer: Output | FleetError) -> Output | FleetError:
        if not isinstance(answer, StoppedError):
            return answer
        is_begun = name in begun
        return StoppedError(f"interrupted{': the command was ended' if is_begun else ' before the command began'}")

    answers = await ask_all(logins, hosts, run, on_wait=on_wait, at_once=at_once, stop=stop)
    return {name: told(name, answer) for name, answer in answers.items()}
