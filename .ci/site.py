"""Lay out the pages of the documentation for zensical, in a folder of their own: README.md as the first of them.

`make docs` calls it: python .ci/site.py FOLDER. Links between pages, and to folders, lead to pages; links to other
files of the repository become text, since a site has none of these files.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import tomli_w

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ALONE = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "LICENSE": "LICENSE"}
"""Files outside of docs/ that the site has, and their names there."""
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def lay_out(folder: Path) -> None:
    """Replace the folder by one with the configuration and all pages."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = folder / "pages"
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("zensical.toml"))
    for name, there in ALONE.items():
        shutil.copy(ROOT / name, pages / there)
    for source in (*(ROOT / name for name in ALONE), *DOCS.rglob("*.md")):
        if source.suffix == ".md":
            text = with_links_of_the_site(source)
            (pages / place_of(source)).write_text(text, encoding="utf-8")
    for inner in (path for path in DOCS.iterdir() if path.is_dir() and path != DOCS / "site"):
        (pages / inner.name / "index.md").write_text(contents_of(inner), encoding="utf-8")
    configuration = tomllib.loads((DOCS / "site" / "zensical.toml").read_text(encoding="utf-8"))
    configuration["project"]["nav"] = order()
    (folder / "zensical.toml").write_text(tomli_w.dumps(configuration), encoding="utf-8")


def place_of(source: Path) -> Path:
    """Return where a file of the repository is among the pages; raise `KeyError` if it is not."""
    if source.is_relative_to(DOCS):
        return source.relative_to(DOCS)
    return Path(ALONE[source.relative_to(ROOT).as_posix()])


def with_links_of_the_site(source: Path) -> str:
    """Return the text of a page, whose links lead to where things are in the site."""

    def linked(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        path = Path(os.path.normpath(source.parent / target))
        try:
            place = place_of(path / "index.md" if path.is_dir() else path)
        except KeyError:
            return text
        return f"[{text}]({os.path.relpath(place, place_of(source).parent)}{anchor})"

    parts = FENCE.split(source.read_text(encoding="utf-8"))
    return "".join(part if part.startswith("```") else LINK.sub(linked, part) for part in parts)


def contents_of(folder: Path) -> str:
    """Return a page that lists what is in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"- [{title_of(path)}]({path.relative_to(folder).as_posix()})" for path in files]
    return "\n".join([f"# {folder.name.capitalize()}", "", *lines, ""])


def title_of(path: Path) -> str:
    """Return the first heading of a page, or the name of another file."""
    if path.suffix != ".md":
        return path.name
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def names_in(folder: Path) -> list[str]:
    """Return the names of the pages in a folder."""
    return sorted(page.name for page in folder.glob("*.md"))


def order() -> list[object]:
    """Return the navigation: pages in the order in which README.md links to them, then the others, then folders."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = [target.removeprefix("docs/") for _, target, _ in LINK.findall(readme) if target.endswith(".md")]
    pages = names_in(DOCS)
    known = [name for name in dict.fromkeys(linked) if name in pages]
    rest = [name for name in pages if name not in known]
    folders = [
        {folder.name.capitalize(): [f"{folder.name}/{page}" for page in ("index.md", *names_in(folder))]}
        for folder in sorted(DOCS.iterdir())
        if folder.is_dir() and names_in(folder)
    ]
    return ["index.md", *known, *rest, *folders, "CHANGELOG.md"]


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
