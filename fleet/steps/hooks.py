"""Run the hooks that people have declared for a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import HookError, HostError
from fleet.events import OutputLine, PhaseStarted
from fleet.inventory.hooks import When
from fleet.machine import Command
from fleet.model import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fleet.events import Emit
    from fleet.inventory import Host
    from fleet.inventory.hooks import Hook
    from fleet.machine import Machine

LONGEST_OUTPUT = 64 << 10
"""Bytes that are kept of a hook's output, which may have no end."""
TOLD = 20
"""The most lines of it that are told."""
PHASES = {
    When.BEFORE_CONTACT: Phase.PREFLIGHT,
    When.BEFORE_PUSH: Phase.PUSH,
    When.BEFORE_SWITCH: Phase.SWITCH,
    When.AFTER_COMMIT: Phase.COMMIT,
    When.AFTER_ROLLBACK: Phase.REVERT,
}


class Hooks:
    """The hooks of one host in one run."""

    def __init__(self, host: Host, *, here: Machine, folder: Path, emit: Emit, environment: Mapping[str, str]) -> None:
        """`folder` is that of fleet.toml. The `environment` is what hooks are told, beside the name of the host."""
        self._host = host
        self._here = here
        self._folder = folder
        self._emit = emit
        self._environment = {"FLEET_HOST": host.name, **environment}

    def at(self, when: When) -> Sequence[Hook]:
        """Return the hooks that run then, in the order of fleet.toml."""
        return [hook for hook in self._host.hooks if hook.when is when]

    async def run(self, when: When, machine: Machine | None, **environment: str) -> list[str]:
        """Run the hooks for this moment one after another, and return what to tell of those that failed and may.

        `machine` is the host; None if it is not reached yet. Raise `HookError` at the first that failed and may not.
        """
        notes = []
        for hook in self.at(when):
            if (why := await self._run(hook, machine, environment)) is None:
                continue
            message = f"hook {hook.name} ({when}, on the {hook.on}) {why}"
            if not hook.may_fail:
                raise HookError(self._host.name, message, hint="fleet.toml has the hook; may_fail = true only tells it")
            notes.append(message)
        return notes

    async def _run(self, hook: Hook, machine: Machine | None, environment: Mapping[str, str]) -> str | None:
        """Run one hook. Return why it failed; None if it did not."""
        known = (f"{key}={value}" for key, value in {**self._environment, **environment}.items())
        command, is_here = ("sh", "-c", hook.command), hook.on == "controller"
        where = ("-C", str(self._folder)) if is_here else ()
        runner = self._here if is_here else machine
        if runner is None:
            return "cannot run before the host is reached"
        self._say(hook)
        runs = Command(
            argv=("env", *where, *known, *command),
            timeout=hook.timeout,
            root=not is_here,
            ends_with_us=not is_here,
            keep=LONGEST_OUTPUT,
            name=hook.name,
        )
        try:
            ran = await runner.run(runs)
        except HostError as error:
            return error.message.removeprefix(f"{runs.program} ")
        lines = [line for text in (ran.stdout, ran.stderr) for line in text.splitlines() if line.strip()]
        for line in lines[-TOLD:]:
            self._emit(OutputLine(host=self._host.name, phase=PHASES[hook.when], text=line))
        if ran.status == 0:
            return None
        return f"failed with exit status {ran.status}" + (f": {lines[-1].strip()}" if lines else "")

    def _say(self, hook: Hook) -> None:
        """Tell that a hook runs, which may take hours. Before the first contact all hosts are in one phase together."""
        if hook.when is When.BEFORE_CONTACT:
            return
        self._emit(PhaseStarted(host=self._host.name, phase=Phase.HOOK))
        text = f"hook {hook.name} runs on the {hook.on}, for up to {hook.timeout:g} s"
        self._emit(OutputLine(host=self._host.name, phase=Phase.HOOK, text=text))
