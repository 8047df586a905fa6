"""The documentation as a site: every page is in it and is found, and nothing comes from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"']?([^\"' >]+)|<link\b[^>]*\bhref=[\"']?([^\"' >]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` makes it. A link that leads nowhere, also to a heading, is an error there."""
    folder = tmp_path_factory.mktemp("site") / "made"
    subprocess.run([sys.executable, ROOT / ".ci" / "site.py", folder], check=True)
    zensical = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", f"{folder}/zensical.toml"]
    done = subprocess.run(zensical, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_every_page_is_there_and_in_the_navigation(site: Path) -> None:
    wanted = {page.removesuffix(".md") + ".html" for page in PAGES} | {
        "index.html",
        "CHANGELOG.html",
        "template/index.html",
    }
    made = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {"404.html"}
    assert made == wanted | {"decisions/index.html"}
    text = (site / "index.html").read_text()
    for page in wanted - {"index.html", "template/index.html"}:
        assert f'href="{page}"' in text or f'href="./{page}"' in text, f"{page} is not in the navigation"


def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in set(site.rglob("*.html")) - {site / "404.html"}:  # a server shows that one at any depth
        for groups in LOADED.findall(page.read_text()):
            place = next(filter(None, groups))
            assert "//" not in place, f"{page}: {place}"
            assert (page.parent / place.partition("?")[0]).exists(), f"{page}: {place}"
        assert 'class="mermaid"' not in page.read_text(), "that would be drawn by a script from a CDN"


def test_search_works_without_a_server_and_finds_every_page(site: Path) -> None:
    """Pages that are opened as files may load no JSON, so the index is a script."""
    script = (site / "search.js").read_text()
    index = json.loads(script.removeprefix("var __index = ").rstrip().removesuffix(";"))
    found = {item["location"].partition("#")[0] for item in index["items"]}
    assert found >= {page.removesuffix(".md") + ".html" for page in PAGES} | {"index.html"}
    assert any("quarantined" in item["text"] for item in index["items"])
    assert "iframe-worker.js" in (site / "json.html").read_text()


def test_links_to_what_a_site_does_not_have_are_text(site: Path) -> None:
    assert "modules/base.nix" in (site / "requirements.html").read_text()
    assert 'modules/base.nix"' not in (site / "requirements.html").read_text()
    assert 'href="decisions/index.html"' in (site / "design.html").read_text()


def test_generator_is_pinned() -> None:
    assert re.search(r'^docs = \["zensical==[0-9.]+"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
