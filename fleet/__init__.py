"""Deploys NixOS to a fleet of hosts, and cannot leave one broken.

    async with Fleet.open("fleet.toml") as fleet:
        plan = await fleet.plan("@prod")
        async for event in (run := fleet.apply(plan)):
            print(event)
        result = await run

docs/library.md describes all of it. Names are loaded when they are first used, so that `import fleet` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.deploy.options import Options, PlanOptions
    from fleet.deploy.run import RunResult
    from fleet.deploy.stop import Stop
    from fleet.diff import SystemDiff
    from fleet.drift.finding import Drift, DriftFinding, DriftReport
    from fleet.errors import (
        AnswerError,
        AuthenticationError,
        BugError,
        BuildError,
        CommandFailedError,
        ConfigError,
        EvaluationError,
        FleetError,
        HookError,
        HostError,
        HostKeyError,
        LockedError,
        PolicyError,
        PushError,
        QuarantinedError,
        StaleError,
        StateError,
        StoppedError,
        SwitchError,
        UnfitError,
        UnreachableError,
    )
    from fleet.events import (
        BuildFinished,
        CheckReported,
        Envelope,
        EvaluationFinished,
        Event,
        FindingReported,
        HooksStarted,
        HostCondemned,
        HostEvent,
        HostFetched,
        HostFinished,
        HostPlanned,
        HostProven,
        HostQueued,
        HostReplanned,
        HostSwitched,
        OutputLine,
        PhaseStarted,
        PolicyApplied,
        PushFinished,
        PushProgressed,
        RecordingLost,
        RecordingResumed,
        RolloutAsked,
        RunFinished,
        RunInterrupted,
        RunStarted,
        SoakFinished,
        SoakStarted,
        UndoStarted,
        WaveFinished,
        WaveStarted,
        decode,
        encode,
    )
    from fleet.host.answers import Generation
    from fleet.host.facts import HostFacts
    from fleet.host.history import PastTransaction
    from fleet.host.tickets import Ticket
    from fleet.library.changes import Changes
    from fleet.library.fleet import Fleet
    from fleet.library.plans import read_plan, write_plan
    from fleet.library.runs import Planning, Run
    from fleet.library.views import Health
    from fleet.model import (
        Failure,
        FailureKind,
        Goal,
        HostName,
        HostResult,
        Outcome,
        Phase,
        Reboot,
        RunId,
        Severity,
        Verb,
    )
    from fleet.plans import Forecast, LeftOut, Part, Plan, Source
    from fleet.state import RunRecord

__version__ = "0.2.0"

_HOMES = {
    "fleet.deploy.options": "Options PlanOptions",
    "fleet.deploy.run": "RunResult",
    "fleet.deploy.stop": "Stop",
    "fleet.diff": "SystemDiff",
    "fleet.drift.finding": "Drift DriftFinding DriftReport",
    "fleet.errors": """
        AnswerError AuthenticationError BugError BuildError CommandFailedError ConfigError EvaluationError
        FleetError HookError HostError HostKeyError LockedError PolicyError PushError QuarantinedError StaleError
        StateError StoppedError SwitchError UnfitError UnreachableError
    """,
    "fleet.events": """
        BuildFinished CheckReported Envelope EvaluationFinished Event FindingReported HooksStarted HostCondemned
        HostEvent HostFetched HostFinished HostPlanned HostProven HostQueued HostReplanned HostSwitched OutputLine
        PhaseStarted PolicyApplied PushFinished PushProgressed RecordingLost RecordingResumed RolloutAsked RunFinished
        RunInterrupted RunStarted SoakFinished SoakStarted UndoStarted WaveFinished WaveStarted decode encode
    """,
    "fleet.host.answers": "Generation",
    "fleet.host.facts": "HostFacts",
    "fleet.host.history": "PastTransaction",
    "fleet.host.tickets": "Ticket",
    "fleet.library.changes": "Changes",
    "fleet.library.fleet": "Fleet",
    "fleet.library.plans": "read_plan write_plan",
    "fleet.library.runs": "Planning Run",
    "fleet.library.views": "Health",
    "fleet.model": "Failure FailureKind Goal HostName HostResult Outcome Phase Reboot RunId Severity Verb",
    "fleet.plans": "Forecast LeftOut Part Plan Source",
    "fleet.state": "RunRecord",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AnswerError",
    "AuthenticationError",
    "BugError",
    "BuildError",
    "BuildFinished",
    "Changes",
    "CheckReported",
    "CommandFailedError",
    "ConfigError",
    "Drift",
    "DriftFinding",
    "DriftReport",
    "Envelope",
    "EvaluationError",
    "EvaluationFinished",
    "Event",
    "Failure",
    "FailureKind",
    "FindingReported",
    "Fleet",
    "FleetError",
    "Forecast",
    "Generation",
    "Goal",
    "Health",
    "HookError",
    "HooksStarted",
    "HostCondemned",
    "HostError",
    "HostEvent",
    "HostFacts",
    "HostFetched",
    "HostFinished",
    "HostKeyError",
    "HostName",
    "HostPlanned",
    "HostProven",
    "HostQueued",
    "HostReplanned",
    "HostResult",
    "HostSwitched",
    "LeftOut",
    "LockedError",
    "Options",
    "Outcome",
    "OutputLine",
    "Part",
    "PastTransaction",
    "Phase",
    "PhaseStarted",
    "Plan",
    "PlanOptions",
    "Planning",
    "PolicyApplied",
    "PolicyError",
    "PushError",
    "PushFinished",
    "PushProgressed",
    "QuarantinedError",
    "Reboot",
    "RecordingLost",
    "RecordingResumed",
    "RolloutAsked",
    "Run",
    "RunFinished",
    "RunId",
    "RunInterrupted",
    "RunRecord",
    "RunResult",
    "RunStarted",
    "Severity",
    "SoakFinished",
    "SoakStarted",
    "Source",
    "StaleError",
    "StateError",
    "Stop",
    "StoppedError",
    "SwitchError",
    "SystemDiff",
    "Ticket",
    "UndoStarted",
    "UnfitError",
    "UnreachableError",
    "Verb",
    "WaveFinished",
    "WaveStarted",
    "__version__",
    "decode",
    "encode",
    "read_plan",
    "write_plan",
]


def __getattr__(name: str) -> object:
    """Import a public name from its module at the first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
