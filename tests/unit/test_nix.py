"""The argv of nix commands, and how their output reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet import nix
from fleet.model import Closure, Derivation, HostName
from fleet.scripts import expression

A, B = HostName("a"), HostName("b.lan")
DRV = "/nix/store/" + "0" * 32 + "-x.drv"
OTHER = "/nix/store/" + "1" * 32 + "-y.drv"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("${evil}", '"\\${evil}"'),
        ("$${x}", '"$\\${x}"'),
        ("a\rb", '"a\\rb"'),
    ],
)
def test_text_is_quoted_for_nix(text: str, quoted: str) -> None:
    assert nix.quoted(text) == quoted


SYSTEM = expression("fleet", "system").strip()


def function(picks: str) -> str:
    return f"v: let o = if builtins.isFunction v then v {{ }} else v; f = {SYSTEM}; in {{ {picks} }}"


def test_evaluation_asks_for_all_hosts_at_once_and_changes_no_lock_file() -> None:
    command = nix.evaluate("/f", "nixosConfigurations", {A: ("a", "config"), B: ("b.lan", "config")})
    assert command.argv == (
        *nix.NIX, "eval", "/f#nixosConfigurations", "--no-update-lock-file", "--json",
        "--apply", function('"a" = f o."a"."config"; "b.lan" = f o."b.lan"."config";'),
        "--option", "eval-cache", "false", "--option", "pure-eval", "true",
    )  # fmt: skip
    assert (command.root, command.timeout) == (False, nix.PATIENTLY)


def test_evaluation_of_a_file_reads_it_as_a_whole_and_may_look_around() -> None:
    command = nix.evaluate("file:/f/default.nix", "", {A: ("a",), B: ("nodes", "b")})
    assert command.argv == (
        *nix.NIX, "eval", "--file", "/f/default.nix", "", "--json",
        "--apply", function('"a" = f o."a"; "b.lan" = f o."nodes"."b";'),
        "--option", "eval-cache", "false", "--option", "pure-eval", "false",
    )  # fmt: skip


def test_evaluation_is_read() -> None:
    found = nix.read_evaluation(json.dumps({"a": {"drv": DRV, "out": "/nix/store/o"}}))
    assert found == {A: (Derivation(DRV), Closure("/nix/store/o"))}


def test_build_goes_on_after_a_failure_and_keeps_its_results() -> None:
    command = nix.realise([Derivation(DRV), Derivation(OTHER)], root=Path("/r/closure"))
    assert command.argv == (
        "nix-store", "--realise", "--keep-going", "--add-root", "/r/closure", "--indirect", DRV, OTHER,
    )  # fmt: skip
    assert nix.build_on_host(Derivation(DRV)).root


def test_derivations_that_failed_are_named_once() -> None:
    stderr = (
        f"building '{OTHER}'...\nerror: builder for '{DRV}' failed with exit code 1\n  error: 1 dependency of '{DRV}'\n"
    )
    assert nix.failed_derivations(stderr) == (DRV,)
    assert nix.failed_derivations("error: something else\n") == ()


def test_paths_go_by_stdin_however_many_there_are() -> None:
    command = nix.missing(["/nix/store/a", "/nix/store/b"])
    assert command.argv[:2] == ("xargs", "-r")
    assert command.stdin == b"/nix/store/a\n/nix/store/b\n"


@pytest.mark.parametrize(("derivation", "flags"), [(False, []), (True, ["--derivation"])])
def test_copy_goes_to_the_socket(derivation: bool, flags: list[str]) -> None:  # noqa: FBT001
    command = nix.copy(Path("/tmp/s"), ["/nix/store/a"], derivation=derivation)
    assert command.argv == (*nix.NIX, "copy", "--no-check-sigs", *flags, "--to", "unix:///tmp/s", "/nix/store/a")


FETCHED = """\
warning: unable to download 'http://x/nix-cache-info': Couldn't connect to server (7)
these 2 paths will be fetched (1.50 MiB download, 4.00 MiB unpacked):
  /nix/store/a
  /nix/store/b
don't know how to build these paths:
  /nix/store/c
this path will be fetched (512.0 KiB download, 1.0 MiB unpacked):
  /nix/store/d
these 2 derivations will be built:
  /nix/store/e.drv
"""


def test_what_the_caches_have_is_read_from_what_a_dry_run_says() -> None:
    assert nix.read_substitutable(FETCHED) == (frozenset({"/nix/store/a", "/nix/store/b", "/nix/store/d"}), 2 << 20)
    assert nix.read_substitutable("") == (frozenset(), 0)
    assert nix.read_substitutable("  /nix/store/a\n") == (frozenset(), 0)


def test_other_commands() -> None:
    assert nix.requisites("/nix/store/a").argv == ("nix-store", "--query", "--requisites", "/nix/store/a")
    assert nix.add_file(Path("/f")).argv == ("nix-store", "--add", "/f")
    assert nix.DAEMON.root
