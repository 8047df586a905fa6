"""The words of the fault table: a fault, where it strikes, and what is true afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.containers.driver import WEB
from tests.faults.scene import Scene, system

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.containers.driver import Run

PHASES = ("preflight", "push", "begin", "switching", "switched", "committing", "reverting")
OLD, NEW = ("old", "old", "old"), ("new", "new", "new")


@dataclass(frozen=True, kw_only=True)
class Row:
    """How a cell ends. `on` is what the host runs, keeps and boots."""

    outcome: str
    code: int
    on: tuple[str, str, str]
    kind: str = ""
    says: str = ""
    """What the person is told, as a regular expression over the failure's parts."""
    or_else: Row | None = None
    """Where the fault leaves it open which of two ways it ends."""
    blamed: bool | None = None
    """Whether the closure is in quarantine afterwards: found bad for what it did itself, and the old system does not do
    too. None where the fault leaves that open."""
    leaves: str = ""
    """Roots that may stay on the host beyond the two, as a regular expression."""


KEPT = Row(outcome="kept", code=0, on=NEW, blamed=False)
GONE_BACK = Row(outcome="rolled_back", code=1, on=OLD, blamed=True)
"""Of a system whose check fails, whatever befalls the way back."""
FAILED = Row(outcome="failed", code=1, on=OLD, blamed=False)


def strike_nothing(scene: Scene) -> None:
    """The fault is in the closure, or was there before."""


def no_preparation(scene: Scene) -> None:
    """The host is as it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fault:
    """Something that befalls a deployment. The first of `rows` is the worst phase."""

    name: str
    rows: Mapping[str, Row]
    strike: Callable[[Scene], None] = strike_nothing
    """Called when the host has come to the phase."""
    prepare: Callable[[Scene], None] = no_preparation
    """Called before the deployment starts."""
    nix: str = ""
    """Further lines of the new system."""
    web: str = ""
    """Further lines of its service."""
    status: int = 200
    checks: tuple[Mapping[str, Any], ...] = (WEB,)
    arguments: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    of_run: bool = False
    """Whether it befalls the run itself, which then has to have started."""
    then: Callable[[Scene], Run] | None = None
    """What people do afterwards; the row is about that run."""
    undo: Callable[[Scene], None] = strike_nothing
    """What `restore` and the next reset of the host cannot undo."""
    also: Callable[[Scene, Run], None] | None = None
    """What else is so afterwards, beside what the row says."""
    slow: bool = False
    """Only in the full table: it takes long, and most of what it shows is shown by a test that does not."""
    shown_by: str = ""
    """Only in the full table: this test on lab hosts, which `make test` plays, shows what the worst phase would."""
    xfail: Mapping[str, str] = field(default_factory=dict)
    """Phases with a defect that is known and not yet mended."""


@dataclass(frozen=True)
class Cell:
    """One fault in one phase."""

    fault: Fault
    phase: str

    @property
    def row(self) -> Row:
        return self.fault.rows[self.phase]

    def __str__(self) -> str:
        return f"{self.fault.name}-{self.phase}".replace(" ", "_")

    def closure(self, scene: Scene) -> str:
        """The new system, in which the phase lasts long enough for something to befall it."""
        slow, status = "", self.fault.status
        if self.fault.strike is strike_nothing:
            pass  # the fault is in the closure
        elif self.phase == "switching":
            slow = "activationScript = ''[ \"$NIXOS_ACTION\" != test ] || sleep 2.5'';"
        elif self.phase == "committing":
            slow = 'beforeBootLoader = "sleep 2.5";'
        elif self.phase == "reverting":
            status = 503
        text = system(scene.version(), status=status, web=self.fault.web, more=f"{slow} {self.fault.nix}")
        return scene.build(text)

    def reach(self, scene: Scene) -> None:
        """The deployment is in the phase, and will be for a while."""
        assert scene.run is not None
        if self.fault.strike is strike_nothing:
            return
        if self.phase == "preflight":
            scene.run.wait_for("phase_started", phase="preflight")
        elif self.phase == "push":
            scene.run.wait_for("phase_started", phase="push")
        elif self.phase == "begin":
            scene.run.wait_for("phase_started", phase="switch")
        else:
            scene.at(self.phase)
