"""What pages of `fleet serve` show, and how soon."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fleet.serve
from fleet.cli.parse import complaint
from fleet.errors import ConfigError
from fleet.library.recent import RecentRuns
from fleet.library.signatures import add_signatures
from fleet.machine import Output
from fleet.model import HostName, Outcome, Phase, RunId
from fleet.serve import site as sites
from fleet.serve.asking import Asking
from fleet.serve.limits import Bucket
from fleet.serve.settings import settings
from fleet.signing import APPROVAL
from tests.fakes import asks, said
from tests.signer import Device
from tests.unit import served
from tests.unit.ledgers import in_database
from tests.unit.served import BASE, ENDED, OURS, RUNNING, browser, come_in, site_of
from tests.unit.world import ENTRY, FACTS
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.serve.site import Site
    from tests.unit.served import Browser
    from tests.unit.world import Applying

FOLDER = Path(fleet.serve.__file__).parent
DEVICE = Device()


@pytest.fixture
def world(tmp_path: Path) -> Applying:
    made = served.fleet_of(tmp_path, 24)
    asyncio.run(served.with_past(made))
    return made


def within(world: Applying, **changes: object) -> Iterator[tuple[Browser, Site]]:
    site = site_of(world, **changes)
    with browser(site) as someone:
        come_in(someone, site)
        yield someone, site


@pytest.fixture
def inside(world: Applying) -> Iterator[Browser]:
    """A browser that has come in."""
    for someone, _ in within(world):
        yield someone


@pytest.fixture
def asking(world: Applying) -> Iterator[Browser]:
    """A browser that has come in, where hosts are asked."""
    for someone, _ in within(world, asks=True):
        yield someone


def rows(page: str) -> list[str]:
    """The names of the hosts in the order in which the table has them."""
    return re.findall(r'<th role="rowheader" scope="row"><a href="/hosts/([^"]+)"', page)


def test_hosts_are_shown_the_worst_first_with_words_and_signs(inside: Browser) -> None:
    page = inside.page("/")
    order = rows(page)
    assert len(order) == 24
    assert order[:3] == ["build-01", "pi-01", "db-01"]
    for word in ("needs a person", "units failed", "went back", "2 failed: nginx.service", "Reboot for kernel", "well"):
        assert word in page
    assert "▲" in page
    assert "check shop failed: 503" in page


def test_filters_are_words_tags_and_states(inside: Browser) -> None:
    assert set(rows(inside.page("/?q=WEB"))) == {"web-01", "web-02", "web-03", "web-04"}
    assert len(rows(inside.page("/?q=%40prod"))) == 24
    assert rows(inside.page("/?q=%40pro")) == []
    assert rows(inside.page("/?q=-01+8467+gpu")) == []
    assert set(rows(inside.page("/?show=bad"))) == {"build-01", "pi-01", "db-01"}
    assert "No host fits" in inside.page("/?q=nothing-like-that")
    assert rows(inside.page("/?show=nonsense&page=99999")) == rows(inside.page("/"))


def test_part_of_a_page_is_fetched_without_its_frame(inside: Browser) -> None:
    whole = inside.page("/")
    part = inside.get("/", headers={**OURS, "hx-request": "true"}).text
    assert "<header class" in whole
    assert '<header class="top"' not in part
    assert '<main id="live"' in part
    assert rows(part) == rows(whole)


def test_a_large_fleet_is_paged_by_the_server_and_a_page_is_small_and_soon_there(tmp_path: Path) -> None:
    world = served.fleet_of(tmp_path, 2000)
    site = site_of(world)
    with browser(site) as someone:
        come_in(someone, site)
        began = time.perf_counter()
        first = someone.page("/")
        assert time.perf_counter() - began < 0.5
        assert len(first.encode()) < 100_000
        assert len(rows(first)) == sites.PAGE
        every = [name for number in range(1, 21) for name in rows(someone.page(f"/?page={number}"))]
        assert sorted(every) == sorted(world.inventory.hosts)
        assert len(rows(someone.page("/?q=web-333"))) == 1


def test_host_page_shows_its_system_its_units_and_its_runs(inside: Browser) -> None:
    page = inside.page("/hosts/db-01")
    for text in ("25.11.8123", "rolled back", f"/runs/{ENDED}/hosts/db-01", "shop", "13.0 GiB"):
        assert text in page
    assert "nginx.service" in inside.page("/hosts/pi-01")
    assert inside.get("/hosts/nobody").status_code == 404


async def test_transaction_under_way_is_shown_with_its_phases(world: Applying) -> None:
    names = list(world.inventory.hosts)[12:20]
    with world.state.hold(RunId(RUNNING)):
        await served.record(world, RUNNING, served.under_way(names, time.time()))
        recent = RecentRuns(world.state)
        (run,) = [one for one in await asyncio.to_thread(recent.look) if one.is_under_way]
        assert run.phase(HostName(names[1])) is Phase.PROVE
        assert run.phase(HostName(names[0])) is None
        assert run.ended.keys() == {names[0]}

        def shown() -> tuple[str, str, str]:
            for someone, _ in within(world):
                return someone.page("/"), someone.page(f"/hosts/{names[1]}"), someone.page(f"/runs/{RUNNING}")
            raise AssertionError

        table, host, page = await asyncio.to_thread(shown)
    assert "1 of 8 hosts" in table
    assert f'href="/runs/{RUNNING}"' in table
    assert re.search(r'<li class="now" aria-current="step"><span>prove</span>', host)
    assert "Under way" in host
    assert page.index(names[1]) < page.index(names[0])


async def test_a_look_at_runs_costs_what_is_new(world: Applying, monkeypatch: pytest.MonkeyPatch) -> None:
    recent = RecentRuns(world.state)
    first = {run.record.id: run for run in recent.look()}
    assert first[RunId(ENDED)].record.exit_code == 4
    asked: list[int] = []
    events = world.state.events

    def counted(run: RunId, *, after: int = 0) -> object:
        asked.append(after)
        return events(run, after=after)

    monkeypatch.setattr(world.state, "events", counted)
    again = {run.record.id: run for run in recent.look()}
    assert all(again[run] is first[run] for run in first)
    assert 0 not in asked


def test_run_page_shows_the_worst_first_and_why_and_each_step(inside: Browser) -> None:
    page = inside.page(f"/runs/{ENDED}")
    assert re.findall(rf'<a href="/runs/{ENDED}/hosts/([^"]+)"', page)[:2] == ["build-01", "db-01"]
    for text in (
        "ended badly",
        "8 of 8 hosts",
        "6 kept",
        "check shop failed: 503 after 10 s",
        "update nginx to 1.28.1",
    ):
        assert text in page
    steps = inside.page(f"/runs/{ENDED}/hosts/db-01")
    for text in ("check shop failed (after): 503", "pushed 31 paths", "went back", "GET / -&gt; 503", "healthy"):
        assert text in steps
    assert inside.get(f"/runs/{ENDED}/hosts/nobody").status_code == 404
    assert inside.get("/runs/nothing").status_code == 404


def test_a_run_whose_process_was_lost_has_the_command_to_paste(inside: Browser) -> None:
    assert "needs to be resumed" in inside.page("/runs")
    commands = re.findall(r"<code id=\"resume\"[^>]*>([^<]+)", inside.page(f"/runs/{served.GONE}"))
    assert len(commands) == 1
    assert complaint(commands[0]) is None


def test_plan_page_shows_what_it_does_and_the_command_to_paste(inside: Browser, world: Applying) -> None:
    listed = inside.page("/plans")
    digests = re.findall(r'href="/plans/([0-9a-f]{64})"', listed)
    assert set(digests) == {plan.digest for plan in world.state.plans()}
    pages = {digest: inside.page(f"/plans/{digest}") for digest in digests}
    (waiting,) = [page for page in pages.values() if "kernel 6.12.61" in page]
    for text in (
        "24 hosts in 2 waves",
        "ready",
        "Nobody",
        "1.1 GiB in all",
        "git+ssh://git@example.org/fleet",
        "agent-3",
    ):
        assert text in waiting
    (command,) = re.findall(r"<code id=\"command\"[^>]*>([^<]+)", waiting)
    assert complaint(command) is None
    assert command.startswith("fleet apply ")
    assert inside.get("/plans/abcdef").status_code == 404


ASK = '[approval]\nrequired = 1\n[[agents]]\nname = "agents ask"\nhosts = "*"\n'


def test_plan_page_says_who_must_approve_and_goes_on_when_they_have(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(ASK)
    (tmp_path / "principals.toml").write_text(
        f'[principals.bob]\nkind = "person"\nkeys = ["{DEVICE.public}"]\n[principals.agent-3]\nkind = "agent"\n'
    )
    world = served.fleet_of(tmp_path, 3)
    plan = served.planned(world, ["web-01"], by="agent-3", intent="why not")
    for someone, _ in within(world):
        page = someone.page(f"/plans/{plan.digest}")
        for text in ("needs approval", "0 of 1 approval", "May approve: bob", "ask: agents ask", "To approve"):
            assert text in page
        commands = re.findall(r"<code id=\"(?:command|then)\"[^>]*>([^<]+)", page)
        assert [command.split()[1] for command in commands] == ["approve", "apply"]
        assert [complaint(command) for command in commands] == [None, None]
        add_signatures(plan, world.fleet().signatures_file(plan), [DEVICE.sign(plan.head, APPROVAL)])
        page = someone.page(f"/plans/{plan.digest}")
        for text in ("ready", "1 of 1 approval", "approved by bob"):
            assert text in page


def test_ledger_page_shows_entries_and_whether_they_are_right(inside: Browser) -> None:
    page = inside.page("/ledger")
    for text in ("check web: 503", "approval", "ann", "Head", "7 entries, each as it was written"):
        assert text in page


def test_ledger_page_names_the_first_entry_that_is_wrong(world: Applying) -> None:
    spoil = "UPDATE ledger SET line = replace(line, 'web: 503', 'web: 200')"
    in_database(world.file.parent / "state", (spoil, ()))
    for someone, _ in within(world):
        page = someone.page("/ledger")
        assert "entry 5 is wrong" in page
        assert "each as it was written" not in page


def test_hosts_are_asked_for_history_generations_and_drift_when_somebody_wants_it(world: Applying) -> None:
    world.on(
        "web-01",
        (asks("facts"), said(**FACTS)),
        (asks("history"), said(history=[ENTRY.replace("by hand", "check failed")])),
        (asks("generations"), said(generation=["41 1795946400 /nix/store/x", "42 1795946500 /nix/store/y"])),
    )
    for someone, _ in within(world, asks=True, every=3600.0):
        history = someone.page("/hosts/web-01/history")
        assert "check failed" in history
        assert "bob" in history
        assert "committed" in history
        assert '<td role="cell" class="num">42</td>' in someone.page("/hosts/web-01/generations")
        drift = someone.post("/hosts/web-01/drift", headers={**OURS, "accept": "text/html"})
        assert drift.status_code == 200
        assert 'id="drift"' in drift.text


def shows(someone: Browser, path: str, text: str) -> bool:
    """Whether the page has the text."""
    return text in someone.page(path)


def test_what_hosts_answer_is_shown_soon(world: Applying) -> None:
    name, now = HostName("web-02"), int(time.time())
    system = served.closure(name, "25.11.9999")
    world.on(
        name,
        (
            asks("facts"),
            said(**FACTS | dict.fromkeys(("running", "profile", "boot_default"), system), failed_unit=["sshd.service"],
                 open_run=RUNNING, open_state="switched", open_who="bob", open_from="train", open_since=now,
                 open_closes_in=40, open_new=system, open_old=system, open_intent="update <nginx>"),
        ),
    )  # fmt: skip
    path = f"/hosts/{name}"
    for someone, _ in within(world, asks=True, every=3600.0):
        until(functools.partial(shows, someone, path, "25.11.9999"))
        page = someone.page(path)
        for text in (
            "sshd.service",
            "Under way",
            "by bob from train",
            "update &lt;nginx&gt;",
            "goes back by itself in 40",
        ):
            assert text in page


def test_a_host_that_cannot_be_asked_is_no_error_of_the_server(world: Applying) -> None:
    world.on("web-01", (asks("history"), Output(status=1, stderr="no\n")))
    for someone, _ in within(world, asks=True, every=3600.0):
        page = someone.page("/hosts/web-01/history")
        assert 'role="alert"' in page


def test_a_server_that_asks_nobody_asks_nobody(inside: Browser, world: Applying) -> None:
    page = inside.page("/hosts/web-01")
    assert "Look for drift" not in page
    for path in ("history", "generations"):
        assert inside.get(f"/hosts/web-01/{path}").status_code == 403
    assert inside.post("/hosts/web-01/drift", headers=OURS).status_code == 403
    assert not any(link.ran for link in world.links.values())


async def test_the_same_question_is_asked_once() -> None:
    asked = 0
    now = 0.0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return asked

    async def fails() -> int:
        raise ConfigError("no")

    asking = Asking(clock=lambda: now)
    assert await asyncio.gather(*(asking.answer("a", ask, fresh=10) for _ in range(5))) == [1] * 5
    assert await asking.answer("b", ask, fresh=10) == 2
    now += 11
    assert await asking.answer("a", ask, fresh=10) == 3
    for _ in range(2):
        with pytest.raises(ConfigError):
            await asking.answer("c", fails)


def test_files_that_change_are_read_anew_and_files_that_are_wrong_are_told(world: Applying) -> None:
    site = site_of(world)
    assert not asyncio.run(site.source.refresh())
    world.file.with_name("principals.toml").write_text("nonsense")
    assert asyncio.run(site.source.refresh())
    assert "is not TOML" in site.source.trouble
    with browser(site) as someone:
        come_in(someone, site)
        assert "is not TOML" in someone.page("/")
    world.file.with_name("principals.toml").write_text('[principals.ann]\nkind = "person"\n')
    assert asyncio.run(site.source.refresh())
    assert site.source.trouble == ""
    assert site.source.principals is not None


def test_a_bug_is_told_and_pages_go_on_being_new(world: Applying, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_of(world)
    look, bugs = RecentRuns.look, iter([RuntimeError("odd")])

    def sometimes(recent: RecentRuns) -> object:
        if (bug := next(bugs, None)) is not None and site.picture.number:
            raise bug
        return look(recent)

    for name in ("OFTEN", "SELDOM"):
        monkeypatch.setattr(f"fleet.serve.watcher.{name}", 0.05)
    with browser(site) as someone:
        come_in(someone, site)
        monkeypatch.setattr(RecentRuns, "look", sometimes)
        until(functools.partial(shows, someone, "/", "this is a bug"))
        asyncio.run(served.record(world, RUNNING, served.under_way(list(world.inventory.hosts)[:3], time.time())))
        until(functools.partial(shows, someone, "/runs", RUNNING))


def test_a_bucket_fills_again() -> None:
    now = 0.0
    bucket = Bucket(burst=2, per_second=1, clock=lambda: now)
    assert [bucket.take("a") for _ in range(3)] == [0, 0, 1]
    assert bucket.take("b") == 0
    now += 1
    assert [bucket.take("a") for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("listen", "more", "wrong"),
    [
        ("0.0.0.0:8420", {}, "unencrypted"),
        ("0.0.0.0:8420", {"url": "https://fleet.example.org"}, "beyond loopback"),
        ("192.0.2.1:8420", {"url": "http://fleet.example.org"}, "unencrypted"),
        ("127.0.0.1:8420", {"url": "http://fleet.example.org"}, "unencrypted"),
        ("127.0.0.1:8420", {"certificate": Path("x")}, "belong together"),
        ("localhost:8420", {}, "no address"),
        ("127.0.0.1", {}, "no address"),
        ("127.0.0.1:99999", {}, "no address"),
        ("127.0.0.1:0", {}, "no address"),
        ("127.0.0.1:8420", {"url": "https://fleet.example.org/path"}, "no address|not the address"),
        ("127.0.0.1:8420", {"url": "ftp://x"}, "not the address"),
        ("127.0.0.1:8420", {"url": "https://a:b@x"}, "not the address"),
    ],
)
def test_tokens_never_cross_a_network_in_the_clear(listen: str, more: dict[str, object], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        settings(listen, **more)  # type: ignore[arg-type]


def test_a_server_behind_a_proxy_is_called_what_people_type() -> None:
    made = settings(url="https://Fleet.example.org")
    assert made.url == "https://fleet.example.org"
    assert made.hosts == {"fleet.example.org"}
    assert made.origins == {made.url}
    assert settings("[::1]:8420").url == "http://[::1]:8420"
    assert settings().url == BASE


def test_what_is_carried_along_is_what_others_have_released() -> None:
    sums = dict(line.split()[::-1] for line in (FOLDER / "static" / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {"htmx.min.js"}
    for name, digest in sums.items():
        assert hashlib.sha256((FOLDER / "static" / name).read_bytes()).hexdigest() == digest
    assert "Zero-Clause BSD" in (FOLDER / "static" / "htmx.LICENSE.txt").read_text()


@pytest.mark.parametrize("template", sorted((FOLDER / "templates").iterdir()), ids=lambda path: path.name)
def test_no_template_trusts_what_it_is_given(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"\|\s*safe\b|Markup|autoescape|\bstyle=|\son\w+=|hx-on|javascript:|https?://", text)


def test_nobody_needs_the_network_to_see_a_page() -> None:
    for file in (FOLDER / "static" / "style.css", FOLDER / "static" / "fleet.js"):
        assert not re.search(r"https?://|@import|url\(|\beval\b|new Function|innerHTML", file.read_text()), file


def test_outcomes_have_a_sign_each() -> None:
    text = (FOLDER / "templates" / "parts.html").read_text()
    known = set(re.findall(r'"(\w+)": "(?:well|away|noted)"', text))
    assert {outcome.value for outcome in Outcome if outcome.is_good} <= known
