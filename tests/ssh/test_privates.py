"""What fleet reaches into of asyncssh's: known by name, in one folder, for one version."""

from __future__ import annotations

import ast
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet import machine
from fleet.machine import Command, patched
from fleet.machine.patched import privates, session
from fleet.machine.patched.window import hear_window
from tests.ssh.inside import Lacking, parts
from tests.ssh.pushing import GCM, machine_over

if TYPE_CHECKING:
    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from tests.sshd import Server

FOLDER = Path(patched.__file__).parent
FILES = sorted(FOLDER.glob("*.py"))
OTHERS = sorted(set(Path(machine.__file__).parent.rglob("*.py")) - set(FILES))
NAMES = [(each, name) for each in privates.ALL for name in each.names]


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined(tree: ast.AST) -> set[str]:
    """The private names that a file gives to its own classes and modules."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return {name for name in found if is_private(name)}


def reached(source: str) -> set[str]:
    """The private names of others that a file uses."""
    tree = ast.parse(source)
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_private(node.attr)}
    return used - defined(tree)


def test_the_installed_asyncssh_is_the_one_that_the_patches_are_for() -> None:
    installed = metadata.version("asyncssh")
    if installed.split(".")[:2] != patched.VERSION.split("."):
        names = "\n".join(map(str, privates.ALL))
        pytest.fail(
            f"asyncssh {installed} is installed, and fleet/machine/patched is for {patched.VERSION}: so nothing is "
            f"patched, and pushes are slow. Look at each of these in the new source, then run tests/ssh:\n{names}"
        )


def test_pyproject_allows_that_version_alone() -> None:
    major, minor = map(int, patched.VERSION.split("."))
    text = (Path(machine.__file__).parent.parent.parent / "pyproject.toml").read_text()
    assert f'"asyncssh>={major}.{minor},<{major}.{minor + 1}"' in text


PATCHES = [file for file in FILES if file.stem not in ("__init__", "privates")]


def listed(file: Path) -> set[str]:
    return {name for each in privates.ALL if file.stem in each.used_in for name in each.names}


@pytest.mark.parametrize("file", PATCHES, ids=lambda file: file.stem)
def test_every_private_name_in_the_folder_is_listed(file: Path) -> None:
    assert reached(file.read_text()) - listed(file) == set()


@pytest.mark.parametrize("each", privates.ALL, ids=lambda each: each.owner)
def test_every_listed_name_is_used_where_the_list_says(each: privates.Privates) -> None:
    sources = {file.stem: file.read_text() for file in PATCHES}
    used = {stem: (reached(text) | defined(ast.parse(text))) & set(each.names) for stem, text in sources.items()}
    assert set().union(*(used[stem] for stem in each.used_in)) == set(each.names)
    assert [stem for stem in each.used_in if not used[stem]] == []


@pytest.mark.parametrize("file", OTHERS, ids=lambda file: file.stem)
def test_no_other_file_reaches_into_what_is_not_its_own(file: Path) -> None:
    assert reached(file.read_text()) == set()


def test_a_private_name_of_somebody_else_is_seen() -> None:
    source = "class A:\n    def f(self, channel):\n        self._mine = channel._theirs\n        return self._mine"
    assert reached(source) == {"_theirs"}


@pytest.mark.parametrize("cipher", GCM)
async def test_every_listed_name_is_there(cipher: str) -> None:
    """Goes red when an asyncssh renames one: pushes would be slow, and nobody would know."""
    async with machine_over(cipher) as there:
        objects = parts(await there.connection.create_process("cat", encoding=None))
        assert [f"{each.owner}: {name}" for each, name in NAMES if not hasattr(objects[each.owner], name)] == []


async def test_an_asyncssh_without_one_of_the_names_sends_by_itself() -> None:
    async with machine_over(GCM[0]) as there:
        process = await there.connection.create_process("cat", encoding=None)
        names = {name for each, name in NAMES if {"bulk", "packets"} & set(each.used_in)}
        assert {name for name in names if patched.fast_write(Lacking(process.channel, name)) is not None} == set()
        assert patched.fast_write(process.channel) is not None


async def test_an_asyncssh_without_one_of_the_names_reads_by_itself() -> None:
    async with machine_over(GCM[0]) as there:
        channel = (await there.connection.create_process("cat", encoding=None)).channel
        names = {name for each in (privates.HEARING, privates.WINDOW) for name in each.names}
        assert {name for name in names - {"_conn"} if hear_window(Lacking(channel, name))} == set()
        assert hear_window(channel)


@pytest.mark.parametrize(
    ("version", "is_on"), [("2.24.0", True), ("2.24.9", True), ("2.25.0", False), ("2.2.4", False)]
)
def test_another_version_of_asyncssh_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, version: str, *, is_on: bool
) -> None:
    monkeypatch.setattr("asyncssh.__version__", version)
    assert patched.is_on() is is_on


async def test_with_the_variable_asyncssh_does_all_by_itself(
    logins: Logins, host: Host, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_PLAIN_SSH", "1")
    async with logins.connect(host) as there:
        for _ in range(3):
            await there.run(Command(argv=("true",)))
        assert server.lines == ["true"] * 3  # no shell waits for a line
        assert not session.can_open(there.connection)
        process = await there.connection.create_process("cat", encoding=None)
        assert patched.fast_write(process.channel) is None
