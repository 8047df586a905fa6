"""Runs that were: what their folders tell, also of those whose controller died."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleet.checks import Answer
from fleet.model import Closure, Failure, Goal, HostName, HostResult, Outcome, Phase, RunId
from fleet.runs import EVENTS

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class PastHost:
    """What the run's folder tells of one host."""

    name: HostName
    closure: Closure | None = None
    previous: Closure | None = None
    reboot: tuple[str, ...] = ()
    pushed: bool = False
    """Whether a push began: roots of the run may be on the host."""
    begun: bool = False
    """Whether the host may have begun to switch."""
    heard: bool = False
    """Whether it has shown that it had begun."""
    by_reboot: bool = False
    """Whether it goes to the new system by way of a reboot."""
    before: dict[str, Answer] = field(default_factory=dict)
    """What the checks said before the switch."""
    result: HostResult | None = None

    @property
    def is_settled(self) -> bool:
        """Whether its end is known: nothing on the host can still change it."""
        if self.result is None or self.result.failure is None:
            return self.result is not None
        return self.result.outcome is not Outcome.NEEDS_HUMAN or self.result.failure.kind not in ("in_doubt", "bug")


@dataclass
class PastRun:
    """One run, as far as its events were written."""

    id: RunId
    folder: Path
    verb: str = ""
    goal: Goal = Goal.SWITCH
    watch: float = 0.0
    strict: bool = False
    hosts: dict[HostName, PastHost] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def is_readable(self) -> bool:
        """Whether the file says what the run was. A loss of power here may have emptied it; the hosts know more."""
        return bool(self.verb)

    @property
    def is_open(self) -> bool:
        """Whether the truth about some host of it is still to be learned."""
        if self.exit_code is None and self.verb in ("deploy", "rollback", "push"):
            return any(not host.is_settled and (host.pushed or host.begun) for host in self.hosts.values())
        return any(host.begun and not host.is_settled for host in self.hosts.values())


def past_runs(state: Path) -> list[PastRun]:
    """All runs whose folders are still there, newest first."""
    folder = state / "runs"
    found = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
    return [read_run(one) for one in found if os.path.isfile(one / EVENTS)]  # noqa: PTH113 - that one may raise


def is_open(folder: Path) -> bool:
    """Whether the truth about some host of the run of this folder is still to be learned."""
    return read_run(folder).is_open


def read_run(folder: Path) -> PastRun:
    """The run of this folder, as far as its file can be read.

    Left out are a last line that was cut when the controller died, and what another version of fleet wrote otherwise.
    """
    run = PastRun(id=RunId(folder.name), folder=folder)
    with contextlib.suppress(OSError):
        for line in (folder / EVENTS).read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                _note(run, json.loads(line))
    return run


def _note(run: PastRun, event: dict[str, Any]) -> None:
    match event.get("event"):
        case "run_started":
            run.verb = run.verb or event["verb"]  # a run that is resumed starts again
            run.goal = Goal(event["goal"])
            run.watch, run.strict = event.get("watch", 0.0), event.get("strict", False)
            run.exit_code = None
            for name in event["hosts"]:
                # Only where its beginning cannot be read is one that is resumed new here: its hosts were asked.
                begun = event["verb"] == "resume"
                run.hosts.setdefault(HostName(name), PastHost(HostName(name), begun=begun))
        case "run_finished":
            run.exit_code = event["exit_code"]
        case _ if "host" in event and event["host"] in run.hosts:
            _note_host(run.hosts[event["host"]], event)


def _note_host(host: PastHost, event: dict[str, Any]) -> None:
    match event["event"]:
        case "host_planned":
            host.closure, host.previous = Closure(event["closure"]), Closure(event["running"])
            host.reboot = tuple(event["reboot"])
        case "phase_started":
            host.pushed = host.pushed or event["phase"] == Phase.PUSH
            host.begun = host.begun or event["phase"] == Phase.SWITCH
            host.heard = host.heard or event["phase"] in (Phase.REBOOT, Phase.PROVE, Phase.COMMIT, Phase.REVERT)
            host.by_reboot = host.by_reboot or event["phase"] == Phase.REBOOT
        case "host_switched":
            host.heard = True
        case "check_reported" if event["stage"] == "before":
            name = event["check"]
            host.before[name] = Answer(check=name, passed=event["passed"], said=event["answer"], seconds=0.0)
        case "host_finished":
            host.result = result_of(event["result"])


def result_of(data: dict[str, Any]) -> HostResult:
    """The result that an event carries."""
    known = {f.name for f in dataclasses.fields(HostResult)}
    fields = {key: value for key, value in data.items() if key in known}
    error = data.get("error")
    failure = None if error is None else Failure(**{**error, "said": tuple(error["said"])})
    fields |= {"host": HostName(data["name"]), "outcome": Outcome(data["outcome"]), "failure": failure}
    return HostResult(**{**fields, "notes": tuple(data.get("notes", ()))})
