"""Everything that a run can report: facts as values, their JSON, and how it is read back.

Work emits events; screens and files subscribe to them.
"""

from fleet.events.decode import DecodeError, decode
from fleet.events.encode import KINDS, encode, envelope_json, event_json, event_name
from fleet.events.envelope import Envelope, Envelopes
from fleet.events.kinds import (
    BuildFinished,
    CheckReported,
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
    HostSwitched,
    OutputLine,
    PhaseStarted,
    PushFinished,
    PushProgressed,
    RolloutAsked,
    RunFinished,
    RunInterrupted,
    RunStarted,
    SoakFinished,
    SoakStarted,
    UndoStarted,
    WaveFinished,
    WaveStarted,
)
from fleet.events.policy import PolicyApplied
from fleet.events.recording import RecordingLost, RecordingResumed
from fleet.events.secrets import SecretsCompared, SecretsFilled
from fleet.events.subscribe import Emit, fan_out
from fleet.events.turns import HostQueued, HostReplanned
from fleet.text import plain_text

__all__ = [
    "KINDS",
    "BuildFinished",
    "CheckReported",
    "DecodeError",
    "Emit",
    "Envelope",
    "Envelopes",
    "EvaluationFinished",
    "Event",
    "FindingReported",
    "HooksStarted",
    "HostCondemned",
    "HostEvent",
    "HostFetched",
    "HostFinished",
    "HostPlanned",
    "HostProven",
    "HostQueued",
    "HostReplanned",
    "HostSwitched",
    "OutputLine",
    "PhaseStarted",
    "PolicyApplied",
    "PushFinished",
    "PushProgressed",
    "RecordingLost",
    "RecordingResumed",
    "RolloutAsked",
    "RunFinished",
    "RunInterrupted",
    "RunStarted",
    "SecretsCompared",
    "SecretsFilled",
    "SoakFinished",
    "SoakStarted",
    "UndoStarted",
    "WaveFinished",
    "WaveStarted",
    "decode",
    "encode",
    "envelope_json",
    "event_json",
    "event_name",
    "fan_out",
    "plain_text",
]
