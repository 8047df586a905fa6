"""What is drift and what is none, told from what scripts have said. What a host says is data."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet import Fleet
from fleet.drift import Baseline, Drift, DriftReport, judge, system
from fleet.drift.access import address
from fleet.drift.baseline import keep_first
from fleet.drift.judge import MOST_FINDINGS
from fleet.drift.look import StoreLook, WrongPath, look, store_look
from fleet.drift.observation import observation
from fleet.drift.observed import PARTS
from fleet.drift.packages import profile_paths
from fleet.drift.read import accepted
from fleet.drift.text import drift_lines
from fleet.errors import AnswerError, UnreachableError
from fleet.host.answers import State
from fleet.host.facts import LastTransaction
from fleet.host.history import PastTransaction
from fleet.inventory import parse
from fleet.library.tools import Tools
from fleet.machine import CONTACTS, Output
from fleet.model import Closure, HostName, Outcome, RunId, Serial
from tests import fakes
from tests.fakes import AtOnce, Events, FakeLink, runs
from tests.unit import builders
from tests.unit.state_builders import open_state
from tests.unit.world import FACTS, World

if TYPE_CHECKING:
    from fleet.drift.observed import Observation
    from fleet.host.facts import HostFacts

DONE = "".join(f"done\t{part}\n" for part in PARTS)
ENTRY = '{mode}\t{uid}\t5\t{at}\t41\t"{path}"'
OLD, NEW = (Closure(f"/nix/store/{'0' * 31}{number}-nixos-system-web-1-{number}") for number in (1, 2))
ACCOUNTS = "user\troot:0:0:/root:/bin/sh\nuser\tann:1000:100:/home/ann:/bin/sh\n"


def entry(path: str, *, mode: str = "81a4", uid: int = 0, at: int = 1000, target: str = "") -> str:
    return ENTRY.format(path=path, mode=mode, uid=uid, at=at) + (f' -> "{target}"' if target else "")


def said(*lines: str, nixos: bool = False) -> Observation:
    """What a host says that is complete."""
    head = f"system\t{OLD}\t900\n{'nixos' if nixos else ''}\nclock\t5000\t4000\netc\t{entry('/etc/.', mode='41ed')}\n"
    return observation(f"{head}{ACCOUNTS}" + "".join(f"{line}\n" for line in lines) + DONE + "end\n")


def facts(**changes: object) -> HostFacts:
    return builders.facts(**{"running": OLD, "profile": OLD, "running_parts": {}, "booted_parts": {}, **changes})


def report(
    seen: Observation,
    *,
    baseline: Baseline | None = None,
    ignore: tuple[str, ...] = (),
    store: StoreLook | None = None,
    there: HostFacts | None = None,
    past: tuple[PastTransaction, ...] = (),
) -> DriftReport:
    """What is told of a host whose baseline is empty, unless another is given."""
    host = builders.host("web-1").model_copy(update={"ignore_drift": ignore})
    known = baseline if baseline is not None else Baseline(1.0)
    there = there if there is not None else facts()
    items = judge.judged(judge.undeclared(seen), seen, known)
    return judge.report(host, there, past, seen, store or StoreLook(is_done=True), items, known)


def found(seen: Observation, **given: object) -> list[str]:
    ids = [finding.id for finding in report(seen, **given).findings]  # type: ignore[arg-type]
    return [one for one in ids if not one.startswith("user:")]


def test_without_a_baseline_only_nixos_is_judged() -> None:
    file = f"file\t{entry('/etc/agent.conf')}"
    for nixos, ids in ((False, []), (True, ["/etc/agent.conf"])):
        seen = said(file, nixos=nixos)
        assert [item.id for item in judge.judged(judge.undeclared(seen), seen, None)] == ids


def test_what_was_there_is_no_drift_until_it_changes() -> None:
    before = said(f"file\t{entry('/etc/a')}", f"sum\t{'1' * 64}  /etc/a", f"file\t{entry('/etc/b', mode='8180')}")
    baseline = Baseline.of(judge.undeclared(before), 1.0)
    assert found(before, baseline=baseline) == []
    later = said(f"file\t{entry('/etc/a', at=2)}", f"sum\t{'1' * 64}  /etc/a", f"file\t{entry('/etc/b', mode='8180')}")
    assert found(later, baseline=baseline) == []
    other = said(f"file\t{entry('/etc/a')}", f"sum\t{'2' * 64}  /etc/a", f"file\t{entry('/etc/b', mode='81b6')}")
    assert found(other, baseline=baseline) == ["/etc/a", "/etc/b"]
    assert "has changed" in report(other, baseline=baseline).findings[0].message
    assert Baseline.read(baseline.record("ann")) == baseline


def test_what_systems_write_themselves_and_what_is_mounted_is_none() -> None:
    mounted = entry("/etc/hosts").replace("\t41\t", "\t99\t")
    own = ("passwd-", "shadow", "machine-id", "resolv.conf", "ssh/ssh_host_rsa_key")
    assert found(said(f"file\t{mounted}", *(f"file\t{entry(f'/etc/{name}')}" for name in own))) == []
    assert found(said(f"file\t{entry('/etc/passwd.d')}", f"file\t{entry('/etc/nixos/x.nix')}")) == [
        "/etc/nixos/x.nix",
        "/etc/passwd.d",
    ]
    assert found(said(f"file\t{entry('/etc/nixos/x.nix')}", nixos=True)) == []


def test_a_declared_file_that_is_missing_or_replaced_is_one_finding() -> None:
    seen = said("differs\tmotd", "differs\tissue", f"file\t{entry('/etc/issue')}", "copy\tsudoers")
    findings = {one.id: one for one in report(seen).findings if one.drift is Drift.FILES}
    assert "missing" in findings["/etc/motd"].message
    assert "in place of" in findings["/etc/issue"].message
    assert found(said("copy\tsudoers", f"file\t{entry('/etc/sudoers')}")) == []
    assert found(said("copy\tsudoers", "differs\tsudoers", f"file\t{entry('/etc/sudoers')}")) == ["/etc/sudoers"]


def test_what_came_with_a_change_is_told_with_it() -> None:
    seen = said(
        f"file\t{entry('/etc/systemd/system/agent.service')}",
        f"file\t{entry('/etc/systemd/system/agent.timer')}",
        f"file\t{entry('/etc/systemd/system/a.target.wants/agent.service', mode='a1ff', target='../agent.service')}",
        f"file\t{entry('/etc/systemd/system/agent.service.d/more.conf')}",
        "listener\t7\ttcp\t0100007F\t1F90\t0",
        "holder\t[7]\t9\t100\t/system.slice/agent.service\tnc",
        "user\tmallory:1002:1002:/home/mallory:/bin/sh",
        "group\tsudo:27:mallory,ghost",
    )
    assert found(seen) == ["/etc/systemd/system/agent.timer", "group:sudo:ghost"]
    told = {one.id: one.message for one in report(seen).findings}
    assert "tcp port 8080 of 127.0.0.1" in told["/etc/systemd/system/agent.timer"]
    assert "mallory is in the group sudo" in told["user:mallory"]


def test_what_is_ignored_hides_nothing_that_came_with_it() -> None:
    seen = said(
        f"unit\t{entry('/run/systemd/transient/agent.service')}",
        "listener\t7\ttcp\t0100007F\t1F90\t0",
        "holder\t[7]\t9\t100\t/system.slice/agent.service\tnc",
    )
    assert found(seen) == ["/run/systemd/transient/agent.service"]
    assert found(seen, ignore=("/run/systemd/transient/*",)) == ["listener:tcp:8080:agent.service/nc"]
    assert found(seen, ignore=("/run/systemd/transient/*", "listener:*")) == []
    assert found(said("group\tsudo:27:ann"), ignore=("user:*",)) == ["group:sudo:ann"]
    assert "with" not in report(seen, ignore=("listener:*",)).findings[-1].message


def test_listeners_of_the_system_of_the_kernel_and_of_questions_are_none() -> None:
    lines = (
        "ours\tweb.service",
        "ours\tat@.service",
        "ours\td.socket",
        "listener\t1\ttcp\t00000000\t0050\t0",
        "holder\t[1]\t9\t100\t/system.slice/web.service\tweb",
        "listener\t2\ttcp\t00000000\t0051\t0",
        "holder\t[2]\t9\t100\t/system.slice/system-at.slice/at@1.service/sub\tat",
        "listener\t3\ttcp\t00000000\t0052\t0",
        "listener\t4\tudp\t00000000\tC000\t0",
        "holder\t[4]\t9\t100\t/system.slice/ntp.service\tntp",
        "listener\t5\ttcp\t00000000\t0053\t0",
        "holder\t[5]\t1\t100\t/init.scope\tsystemd",
        "socket\td.socket",
        "port\t83",
    )
    assert found(said(*lines)) == []
    session = (
        "listener\t6\ttcp\t00000000\t0054\t1000",
        "holder\t[6]\t9\t100\t/user.slice/user-1000.slice/web.service\tnc",
    )
    assert found(said(*lines, *session)) == ["listener:tcp:84:nc"]


def test_addresses_are_read_as_the_kernel_writes_them() -> None:
    assert address("0100007F") == "127.0.0.1"
    assert address("00000000000000000000000001000000") == "::1"
    assert [address(text) for text in ("", "zz", "00" * 5)] == ["?"] * 3


def test_a_toolchain_is_one_finding_and_links_into_the_store_are_none() -> None:
    home = "/home/ann/."
    seen = said(
        "home\tann\t1000\t/home/ann",
        *(f"in\tentry\t{entry(f'{home}/.cargo/bin/{name}', uid=1000)}" for name in ("cargo", "rustup", "rg")),
        f"in\tentry\t{entry(f'{home}/.rustup/toolchains', mode='41ed', uid=1000)}",
        f"in\tentry\t{entry(f'{home}/.local/share/pipx/venvs/black', mode='41ed', uid=1000)}",
        f"in\tentry\t{entry(f'{home}/.local/bin/black', mode='a1ff', target='../share/pipx/venvs/black/bin/black')}",
        f"in\tentry\t{entry(f'{home}/.local/bin/hm', mode='a1ff', target='/nix/store/abc/bin/hm')}",
    )
    assert found(seen) == ["/home/ann/.cargo/bin", "/home/ann/.local/share/pipx/venvs", "/home/ann/.rustup"]
    assert report(seen).findings[0].message == "installed by hand: rg"


def test_a_profile_of_nix_has_its_packages_and_home_manager_s_is_none() -> None:
    folder, path = "/home/ann/./.local/state/nix/profiles", f"/nix/store/{'a' * 32}-profile"
    seen = said(
        "home\tann\t1000\t/home/ann",
        f"in\tentry\t{entry(f'{folder}/profile', mode='a1ff', target='profile-2-link')}",
        f"in\tentry\t{entry(f'{folder}/profile-2-link', mode='a1ff', target=path)}",
        f"in\tentry\t{entry(f'{folder}/evil', mode='a1ff', target='/root/x; rm -rf /')}",
    )
    items = judge.judged(judge.undeclared(seen), seen, Baseline(1.0))
    assert profile_paths(items) == (path,)
    told = store_look(f"refers\t{path}\t/nix/store/{'b' * 32}-ripgrep-14\nlooked\t1\t1\n")
    findings = {one.id: one.message for one in report(seen, store=told).findings}
    assert findings["/home/ann/.local/state/nix/profiles/profile"] == "a profile of Nix: ripgrep-14"
    for reference in (f"/nix/store/{'b' * 32}-home-manager-path", ""):
        told = store_look(f"refers\t{path}\t{reference}\nlooked\t1\t1\n")
        assert "/home/ann/.local/state/nix/profiles/profile" not in found(seen, store=told)


def test_units_of_transactions_are_fleet_s_and_other_names_are_not() -> None:
    transient, run = "/run/systemd/transient", "20261130T165214-93ea15"
    ours = (
        f"unit\t{entry(f'{transient}/fleet-keep-{run}.service')}",
        f"unit\t{entry(f'{transient}/fleet-switch-{run}.service')}",
        f"unit\t{entry(f'{transient}/session-1.scope')}",
        f"unit\t{entry('/run/systemd/system.control/docker-1.scope.d/50-CPUQuota.conf')}",
        f"unit\t{entry(f'{transient}/fleet-switch-{run}-alice.service')}",
        f"file\t{entry('/etc/systemd/system.attached/fleet-wake.service')}",
        f"file\t{entry('/etc/systemd/system.attached/fleet-wake-alice.service')}",
        f"file\t{entry('/etc/systemd/system.attached/fleet-activate-tools.service')}",
    )
    assert found(said(*ours)) == []
    assert found(said(f"unit\t{entry(f'{transient}/fleet-agent.service')}")) == [f"{transient}/fleet-agent.service"]


def last(state: State, *, new: Closure = NEW, part: str = "p") -> LastTransaction:
    return LastTransaction(
        run=RunId("r1"), state=state, new=new, old=OLD, by_reboot=False, reason="", part=part, serial=Serial("2-x")
    )


def past(state: State, *, by: str = "ann", part: str = "p", new: Closure = NEW) -> PastTransaction:
    return PastTransaction(
        serial=Serial("2-x"), run=RunId("r1"), by=by, origin="desk", began=1, ended=2, old=OLD, new=new, state=state,
        blame="", part=part, plan="", source="", intent="", reason="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("there", "history", "place"),
    [
        (facts(), (), None),
        (facts(profile=NEW), (), "/run/current-system"),
        (facts(last=last(State.REVERTED)), (), None),
        (facts(last=last(State.TESTED, new=OLD), profile=NEW), (past(State.TESTED, new=OLD),), None),
        (facts(last=last(State.COMMITTED)), (past(State.COMMITTED),), "/run/current-system"),
        (
            facts(last=last(State.COMMITTED, new=OLD), profile=NEW),
            (past(State.COMMITTED, new=OLD),),
            "/nix/var/nix/profiles/system",
        ),
    ],
)
def test_another_system_than_was_deployed_is_drift(
    there: HostFacts, history: tuple[PastTransaction, ...], place: str | None
) -> None:
    findings = [one for one in report(said(), there=there, past=history).findings if one.drift is Drift.SYSTEM]
    assert [one.path for one in findings] == ([place] if place else [])


def test_a_switch_by_hand_that_the_guard_has_seen_is_told_with_who_and_when() -> None:
    there = facts(last=last(State.TESTED, new=OLD, part=""))
    history = (past(State.COMMITTED), past(State.TESTED, by="bob", part="", new=OLD))
    (finding,) = (one for one in report(said(), there=there, past=history).findings if one.drift is Drift.SYSTEM)
    assert (finding.owner, finding.at) == ("bob", 2)
    assert str(NEW) in finding.message
    assert "ann from desk" in finding.message


def test_what_only_root_can_have_done_names_who_became_root_before() -> None:
    seen = said(
        f"file\t{entry('/etc/a', at=1000)}",
        "from\t10.0.0.1",
        "actor\t990\tsudo\tbob",
        "actor\t995\tssh\t10.0.0.1",
        "actor\t999\tsudo\troot",
        "actor\t2000\tsudo\tann",
    )
    finding = next(one for one in report(seen).findings if one.id == "/etc/a")
    assert finding.cause.endswith("bob had become root by sudo")


def test_what_an_agent_has_left_is_told_as_that() -> None:
    seen = said(f"file\t{entry('/etc/a', uid=1000)}", "agent\tann")
    finding = next(one for one in report(seen).findings if one.id == "/etc/a")
    assert finding.cause.endswith("; the agent ann has left it")


def test_whoever_is_in_a_sandbox_leaves_no_unit() -> None:
    shells = [f"fleet-sandbox-claude-shell-{number}.service" for number in ("7", "x")]
    seen = said(*(f"unit\t{entry(f'/run/systemd/transient/{name}')}" for name in shells))
    assert found(seen) == [f"/run/systemd/transient/{shells[1]}"]


def test_crowd_in_one_home_hides_nothing_of_others() -> None:
    crowd = [f"in\tentry\t{entry(f'/home/ann/bin/{number:04}', uid=number)}" for number in range(3 * MOST_FINDINGS)]
    keys = [f"in\tkey\t256 SHA256:{number:04} of ann (ED25519)" for number in range(3 * MOST_FINDINGS)]
    seen = said(
        *("home\troot\t0\t/", f"in\tentry\t{entry('/usr/local/bin/tool')}"),
        *("home\tann\t1000\t/home/ann", *crowd, 'in\tkeys\t1000\t5\t"/a"', *keys),
        *("home\tbob\t1001\t/home/bob", 'in\tkeys\t1001\t5\t"/home/bob/k"', "in\tkey\t256 SHA256:b of bob (ED25519)"),
    )
    told = found(seen, baseline=Baseline(0))
    assert {"/usr/local/bin/tool", "ssh_key:bob:SHA256:b"} <= set(told)


def test_secret_that_fleet_has_brought_is_none_wherever_it_is() -> None:
    place, folder = f"file\t{entry('/etc/app/token')}", f"in\tentry\t{entry('/opt/app', mode='41ed')}"
    lines = (place, f"unit\t{entry('/run/systemd/system/a.service')}", "home\troot\t0\t/", folder)
    assert len(found(said(*lines), baseline=Baseline(0))) == 3
    brought = [f"secret\t{path}" for path in ("/etc/app/token", "/opt/app", "/run/systemd/system/a.service")]
    assert found(said(*lines, *brought), baseline=Baseline(0)) == []


def test_system_reboot_and_store_cannot_be_accepted() -> None:
    wrong = StoreLook(wrong=(WrongPath(path="/nix/store/x", is_gone=False, at=5, uid=0),), is_done=True)
    there = facts(running_parts={"kernel": "a"}, booted_parts={"kernel": "b"}, profile=NEW)
    seen = said(f"file\t{entry('/etc/a')}")
    before = dataclasses.replace(report(seen, there=there, store=wrong), found=Baseline.of(judge.undeclared(seen), 7.0))
    after, baseline = accepted(before, None)
    assert [one.drift for one in after.findings] == [Drift.SYSTEM, Drift.REBOOT, Drift.STORE]
    assert {one.id for one in after.accepted} == {"/etc/a", "user:root", "user:ann"}
    assert found(seen, baseline=baseline) == []


def test_what_was_accepted_stays_where_a_part_was_not_seen_as_a_whole() -> None:
    seen = said()
    before = dataclasses.replace(report(seen), incomplete=("files",), found=Baseline(2.0, {"new": ""}))
    _, baseline = accepted(before, Baseline(1.0, {"/etc/old": "x"}))
    assert baseline == Baseline(2.0, {"/etc/old": "x", "new": ""})


def test_names_cannot_forge_what_root_says() -> None:
    """The owner of a home may say anything behind `in`: it counts for that home alone."""
    forged = "\n".join(
        f"in\t{line}" for line in (*DONE.splitlines(), "end", "nixos", "user\tx:0:0:/:/x", "account\tann")
    )
    seen = observation(f"home\tann\t1000\t/home/ann\n{forged}\n")
    assert not seen.is_complete
    assert not seen.is_nixos
    assert (seen.done, seen.users, seen.accounts, seen.unread) == (set(), {}, set(), 0)


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        (r"/etc/a\nb", "/etc/a\\nb"),
        (r"/etc/a\\nb", "/etc/a\\\\nb"),
        (r"/etc/\303\274", "/etc/ü"),
        (r"/etc/\377\033[31m", "/etc/\\udcff\\x1b[31m"),
        (r"/etc/a\"b", '/etc/a"b'),
        ("/etc/\u202e", "/etc/\\u202e"),
    ],
)
def test_names_are_shown_escaped_and_stay_different(quoted: str, shown: str) -> None:
    (file,) = said(f"file\t{entry(quoted)}").files
    assert file.path == shown


@pytest.mark.parametrize("seed", range(8))
def test_whatever_a_host_says_is_read_or_counted(seed: int) -> None:
    chance = random.Random(seed)
    lines = said_lines()
    for _ in range(50):
        line = list(chance.choice(lines))
        for _ in range(chance.randrange(1, 4)):
            line[chance.randrange(len(line)) : chance.randrange(len(line) + 1)] = chance.choice(
                ["\t", "\\", '"', "\x7f", "é", "9" * 40, "\t\t\t", "-1", " -> ", ":", "done"]
            )
        seen = observation("".join([*lines, "".join(line) + "\n", DONE, "end\n"]))
        drift_lines({HostName("web-1"): report(seen)})


def said_lines() -> list[str]:
    """A line of each kind."""
    return [
        f"{line}\n"
        for line in (
            *(f"system\t{OLD}\t900", "clock\t5000\t4000", f"etc\t{entry('/etc/.')}", f"file\t{entry('/etc/a')}"),
            *(f"sum\t{'1' * 64}  /etc/a", f"unit\t{entry('/run/systemd/transient/a.service')}"),
            *("user\tann:1:1:/a:/b", "group\tsudo:1:ann", "password\tann\tset\t3", "account\tann", "copy\ta"),
            *("package\tbash\t5", "conffile\t/etc/a", "dynamic\t32768 60999", "ours\ta.service", "differs\ta"),
            *("listener\t1\ttcp\t00000000\t0050\t0", "holder\t[1]\t9\t100\t/a.service\tnc", "socket\ta.socket"),
            *("port\t80", "home\tann\t1\t/home/ann", f"in\tentry\t{entry('/home/ann/./.cargo/bin/x')}"),
            *('in\tkeys\t1\t2\t"/k"', "in\tkey\t256 SHA256:abc x (ED25519)", "from\t::1", "actor\t1\tsudo\tann"),
        )
    ]


def test_findings_on_the_screen_have_no_escape_sequences() -> None:
    seen = said("user\tx\x1b[31m:1:1:/x:/x", "differs\tm\x1b]0;x\x07otd")
    text = "\n".join(drift_lines({HostName("web-1"): report(seen)}))
    assert "\x1b" not in text
    assert "\x07" not in text


async def test_an_answer_without_its_end_is_no_answer() -> None:
    with pytest.raises(AnswerError):
        await look(FakeLink(builders.host("web-1"), (runs("nice"), Output(status=0, stdout=DONE))))


@pytest.mark.usefixtures("kept")
async def test_a_first_look_that_fails_changes_nothing(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    for answer in ("", DONE, "end\n", f"system\t{OLD}\t9\nend\n"):
        await keep_first(
            state, FakeLink(builders.host("web-1"), (runs("nice"), Output(status=0, stdout=answer))), "ann"
        )
        assert not state.has_baseline(HostName("web-1"))


@pytest.mark.usefixtures("kept")
async def test_a_first_look_takes_down_what_is_there_but_on_nixos(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    for name, head, has_file in (("web-1", "", True), ("web-2", "nixos\n", False)):
        text = f"{head}system\t{OLD}\t900\nfile\t{entry('/etc/a')}\n{DONE}end\n"
        await keep_first(state, FakeLink(builders.host(name), (runs("nice"), Output(status=0, stdout=text))), "ann")
        record = state.baseline(HostName(name))
        assert record is not None
        assert ("/etc/a" in Baseline.read(record).signs) is has_file
        assert record.by == "ann"


@pytest.mark.usefixtures("kept")
async def test_only_the_first_commit_of_a_host_takes_down_what_is_there(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    text = f"system\t{OLD}\t900\nfile\t{entry('/etc/a')}\n{DONE}end\n"
    world.on("a", (runs("nice"), Output(status=0, stdout=text)))
    link = world.links[HostName("a")]
    for _ in range(2):
        world.events = Events()
        assert await world.execute() == 0
        assert set(world.outcomes.values()) == {Outcome.KEPT}
        assert [command.argv[0] for command in link.ran].count("nice") == 1
        assert world.state.has_baseline(HostName("a"))


@pytest.mark.parametrize("answer", [Output(status=1), UnreachableError(HostName("a"), "gone"), ValueError("a bug")])
async def test_a_first_look_that_fails_changes_no_outcome(tmp_path: Path, answer: Output | Exception) -> None:
    world = World(tmp_path, "a")
    world.on("a", (runs("nice"), answer))
    assert await world.execute() == 0
    assert set(world.outcomes.values()) == {Outcome.KEPT}
    assert not world.state.has_baseline(HostName("a"))


async def test_a_hundred_hosts_are_looked_at_as_many_at_once_as_in_preflight(tmp_path: Path) -> None:
    world = World(tmp_path, *(f"h{number}" for number in range(100)))
    files = "".join(f"file\t{entry(f'/etc/{number}')}\n" for number in range(1000))
    at_once = AtOnce()
    for name, link in world.links.items():
        looked = Output(status=0, stdout=f"nixos\nsystem\t{OLD}\t900\n{files}{DONE}end\n")
        compared = Output(status=0, stdout="looked\t1\t1\n")
        world.on(name, (runs("nice", "-n", "10", "sh", "-s", "--", "5"), compared), (runs("nice"), looked))
        link.run = at_once.counting(runs("nice"), link.run)  # type: ignore[method-assign]
    fleet = Fleet(Tools(inventory=world.inventory, logins=world.logins, state=world.state, here=world.here))
    answers = await fleet.drift()
    assert {len(answer.findings) for answer in answers.values() if isinstance(answer, DriftReport)} == {MOST_FINDINGS}
    assert len(answers) == 100
    assert 1 < at_once.most <= CONTACTS
    assert world.logins.open == 0
    assert world.logins.most_open <= CONTACTS


FILES = tuple(f"file\t{entry(f'/etc/{number:03}')}" for number in range(MOST_FINDINGS + 5))


def looked(*lines: str) -> Output:
    """What a host says that is complete, as its script writes it."""
    head = f"system\t{OLD}\t900\n\nclock\t5000\t4000\netc\t{entry('/etc/.', mode='41ed')}\n"
    return Output(status=0, stdout=f"{head}" + "".join(f"{line}\n" for line in lines) + DONE + "end\n")


async def accepting(world: World, *selectors: str) -> DriftReport:
    async with world.fleet() as fleet:
        (answer,) = (await fleet.drift(*selectors, accept=True)).values()
    assert isinstance(answer, DriftReport)
    return answer


def entered(world: World) -> list[tuple[object, object]]:
    """What the ledger says was accepted: how much, and the first of it."""
    rows = [json.loads(line) for _, line in world.state.ledger.read().lines]
    return [(row["count"], row["what"][0]) for row in rows if row["kind"] == "drift_accepted"]


async def test_what_is_accepted_where_nothing_was_known_is_listed_and_entered(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (runs("nice"), looked(FILES[0])))
    first = await accepting(world, "a")
    assert ([one.id for one in first.accepted], first.findings) == (["/etc/000"], ())
    assert (first.baseline is not None, entered(world)) == (True, [(1, "/etc/000")])
    assert (await accepting(world, "a")).accepted == ()
    assert len(entered(world)) == 1


async def test_ledger_counts_all_that_was_accepted_however_much_is_listed(tmp_path: Path) -> None:
    world = World(tmp_path, "a")
    world.on("a", (runs("nice"), looked(*FILES)))
    assert len((await accepting(world, "a")).accepted) == MOST_FINDINGS
    assert entered(world) == [(len(FILES), "/etc/000")]


async def test_baseline_is_that_of_the_computer_whatever_is_deployed_there(tmp_path: Path) -> None:
    world = World(tmp_path, "a", more='[hosts.a.profiles.ann]\n[hosts.b]\ndriver = "none"\n[hosts.b.profiles.bob]\n')
    for name in ("a", "a.ann", "b.bob"):
        world.on(name, (runs("nice"), looked(FILES[0])))
    await keep_first(world.state, world.links[HostName("a.ann")], "ann")
    assert [world.state.has_baseline(HostName(name)) for name in ("a", "a.ann")] == [True, False]
    async with world.fleet() as fleet:
        (answer,) = (await fleet.drift("a")).values()
    assert isinstance(answer, DriftReport)
    assert (answer.baseline is not None, answer.findings) == (True, ())
    world.on("b.bob", (lambda command: "facts" in command.argv, fakes.said(**FACTS)))
    await accepting(world, "b.bob")
    assert [world.state.has_baseline(HostName(name)) for name in ("b", "b.bob")] == [True, False]


@pytest.mark.parametrize(
    ("attr", "profile", "running", "cause"),
    [
        ("nixosConfigurations.x", "/nix/var/nix/profiles/system", "/run/current-system", "nixos-rebuild"),
        (
            "systemConfigs.x",
            "/nix/var/nix/profiles/system-manager-profiles/system-manager",
            "/var/lib/system-manager/state/system-manager-state.json",
            "system-manager by hand",
        ),
        ("packages.x86_64-linux.x", "/nix/var/nix/profiles/fleet", "/nix/var/nix/profiles/fleet", "nix-env, or"),
        ("darwinConfigurations.x", "/nix/var/nix/profiles/system", "/run/current-system", "darwin-rebuild"),
    ],
)
def test_another_system_is_told_in_the_words_of_its_driver(attr: str, profile: str, running: str, cause: str) -> None:
    whole = f"{attr}.config.system.build.toplevel" if attr.startswith("nixos") else attr
    (host,) = parse(Path("/x/fleet.toml"), f'[hosts.web-1]\nattr = "{whole}"\n').hosts.values()
    deployed = past(State.COMMITTED, new=OLD)
    for changed, path in (({"profile": NEW}, profile), ({"running": NEW}, running)):
        there = facts(last=last(State.COMMITTED, new=OLD), **changed)
        (one,) = system.of_system(host, there, said(), [deployed])
        assert (one.path, one.id, one.cause.startswith(cause)) == (path, path, True)
