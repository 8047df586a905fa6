"""A server with 2,000 hosts, and Debian's Chromium that looks at it."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest
import uvicorn

from fleet.serve import run
from fleet.serve.app import application
from tests.unit import served
from tests.waiting import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    Scheme = Literal["light", "dark"]

    from playwright.sync_api import Browser, BrowserContext, Page

    from fleet.plans import Plan
    from fleet.serve.site import Site
    from tests.unit.world import Applying

CHROMIUM = os.environ.get("FLEET_CHROMIUM") or shutil.which("chromium") or ""
HOSTS = 2000
SIZES = {"desk": (1440, 900), "phone": (390, 844)}


class Served:
    """The server, and what it serves."""

    def __init__(self, world: Applying, site: Site, plan: Plan) -> None:
        self.world = world
        self.site = site
        self.plan = plan
        self.url = site.settings.url

    def paths(self) -> dict[str, str]:
        """A page of each kind."""
        return {
            "hosts": "/",
            "host": "/hosts/build-01",
            "runs": "/runs",
            "run": f"/runs/{served.ENDED}",
            "host of a run": f"/runs/{served.ENDED}/hosts/db-01",
            "plans": "/plans",
            "plan": f"/plans/{self.plan.digest}",
            "ledger": "/ledger",
            "nothing": "/hosts/nobody",
        }


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that answers."""
    world = served.fleet_of(tmp_path_factory.mktemp("fleet"), HOSTS)
    plan = asyncio.run(served.with_past(world))
    site = served.site_of(world, listen=f"127.0.0.1:{free_port()}")
    opened = run.listening(site.settings)
    server = uvicorn.Server(run.config_of(application(site), site.settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        until(lambda: server.started, within=30, what="the server answers")
        yield Served(world, site, plan)
    finally:
        server.should_exit = True
        thread.join()
        opened.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser."""
    if not CHROMIUM:
        pytest.skip("there is no chromium: .ci/setup installs Debian's; FLEET_CHROMIUM names another one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, as in CI, it has no sandbox. It is shown pages of this test alone.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=60_000)
        yield started
        started.close()


class Visits:
    """Opens pages as somebody who has come in, and keeps what goes wrong in them."""

    def __init__(self, there: Served, chromium: Browser) -> None:
        self._there = there
        self._chromium = chromium
        self.wrong: list[str] = []
        """Errors that pages have told of."""

    @contextmanager
    def at(self, size: str = "desk", scheme: Scheme = "light", **options: Any) -> Iterator[Page]:
        """A page in a window of this size, while inside."""
        width, height = SIZES[size]
        context: BrowserContext = self._chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, base_url=self._there.url, **options
        )
        try:
            page = context.new_page()
            page.on("console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: self.wrong.append(str(error)))
            page.goto(f"/enter?link={self._there.site.visitors.new_link()}")
            yield page
        finally:
            context.close()


@pytest.fixture
def visits(there: Served, chromium: Browser) -> Iterator[Visits]:
    """Pages without an error."""
    made = Visits(there, chromium)
    yield made
    assert made.wrong == []
