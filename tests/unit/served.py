"""A fleet that is served: hosts that were seen, runs of every kind, plans and a ledger, and a browser's manners."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

from starlette.testclient import TestClient

from fleet.events import (
    CheckReported,
    Envelope,
    Envelopes,
    HostFinished,
    HostPlanned,
    HostProven,
    HostSwitched,
    PhaseStarted,
    PushFinished,
    RunFinished,
    RunStarted,
)
from fleet.library.seen import LastSeen
from fleet.model import Closure, Failure, FailureKind, Goal, HostName, HostResult, Outcome, Phase, RunId
from fleet.plans import Source
from fleet.plans.part import Forecast
from fleet.policy import Actor, PrincipalKind
from fleet.serve.app import application, new_site
from fleet.serve.settings import settings
from fleet.serve.source import Source as FleetSource
from tests.unit.agents import WorldDesk
from tests.unit.builders import facts
from tests.unit.ledgers import USUAL
from tests.unit.world import Applying

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from fleet.events import Event
    from fleet.plans import Part, Plan
    from fleet.serve.guard import Guard
    from fleet.serve.settings import Settings
    from fleet.serve.site import Site
    from tests.unit.world import World

BASE = "http://127.0.0.1:8420"
OURS = {"sec-fetch-site": "same-origin", "origin": BASE}
"""What a browser says of a request that a page of ours has made."""
SECRET = "hunter2"
DAY = 86_400
KINDS = ("web", "db", "gpu", "pi", "build", "edge")


def closure(host: str, version: str) -> Closure:
    """A system of the host."""
    return Closure(f"/nix/store/{version.replace('.', '')[:8]:a<32}-nixos-system-{host}-{version}")


OLD, NEW = "25.11.8123", "25.11.8467"


def names_of(count: int) -> list[str]:
    """Names of so many hosts, as people give them."""
    return [f"{KINDS[number % len(KINDS)]}-{number // len(KINDS) + 1:02}" for number in range(count)]


def fleet_of(folder: Path, count: int = 24) -> Applying:
    """A fleet of so many hosts that all have been seen, but for one; some of them are not well."""
    more = (
        f'tags = ["prod", "europe"]\n'
        f'checks = [{{ name = "shop", http = "http://127.0.0.1/?token={SECRET}", headers = {{ A = "{SECRET}" }} }}]\n'
    )
    names = names_of(count)
    world = Applying(folder, *names, more=more)
    now = time.time()
    seen = {}
    for number, name in enumerate(names[:-1]):
        failed = ("nginx.service", "acme-example.org.service") if number % 97 == 3 else ()
        pending = {"kernel": "/nix/store/k2/bzImage"} if number % 41 == 7 else {}
        one = facts(
            running=closure(name, OLD if number % 3 else NEW),
            failed_units=failed,
            booted_parts={**facts().booted_parts, **pending},
            nix_free=(12 + number % 80) << 30,
            generation=str(40 + number % 9),
            link=f"system-41-link@{int(now) - (1 + number % 30) * DAY}.5",
            profile=closure(name, OLD if number % 3 else NEW),
        )
        seen[HostName(name)] = LastSeen.of(one, now - 20 - number % 400).record()
    world.state.remember_seen(seen, known=list(world.inventory.hosts))
    return world


def envelopes(run: str, by: str, began: float, events: Iterable[tuple[float, Event]]) -> list[Envelope]:
    """Events of a run, each so many seconds after its beginning."""
    told = sorted(events, key=lambda pair: pair[0])
    times = iter([began + at for at, _ in told])
    made = Envelopes(RunId(run), by, clock=lambda: next(times))
    return [made.wrap(event) for _, event in told]


def whole(name: str, at: float, outcome: Outcome) -> Iterator[tuple[float, Event]]:
    """What happens to a host in a run, from `at` on."""
    host = HostName(name)
    old, new = closure(name, OLD), closure(name, NEW)
    yield at, PhaseStarted(host=host, phase=Phase.PREFLIGHT)
    yield at + 1, HostPlanned(
        host=host, action="switch", closure=new, running=old, wave=1, missing_paths=31, missing_bytes=48 << 20,
        wire_bytes=9 << 20, reboot=(),
    )  # fmt: skip
    yield at + 2, PhaseStarted(host=host, phase=Phase.PUSH)
    yield at + 9, PushFinished(host=host, paths=31, nar_bytes=48 << 20, wire_bytes=9 << 20, seconds=7.0)
    yield at + 9, PhaseStarted(host=host, phase=Phase.SWITCH)
    yield at + 14, HostSwitched(host=host, closure=new, status=0, seconds=5.0)
    yield at + 14, PhaseStarted(host=host, phase=Phase.PROVE)
    went_well = outcome is Outcome.KEPT
    yield (
        at + 16,
        CheckReported(host=host, check="shop", passed=went_well, answer="200" if went_well else "503", stage="after"),
    )
    if went_well:
        yield at + 20, HostProven(host=host, closure=new, seconds=6.0)
    yield at + 20, PhaseStarted(host=host, phase=Phase.COMMIT if went_well else Phase.REVERT)
    yield at + 22, HostFinished(host=host, result=result(name, outcome))


def result(name: str, outcome: Outcome) -> HostResult:
    """How a host ended."""
    failure = None
    if outcome is Outcome.ROLLED_BACK:
        failure = Failure(
            kind=FailureKind.UNHEALTHY, message=f"{name}: check shop failed: 503 after 10 s", said=("GET / -> 503",),
            now="rolled back to generation 41, healthy", hint=f"fleet logs {name} --unit nginx.service",
        )  # fmt: skip
    if outcome is Outcome.NEEDS_HUMAN:
        failure = Failure(
            kind=FailureKind.STUCK, message=f"{name}: the old system could not be proven", hint="look at it"
        )
    return HostResult(
        host=HostName(name), outcome=outcome, closure=closure(name, NEW), previous=closure(name, OLD), seconds=22,
        failure=failure,
    )  # fmt: skip


def started(run: str, names: Iterable[str], verb: str = "deploy") -> RunStarted:
    """The first event of a run."""
    return RunStarted(run=RunId(run), verb=verb, goal=Goal.SWITCH, hosts=tuple(map(HostName, names)))


async def record(world: World, run: str, told: list[Envelope], plan: str | None = None) -> None:
    """The events are on the disk."""
    with world.state.recorder(RunId(run), plan=plan) as recorder:
        for envelope in told:
            recorder.record(envelope)
        await recorder.flush()


ENDED, RUNNING, GONE = "20261128T101500-a1b2c3", "20261130T091000-d4e5f6", "20261126T070000-0a0b0c"


SOURCE = Source(reference="git+ssh://git@example.org/fleet", revision="1f3c9a0d2b44" + "0" * 28, is_clean=True)


def planned(world: Applying, *waves: Iterable[str], **changes: Any) -> Plan:
    """A plan that this machine keeps."""
    forecast = Forecast(missing_paths=31, missing_bytes=48 << 20, wire_bytes=9 << 20, room_free=9 << 30)
    parts: dict[str, Part] = {
        name: world.part(name, closure=closure(name, NEW), expected=closure(name, OLD), forecast=forecast)
        for wave in waves
        for name in wave
    }
    now = int(time.time())
    usual: dict[str, Any] = {"source": SOURCE, "made": now - 900, "expires": now + 80_000}
    plan = world.plan(*map(tuple, waves), parts=parts, **{**usual, **changes})
    world.state.keep_plan(plan.digest, plan.text, expires=plan.expires)
    return plan


async def with_past(world: Applying) -> Plan:
    """Give the fleet a run that ended, one whose process was lost, a ledger, and a plan that nobody has applied yet."""
    names, now = list(world.inventory.hosts), time.time()
    applied = planned(world, names[:8], intent="update nginx to 1.28.1: CVE-2026-1234", made=int(now - 2 * DAY))
    outcomes: dict[HostName, Outcome] = dict.fromkeys(names[:8], Outcome.KEPT)
    outcomes |= {names[1]: Outcome.ROLLED_BACK, names[4]: Outcome.NEEDS_HUMAN}
    told: list[tuple[float, Event]] = [(0.0, started(ENDED, names[:8]))]
    for number, (name, outcome) in enumerate(outcomes.items()):
        told += whole(name, 2 + 3 * number, outcome)
    results = tuple(result(name, outcome) for name, outcome in outcomes.items())
    told.append((60.0, RunFinished(run=RunId(ENDED), exit_code=4, error=None, hosts=results)))
    await record(world, ENDED, envelopes(ENDED, "ann", now - 2 * DAY, told), applied.digest)
    lost: list[tuple[float, Event]] = [
        (0.0, started(GONE, names[10:12], "rollback")),
        (1.0, PhaseStarted(host=names[10], phase=Phase.SWITCH)),
    ]
    await record(world, GONE, envelopes(GONE, "bob", now - 4 * DAY, lost))
    world.state.ledger.enter(*USUAL[1:])
    return planned(world, names[:2], names[2:], intent="kernel 6.12.61, and postgresql 17.8", by="agent-3")


def under_way(names: Sequence[str], now: float, run: str = RUNNING) -> list[Envelope]:
    """A run that goes on: some hosts have ended, others are in every phase."""
    told: list[tuple[float, Event]] = [(0.0, started(run, names))]
    for number, name in enumerate(names):
        events = list(whole(name, 1 + number, Outcome.KEPT))
        told += events[: max(0, len(events) - 2 * number)]
    return envelopes(run, "ann", now - 75, told)


class Browser(TestClient):
    """Somebody's browser, which has come in."""

    def __init__(self, app: Guard, base: str = BASE) -> None:
        super().__init__(app, base_url=base, raise_server_exceptions=False)

    def page(self, path: str, **headers: str) -> str:
        """The page there is at the path."""
        answer = self.get(path, headers={"accept": "text/html", "sec-fetch-site": "none", **headers})
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.text


def site_of(world: World, **changes: Any) -> Site:
    """What is served of a world."""
    made: Settings = settings(**{"asks": False, **changes})
    asked_for = world.file.parent / "requests"

    def desk(name: str) -> WorldDesk:
        as_them = copy.copy(world)
        as_them.actor = Actor(name, PrincipalKind.AGENT) if name else None
        return WorldDesk(file=world.file, principal=name, world=as_them, asked_for=asked_for)

    return new_site(FleetSource(world.fleet, world.file), made, desk)


def browser(site: Site) -> Browser:
    """A browser of somebody who has not come in yet. Use it as a context manager: the site lives as long."""
    return Browser(application(site), site.settings.url)


def come_in(someone: Browser, site: Site) -> None:
    """Let them in by a link."""
    answer = someone.get(f"/enter?link={site.visitors.new_link()}", headers={"sec-fetch-site": "none"})
    assert answer.status_code == 200, answer.text
