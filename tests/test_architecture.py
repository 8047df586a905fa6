"""The shape of the code: who may import whom, where foreign libraries live, how long things get, what errors are.

The rules of length are for shell too.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fleet
from fleet import errors
from fleet.errors import FleetError, HostError
from tests import shell

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent / "fleet"
LAYERS = (
    "model files scripts tasks text",
    "errors events ledger",
    "inventory output state",
    "machine selector plans signing",
    "nix host checks store policy notify",
    "steps diff drift images lab sandbox source",
    "deploy",
    "library",
    "mcp",
    "serve",
    "cli",
    "__init__ __main__",
)
"""From the ground up. A name may import names of the layers before its own, and itself."""
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names.split()}
HOMES = {
    "asyncssh": "machine",
    "mcp": "mcp serve",
    "jinja2": "serve",
    "markupsafe": "serve",
    "sse_starlette": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
    "pydantic": "events inventory mcp policy",
    "pydantic_core": "inventory",
    "tomli_w": "inventory",
    "re2": "inventory",
    "rich": "output",
    "click": "cli",
    "h11": "checks",
    "psycopg": "state",
    "procrastinate": "state",
    "testcontainers": "lab",
    "docker": "lab",
    "cryptography": "lab machine",
    "backports": "store",
    "compression": "store",
}
"""The places that each foreign library may be imported from, one but for what asyncssh is made of. `compression` is
Python's own from 3.14 on."""
LONGEST_FILE = 300
LONGEST_FUNCTION = 60
SOURCES = sorted(ROOT.rglob("*.py"))
SHELL = sorted(
    path
    for folder in (ROOT, ROOT.parent / "modules")
    for path in folder.rglob("*")
    if path.is_file() and shell.is_shell(path)
)
HOST_PROGRAM = sorted((ROOT / "host" / "program").glob("*.sh"))


def part_of(path: Path) -> str:
    """The name in `LAYERS` that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in the tree, in full: `from fleet import nix` is `fleet.nix`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def misplaced_imports(path: Path, source: str) -> list[str]:
    """The imports of a file that its place does not allow."""
    return [module for module in imports(ast.parse(source)) if not allowed(part_of(path), module)]


def allowed(here: str, module: str) -> bool:
    """Whether a part of the program may import a module."""
    top, _, rest = module.partition(".")
    there = rest.partition(".")[0]
    if top == "fleet":
        return there == here or LEVEL.get(there, -1) < LEVEL[here]
    return top in sys.stdlib_module_names or here in HOMES.get(top, "").split()


def too_long(source: str) -> list[str]:
    """What is longer in a file than a reader should have to bear."""
    lines = len(source.splitlines())
    long = [f"the file: {lines} lines"] if lines > LONGEST_FILE else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            long += [f"{node.name}: {length} lines"] if length > LONGEST_FUNCTION else []
    return long


def too_long_shell(source: str) -> list[str]:
    """The same of a shell program."""
    lines = len(source.splitlines())
    long = [f"the file: {lines} lines"] if lines > LONGEST_FILE else []
    functions = [function for function in shell.functions(source) if function.lines > LONGEST_FUNCTION]
    return long + [f"{function.name}: {function.lines} lines" for function in functions]


def prints(source: str) -> bool:
    """Whether something is printed without asking who listens."""
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return any(isinstance(func, ast.Name) and func.id == "print" for func in calls)


def shell_in_python(source: str) -> list[int]:
    """The lines in which a shell is told what to do by a text in Python, which shellcheck does not read."""
    nodes = list(ast.walk(ast.parse(source)))
    lists = [node.elts for node in nodes if isinstance(node, ast.Tuple | ast.List)]
    lists += [node.args for node in nodes if isinstance(node, ast.Call)]
    return [
        script.lineno
        for words in lists
        for shell_name, option, script in zip(words, words[1:], words[2:], strict=False)
        if isinstance(shell_name, ast.Constant) and str(shell_name.value).rpartition("/")[2] in ("sh", "bash")
        if isinstance(option, ast.Constant) and option.value == "-c"
        if isinstance(script, ast.Constant | ast.JoinedStr | ast.BinOp)
        or (isinstance(script, ast.Name) and script.id.isupper())
    ]


READS = ("read", "readline", "readlines", "readexactly", "readuntil", "communicate", "check_output", "getoutput")
STARTS = (
    "create_process",
    "create_session",
    "create_subprocess_exec",
    "create_subprocess_shell",
    "Popen",
)
STARTERS = {
    "machine/local.py", "machine/sessions.py", "machine/patched/session.py",  # all of them give `bounds.Outputs`
    "lab", "cli/access.py", "cli/init.py",
    "mcp/requests.py",  # their output goes to files
}  # fmt: skip
"""Where commands are started: the machines, disposable hosts, a person's own terminal, and what outlives a server."""


def starts(source: str) -> set[str]:
    """The ways in which a file starts commands."""
    names = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    return names & set(STARTS)


def reads_outputs(source: str) -> list[int]:
    """The lines in which the output of a process is read, or handed to somebody who may read it."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    outputs = [
        node.lineno for node in nodes if node.attr in ("stdout", "stderr") and "process" in ast.unparse(node.value)
    ]
    reads = [node.lineno for node in nodes if node.attr in READS and "process" in ast.unparse(node.value)]
    return sorted({*outputs, *reads})


def without_encoding(source: str) -> list[int]:
    """The lines in which text is read or written in whatever encoding the locale has."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        keys = {keyword.arg for keyword in call.keywords}
        is_true = {
            word.arg for word in call.keywords if isinstance(word.value, ast.Constant) and word.value.value is True
        }
        modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        is_text = name in ("read_text", "write_text") or bool(is_true & {"text", "universal_newlines"})
        is_open = name == "open" and ast.unparse(call.func) != "tarfile.open"
        is_text = is_text or (is_open and not {"r", "w", "a", "x", "r+", "w+"}.isdisjoint(modes))
        if is_text and "encoding" not in keys:
            found.append(call.lineno)
    return found


def waits_in_few_threads(source: str) -> list[int]:
    """The lines in which a call of the state is made in the threads that sign logins and look up names, too."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    return [
        call.lineno
        for call in calls
        if ast.unparse(call.func) == "asyncio.to_thread" and re.search(r"\bstate\.|_crew\.", ast.unparse(call.args[0]))
    ]


def subclasses(kind: type[FleetError]) -> Iterator[type[FleetError]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def all_errors() -> list[type[FleetError]]:
    """Every error that the code can name, wherever it is defined."""
    for module in pkgutil.walk_packages([str(ROOT)], "fleet."):
        if module.name != "fleet.__main__":
            importlib.import_module(module.name)
    return [FleetError, *(kind for kind in subclasses(FleetError) if kind.__module__.startswith("fleet."))]


def undocumented(kind: type[FleetError], tree: str) -> list[str]:
    """What is missing about an error: its docstring, its kind, its exact line in the tree."""
    missing = [] if kind.__doc__ else ["a docstring"]
    missing += [] if "kind" in vars(kind) else ["a kind"]
    code = str(kind.exit_code) if "exit_code" in vars(kind) and kind is not FleetError else ""
    line = re.search(rf"^[│├└─ ]*{kind.__name__}(?:\(host\))?\s+(?:(\d+)(?: |$)|\S)", tree, re.MULTILINE)
    missing += [] if line and (line[1] or "") in (code, str(kind.exit_code)) else ["its line in the tree"]
    return missing


def test_every_part_has_its_layer() -> None:
    assert {part_of(path) for path in SOURCES} == set(LEVEL)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_keeps_the_rules(path: Path) -> None:
    source = path.read_text()
    assert misplaced_imports(path, source) == []
    assert too_long(source) == []
    assert part_of(path) in ("cli", "output") or not prints(source)
    assert shell_in_python(source) == []
    assert waits_in_few_threads(source) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_commands_say_is_read_behind_limits(path: Path) -> None:
    """Nobody can forget the limits of `machine/bounds.py`: no other file reads the output of a process."""
    source, place = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
    assert not starts(source) or place in STARTERS or part_of(path) in STARTERS
    assert part_of(path) == "lab" or place == "machine/bounds.py" or reads_outputs(source) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_has_an_encoding_whatever_the_locale(path: Path) -> None:
    assert without_encoding(path.read_text(encoding="utf-8")) == []


def test_text_without_an_encoding_is_seen() -> None:
    assert without_encoding("path.read_text()\nopen('file', 'w')\nrun(argv, text=True)") == [1, 2, 3]
    assert without_encoding("path.read_text(encoding='utf-8')\nopen('file', 'wb')\nrun(argv)") == []


def test_output_that_is_read_without_limits_is_seen() -> None:
    assert reads_outputs("async def f(process):\n    await process.stdout.read(1)") == [2]
    assert reads_outputs("f(self._process.stderr)") == [1]
    assert reads_outputs("await self._process.communicate()") == [1]
    assert starts("await asyncio.create_subprocess_exec('x')") == {"create_subprocess_exec"}
    assert starts("subprocess.Popen(['x'])") == {"Popen"}


@pytest.mark.parametrize("path", SHELL, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_shell_keeps_the_rules(path: Path) -> None:
    assert too_long_shell(path.read_text()) == []


@pytest.mark.parametrize("path", HOST_PROGRAM, ids=lambda path: path.name)
def test_functions_of_the_host_program_say_which_variables_they_set(path: Path) -> None:
    assert shell.undeclared(path.read_text()) == []


def test_every_error_is_documented_and_has_a_kind() -> None:
    tree = errors.__doc__ or ""
    assert {kind.__name__: undocumented(kind, tree) for kind in all_errors() if undocumented(kind, tree)} == {}


def test_kinds_are_different() -> None:
    kinds = [kind.kind for kind in all_errors()]
    assert sorted(kinds) == sorted(set(kinds))


def test_version_is_the_package_s() -> None:
    assert f'version = "{fleet.__version__}"' in (ROOT.parent / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("model.py", "from fleet import errors"),
        ("nix.py", "from fleet.steps.plan import plan"),
        ("steps/push.py", "def f():\n    from fleet.deploy import run"),
        ("steps/push.py", "if TYPE_CHECKING:\n    from fleet.diff import fold"),
        ("output/plain.py", "import fleet.library.runs"),
        ("steps/push.py", "import asyncssh"),
        ("deploy/run.py", "from pydantic import BaseModel"),
        ("lab/lab.py", "from rich.console import Console"),
        ("output/plain.py", "import click"),
        ("cli/lab.py", "from testcontainers.core import container"),
        ("state/store.py", "from fleet.deploy import result"),
        ("nix.py", "import requests"),
    ],
)
def test_misplaced_import_is_seen(place: str, source: str) -> None:
    assert misplaced_imports(ROOT / place, source)


def test_long_file_and_long_function_are_seen() -> None:
    assert too_long("\n" * (LONGEST_FILE + 1))
    assert too_long("async def f():\n" + "    pass\n" * LONGEST_FUNCTION)
    assert not too_long("def f():\n" + "    pass\n" * (LONGEST_FUNCTION - 1))


def test_long_shell_is_seen() -> None:
    assert too_long_shell("\n" * (LONGEST_FILE + 1))
    assert too_long_shell("f() {\n" + "    :\n" * (LONGEST_FUNCTION - 1) + "}\n")
    assert not too_long_shell("f() {\n" + "    :\n" * (LONGEST_FUNCTION - 2) + "}\n")


@pytest.mark.parametrize("script", ["'true'", "f'exec {x}'", "'a' + b", "_SCRIPT"])
def test_shell_in_python_is_seen(script: str) -> None:
    assert shell_in_python(f"x = ['env', 'sh', '-c', {script}, 'sh']") == [1]
    assert shell_in_python(f"f('/bin/sh', '-c', {script})") == [1]
    assert not shell_in_python("x = ('sh', '-c', one_line('fleet', 'script'), 'sh')")


def test_wait_for_the_database_in_a_thread_of_others_is_seen() -> None:
    assert waits_in_few_threads("asyncio.to_thread(tools.state.runs)\nasyncio.to_thread(self._crew.live, 1)") == [1, 2]


def test_print_is_seen() -> None:
    assert prints("def f():\n    print('x')")


def test_undocumented_error_is_seen() -> None:
    class LostError(HostError):
        exit_code = 4

    assert undocumented(LostError, errors.__doc__ or "") == ["a docstring", "a kind", "its line in the tree"]
    wrong_code = (errors.__doc__ or "").replace("LockedError           5", "LockedError           1")
    assert undocumented(errors.LockedError, wrong_code) == ["its line in the tree"]
