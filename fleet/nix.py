"""Build the argv of every Nix command, and parse its output. Nothing is run here.

This works with Nix 2.8 and newer and with Lix. Where the new command line has changed between versions, the old
`nix-store` is used, which has not.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from fleet.inventory.origins import FILE, is_expression
from fleet.machine import Command
from fleet.model import Closure, Derivation, HostName
from fleet.scripts import expression, one_line
from fleet.text import parsed_json, version_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

NIX = ("nix", "--extra-experimental-features", "nix-command flakes")
PATIENTLY = float("inf")
"""No timeout: evaluations and builds here take as long as they take, and people who watch can interrupt them."""
LONGEST_BUILD = 24 * 3600.0
"""Seconds for a build on a host, which must not keep the others waiting for ever."""
SLOWEST = 64 << 10
"""Bytes per second that a host fetches from its own caches, at least. A push is quicker than less."""
PAUSE = 600.0
"""Seconds that this may take besides: a cache may have to be waited for."""


def _local(*argv: str, timeout: float = 60.0, stdin: bytes = b"") -> Command:
    return Command(argv=argv, timeout=timeout, stdin=stdin, root=False)


def with_options(command: Command, options: Mapping[str, str]) -> Command:
    """Return the command with these options, if it is one of Nix. Those that the command has itself win."""
    begin = 2 if command.argv[:2] == ("xargs", "-r") else 0
    if not options or command.argv[begin] not in ("nix", "nix-store", "nix-instantiate"):
        return command
    flags = (word for name, value in options.items() for word in ("--option", name, value))
    argv = (*command.argv[: begin + 1], *flags, *command.argv[begin + 1 :])
    return dataclasses.replace(command, argv=argv)


SETTINGS = _local(*NIX, "show-config", "--json"), _local(*NIX, "config", "show", "--json")
"""Two commands, of which Nix knows one: since 2.20 it is the second. Prints every setting of Nix."""


def read_settings(stdout: str) -> frozenset[str]:
    """Parse what `SETTINGS` printed: the names that options may have. Raise `ValueError` if it is something else."""
    found = parsed_json(stdout)
    if not isinstance(found, dict) or not all(isinstance(about, dict) for about in found.values()):
        raise ValueError("it has no settings")
    aliases = {alias for about in found.values() for alias in about.get("aliases", ())}
    additive = {f"extra-{name}" for name, about in found.items() if isinstance(about.get("value"), list | dict)}
    return frozenset({*found, *aliases, *additive})


def quoted(text: str) -> str:
    """Return the text as a Nix string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${").replace("\r", "\\r")
    return f'"{escaped}"'


LONGEST = 100_000
"""The most characters of an expression: Linux allows 131,071 bytes in one argument."""


def evaluate(reference: str, output: str, attributes: Mapping[HostName, tuple[str, ...]]) -> Command:
    """Evaluate the derivations of these hosts, whose attributes lie below one flake output, and nothing else.

    A lock file that does not fit is an error: what is locked is deployed. Evaluation of a flake is pure, whatever
    nix.conf says; that of a file is not, and `output` is empty. Nix's own cache is off: it does not work with
    `--apply`, and fails when several processes write it at once.
    """
    return _each(reference, output, attributes, expression("fleet", "system"))


def ends(reference: str, output: str, attributes: Mapping[HostName, tuple[str, ...]]) -> Command:
    """Evaluate what the configurations of these hosts end with: what `source/scripts/follows.nix` names."""
    return _each(reference, output, attributes, expression("fleet.source", "follows"))


def _each(reference: str, output: str, attributes: Mapping[HostName, tuple[str, ...]], function: str) -> Command:
    """Apply a function in the Nix language to what each host's attribute is, and print the values as JSON."""
    picks = " ".join(pick(host, path) for host, path in attributes.items())
    outputs = "if builtins.isFunction v then v { } else v"
    apply = f"v: let o = {outputs}; f = {function.strip()}; in {{ {picks} }}"
    always = ("--json", "--apply", apply, "--option", "eval-cache", "false", "--option", "pure-eval")
    if is_expression(reference):
        return _local(*NIX, "eval", "--file", reference.removeprefix(FILE), "", *always, "false", timeout=PATIENTLY)
    return _local(*NIX, "eval", f"{reference}#{output}", "--no-update-lock-file", *always, "true", timeout=PATIENTLY)


def pick(host: HostName, path: tuple[str, ...]) -> str:
    """Return the part of the expression for one host."""
    return f"{quoted(host)} = f {'.'.join(['o', *map(quoted, path)])};"


def read_evaluation(stdout: str) -> dict[HostName, tuple[Derivation, Closure]]:
    """Parse what `evaluate` printed. Raise `ValueError` if that is something else."""
    found = parsed_json(stdout)
    try:
        pairs = {HostName(host): (Derivation(both["drv"]), Closure(both["out"])) for host, both in found.items()}
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("it has no derivation and path for each host") from error
    if any(not isinstance(path, str) or not path.startswith("/") for pair in pairs.values() for path in pair):
        raise ValueError("it has something else than paths")
    return pairs


def is_placeholder(path: str) -> bool:
    """Whether the path stands for one that is not known before the build: a content-addressed derivation has none."""
    return re.fullmatch("/[0-9a-z]{52}", path) is not None


def realise(paths: Iterable[str], *, root: Path) -> Command:
    """Build derivations and fetch missing paths, and go on after a failure.

    The roots `root`, `root-2`, … keep the results from the garbage collector.
    """
    argv = ("nix-store", "--realise", "--keep-going", "--add-root", str(root), "--indirect", *paths)
    return _local(*argv, timeout=PATIENTLY)


def refer_to(derivations: Iterable[str]) -> Command:
    """Add a file to the local store that refers to derivations, and print its store path as a Nix string.

    With a root on the file the garbage collector keeps the derivations; a root on a derivation itself is only made by
    commands that build it.
    """
    names = " ".join(f"(builtins.storePath {quoted(derivation)})" for derivation in derivations)
    expression = f'builtins.toFile "fleet-plan" (toString [ {names} ])'
    return _local("nix-instantiate", "--eval", "--read-write-mode", "--expr", expression)


def build_on_host(derivation: Derivation) -> Command:
    """Build one derivation on the machine where this runs, as root."""
    return Command(argv=("nix-store", "--realise", derivation), timeout=LONGEST_BUILD, verb=("build", derivation))


_BUILDER_FAILED = re.compile(r"(/nix/store/[0-9a-z]{32}-[^'\s]+\.drv)")


def failed_derivations(stderr: str) -> tuple[Derivation, ...]:
    """Return the derivations that the error lines of a build name, each once."""
    errors = (line for line in stderr.splitlines() if line.lstrip().startswith("error"))
    return tuple(dict.fromkeys(Derivation(path) for line in errors for path in _BUILDER_FAILED.findall(line)))


def requisites(*paths: str) -> Command:
    """Print the closure of the paths, dependencies first."""
    return dataclasses.replace(_local("nix-store", "--query", "--requisites", *paths), verb=("requisites", *paths))


def missing(paths: Iterable[str]) -> Command:
    """Print those of the paths that are not in the store."""
    argv = ("xargs", "-r", "nix-store", "--check-validity", "--print-invalid")
    return Command(argv=argv, stdin=_lines(paths), timeout=120.0, verb=("missing",))


HASTILY = ("--option", "download-attempts", "1", "--option", "connect-timeout", "5")
"""For questions: a cache that does not answer at once is no help."""


def substitutable(paths: Iterable[str]) -> Command:
    """Print on stderr which of the paths the machine's own caches have. Fetches nothing."""
    argv = ("xargs", "-r", "nix-store", "--realise", "--dry-run", *HASTILY)
    return Command(argv=argv, stdin=_lines(paths), verb=("substitutable",))


_WILL_FETCH = "will be fetched ("
_DOWNLOAD = re.compile(r"will be fetched \(([0-9]{1,12}(?:\.[0-9]{1,6})?) ([KMGT]i)?B download")
_UNITS = {None: 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


def read_substitutable(stderr: str) -> tuple[frozenset[str], int]:
    """Parse what `substitutable` printed: the paths, and the size of their download in bytes, exact to a hundredth.

    A size that is no number counts as 0.
    """
    paths: set[str] = set()
    download = 0.0
    is_list = False
    for line in stderr.splitlines():
        begins = _WILL_FETCH in line
        if found := _DOWNLOAD.search(line):
            download += float(found[1]) * _UNITS[found[2]]
        is_list = begins or (is_list and line.startswith("  /"))
        if is_list and not begins:
            paths.add(line.strip())
    return frozenset(paths), round(download)


def fetch(sizes: Mapping[str, int]) -> Command:
    """Fetch the paths that the machine's own caches have, whatever becomes of the others.

    `sizes` has the NAR size of each path in bytes, which decides how long that may take.
    """
    argv = ("xargs", "-r", "nix-store", "--realise", "--keep-going")
    timeout = PAUSE + sum(sizes.values()) / SLOWEST
    return Command(argv=argv, stdin=_lines(sizes), timeout=timeout, keep=1 << 16, verb=("fetch",))


def _lines(paths: Iterable[str]) -> bytes:
    return "".join(f"{path}\n" for path in paths).encode()


def add_file(path: Path) -> Command:
    """Add a file to the local store, content-addressed, and print its store path."""
    return _local("nix-store", "--add", str(path))


def copy(socket: Path, paths: Iterable[str], *, derivation: bool = False) -> Command:
    """Copy the closures of the paths into the store whose daemon answers at the socket.

    Signatures do not count: the far daemon serves root, and the login as root is the proof.
    """
    flags = ["--no-check-sigs", *(["--derivation"] if derivation else [])]
    return _local(*NIX, "copy", *flags, "--to", f"unix://{socket}", *paths, timeout=PATIENTLY)


def copy_by_way_of(store: str, way: str, paths: Iterable[str], *, derivation: bool = False) -> Command:
    """Copy the closures of the paths `--to` another store or `--from` it, whose signatures count."""
    return _local(*NIX, "copy", way, store, *(["--derivation"] if derivation else []), *paths, timeout=PATIENTLY)


def sign(key: Path, closures: Iterable[str]) -> Command:
    """Sign every path of the closures in the local store with the key in the file."""
    return _local(*NIX, "store", "sign", "--recursive", "--key-file", str(key), *closures, timeout=PATIENTLY)


def configuration() -> Command:
    """Print NIX_REMOTE, and `name = value` for each setting of Nix."""
    return Command(argv=("sh", "-c", one_line("fleet", "nix-configuration")), verb=("nix-configuration",))


DAEMON = Command(argv=("nix-daemon", "--stdio"), timeout=PATIENTLY, verb=("daemon",))
"""Speaks the daemon protocol on stdin and stdout. As root it opens the store itself, so signatures do not matter."""


def evaluate_expression(expression: str) -> Command:
    """Print the value of an expression as JSON. Its evaluation is not pure, and no lock file is written."""
    return _local(*NIX, "eval", "--impure", "--json", "--no-write-lock-file", "--expr", expression, timeout=PATIENTLY)


def metadata(flake: str) -> Command:
    """Print what the flake and its locked inputs are. A lock file that does not fit is an error."""
    return _local(*NIX, "flake", "metadata", "--json", "--no-update-lock-file", flake, timeout=PATIENTLY)


def update_input(flake: str, name: str, version: str) -> Command:
    """Lock one input of the flake anew, in its flake.lock. `version` is what `nix --version` has printed.

    Since Nix 2.19 `nix flake update` takes inputs; before that, and in Lix, `nix flake lock` has a flag for it.
    """
    numbers = version_numbers(version)[:2]
    if "Lix" in version or numbers < (2, 19):
        return _local(*NIX, "flake", "lock", "--update-input", name, flake, timeout=PATIENTLY)
    return _local(*NIX, "flake", "update", name, "--flake", flake, timeout=PATIENTLY)


def names(flake: str, output: str) -> Command:
    """Print the attribute names of an output."""
    return _asking(flake, output, "builtins.attrNames")


NO_OUTPUT = "does not provide attribute"
"""What Nix says about an output that the flake does not have, but not about one that does not evaluate."""


def derivation_of(flake: str, attribute: str) -> Command:
    """Evaluate one derivation of the flake, and build nothing."""
    return _asking(flake, attribute, "d: d.drvPath")


def build_output(flake: str, attribute: str) -> Command:
    """Build one derivation of the flake."""
    reference = f"{flake}#{attribute}"
    return _local(*NIX, "build", "--no-link", "--no-update-lock-file", reference, timeout=PATIENTLY)


def _asking(flake: str, output: str, apply: str) -> Command:
    flags = ("--json", "--no-update-lock-file", "--apply", apply)
    return _local(*NIX, "eval", f"{flake}#{output}", *flags, timeout=PATIENTLY)


CURRENT_SYSTEM = _local("nix-instantiate", "--eval", "--expr", "builtins.currentSystem")
"""Prints the system of this machine, as a Nix string."""


VERSION = _local("nix", "--version")
"""Prints the version of Nix."""
