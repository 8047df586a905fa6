"""The gate's own functions: lines that are read as fleet writes them, plans as fleet knows them, and no others."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.drift.places import HOME_PLACES, SYSTEM_PLACES
from fleet.errors import GateError
from fleet.host.program import source
from fleet.machine import Command, gate
from fleet.model import Closure, HostName
from fleet.plans.plan import FIELDS
from fleet.signing import APPROVAL, PLAN, keygen
from fleet.steps.gated import gate_of
from tests.contract.host_functions import SHELLS, call
from tests.nixos_modules import ROOT, run
from tests.signer import Device
from tests.tools import new_key

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.drift.places import Place

WORDS = """
read_gate() { login=fleet; }
close_folders() { :; }
takes() { :; }
obey() { printf '%s\\n' "$verb"; for word; do printf '%s\\n' "$word"; done; }
gate "$(cat)"
"""
ONE = HostName("one")


def obeyed(folder: Path, line: str, shell: str = "sh") -> list[str]:
    """The verb and the words that the gate has read; or its refusal."""
    return call(folder, WORDS, shell=shell, stdin=line).split("\n")[:-1]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "words", [("word", "run", "abandon found check web: 503 %20 100%", "wait", "", "3"), ("a", "%", "%%", "% 25")]
)
def test_words_arrive_as_they_were_sent(tmp_path: Path, words: tuple[str, ...], shell: str) -> None:
    line = gate.line(ONE, Command(argv=("x",), verb=words))
    assert obeyed(tmp_path, line, shell) == list(words)


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20), min_size=1, max_size=5))
def test_line_is_printable_ascii_and_has_one_word_for_each(words: list[str]) -> None:
    line = gate.line(ONE, Command(argv=("x",), verb=tuple(words)))
    assert re.fullmatch("[!-~]+(?: [!-~]+)*", line)
    sent = [word.replace("%20", " ").replace("%25", "%") if word != "%" else "" for word in line.split(" ")[1:]]
    assert sent == words


def test_what_no_gate_can_read_is_replaced_and_what_no_gate_does_is_refused() -> None:
    assert gate.line(ONE, Command(argv=("x",), verb=("word", "r\u00f6d\nx"))) == "1 word r?d?x"
    with pytest.raises(GateError, match="runs no commands, and this is one: id"):
        gate.line(ONE, Command(argv=("id",)))


@pytest.mark.parametrize(
    ("spoken", "says"), [("1", "facts"), ("2,1", "facts"), ("9,2,1", "facts"), ("2", ""), ("11", "")]
)
def test_gate_speaks_what_both_sides_know(tmp_path: Path, spoken: str, says: str) -> None:
    said = obeyed(tmp_path, f"{spoken} facts")
    assert said == [says] if says else said[0] == "refused=protocol"


def test_newest_protocol_of_both_is_spoken_and_the_one_before_too(tmp_path: Path) -> None:
    """As a later program has it, which knows two."""
    for ours, theirs, spoken in (("3 2", "2,1", "2"), ("3 2", "3,2", "3"), ("2 1", "3,2", "2"), ("3 2", "1", "")):
        script = f'gate_protocols="{ours}"\n' + WORDS.replace("printf '%s\\n' \"$verb\"", "echo $spoken")
        said = call(tmp_path, script, stdin=f"{theirs} facts").split()
        assert said == [spoken] if spoken else said[0] == "refused=protocol"


def test_gate_knows_every_line_of_a_plan() -> None:
    lists = {name: set(found.split()) for name, found in re.findall(r'^(head_\w+)="([^"]*)"', source(), re.MULTILINE)}
    assert lists["head_keys"] == {field.key for field in FIELDS if not field.is_list}
    assert lists["head_lists"] == {field.key for field in FIELDS if field.is_list} | {"host"}


@pytest.mark.parametrize("shell", SHELLS)
def test_gate_of_a_system_has_one_digest_here_and_there(tmp_path: Path, shell: str) -> None:
    system = tmp_path / "system"
    gate_files = system / "etc" / "fleet" / "gate"
    (gate_files / "checks").mkdir(parents=True)
    (tmp_path / "store").write_text("fleet-gate v1\n")
    (gate_files / "config").symlink_to(tmp_path / "store")
    (gate_files / "checks" / "a.b").write_text("true\n")
    (gate_files / "checks-2").write_text("")

    def both() -> tuple[str, str]:
        return gate_of(Closure(str(system))), call(tmp_path, f"gate_of {system}", shell=shell).strip()

    here, there = both()
    assert (len(here), here) == (64, there)
    (gate_files / "checks" / "a.b").write_text("false\n")
    other, again = both()
    assert (other, other != here) == (again, True)
    shutil.rmtree(gate_files)
    assert both() == ("", "-")


TAKE_APART = """
line=" sk-"
if ! take_apart "$(cat)"; then echo "$why"; else echo "$key $namespace" && if is_touched; then echo touched; fi; fi
"""


def signature(folder: Path, made: str, shell: str = "sh") -> str:
    return call(folder, TAKE_APART, shell=shell, stdin=made).strip()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("flags", [0, 1, 4, 5])
def test_signature_is_taken_apart_as_fleet_does(tmp_path: Path, flags: int, shell: str) -> None:
    device = Device()
    made = device.sign("text", APPROVAL, flags=flags)
    said = signature(tmp_path, made.line, shell).split()
    blob = str(device.public).partition(" ")[2]
    assert said == [blob, APPROVAL, *(["touched"] if flags & 1 else [])]


def test_signature_of_ssh_keygen_is_taken_apart(tmp_path: Path) -> None:
    for kind in ("ed25519", "ecdsa", "rsa"):
        key = new_key(tmp_path / kind, kind=kind)
        made = keygen.sign("text", namespace=PLAN, key=key)
        assert signature(tmp_path, made.line).split()[:2] == [str(keygen.read_public(key)).partition(" ")[2], PLAN]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_no_bytes_make_it_read_beyond_a_signature(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever was changed or cut: it is read as fleet reads it, or not at all."""
    import base64

    from fleet.signing import Signature

    blob = bytearray(Device().sign("text", APPROVAL).blob)
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(blob[: data.draw(st.integers(0, len(blob)))] if data.draw(st.booleans()) else blob)
    said = signature(tmp_path_factory.mktemp("s"), base64.b64encode(cut).decode())
    try:
        known = Signature.of(cut)
    except ValueError:
        return  # ssh-keygen decides about what only fleet finds odd
    assert said.split()[0] == base64.b64encode(known.key.blob).decode()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('ann namespaces="fleet-plan@v1" ssh-ed25519 AAAAB', ""),
        ('ann namespaces="fleet-plan@v1,fleet-approval@v1" ssh-ed25519 AAAAB', ""),
        ("ann ssh-ed25519 AAAAB", "not as the module writes it"),
        ('ann namespaces="git,fleet-plan@v1" ssh-ed25519 AAAAB', "not as the module writes it"),
        ('* namespaces="fleet-plan@v1" ssh-ed25519 AAAAB', "not as the module writes it"),
        ('ann,bob namespaces="fleet-plan@v1" ssh-ed25519 AAAAB', "not as the module writes it"),
        ('ann cert-authority,namespaces="fleet-plan@v1" ssh-ed25519 AAAAB', "not as the module writes it"),
        ('ann namespaces="fleet-plan@v1" ssh-ed25519 AAAAB comment', "not as the module writes it"),
    ],
)
def test_list_of_signers_is_read_only_as_the_module_writes_it(tmp_path: Path, line: str, says: str) -> None:
    folder = tmp_path / "system" / "etc" / "fleet" / "gate"
    folder.mkdir(parents=True)
    (folder / "allowed_signers").write_text(f"{line}\n")
    said = call(tmp_path, f"read_signers {tmp_path}/system")
    assert (says in said) if says else said == ""


def test_one_device_under_two_names_is_seen_whatever_its_keys_were_made_for(tmp_path: Path) -> None:
    folder = tmp_path / "system" / "etc" / "fleet" / "gate"
    folder.mkdir(parents=True)
    one = Device()
    other = Device(application=b"ssh:work", private=one.private)
    rows = [f'{name} namespaces="{PLAN}" {device.public}\n' for name, device in (("ann", one), ("bob", other))]
    (folder / "allowed_signers").write_text("".join(rows))
    assert "one key has two names" in call(tmp_path, f"read_signers {tmp_path}/system")
    (folder / "allowed_signers").write_text(rows[0] + rows[1].replace("bob", "ann"))
    assert call(tmp_path, f"read_signers {tmp_path}/system") == ""


BY_NAME = {"system", "specialisation", "gpu", "gates", "boot-state", "df", "journal", "switch", "units"}
"""The scripts that gate.sh runs by the name of their verb, or by a word of the caller's."""


@pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
def test_scripts_of_the_closure_are_those_that_the_host_program_runs() -> None:
    scripts = f"builtins.mapAttrs (_: builtins.pathExists) (import {ROOT}/fleet/host/gate/scripts.nix)"
    there = json.loads(run("nix-instantiate", "--eval", "--strict", "--json", "--expr", scripts))
    assert set(there.values()) == {True}
    program = "".join(path.read_text() for path in (ROOT / "fleet" / "host" / "program").glob("gate*.sh"))
    assert set(there) == set(re.findall(r"\$\(script ([a-z-]+)\)", program)) | BY_NAME


@pytest.mark.parametrize(("name", "places"), [("home", HOME_PLACES), ("system", SYSTEM_PLACES)])
def test_gate_looks_for_drift_in_the_places_of_fleet(name: str, places: tuple[Place, ...]) -> None:
    text = (ROOT / "fleet" / "host" / "gate" / f"{name}-places.txt").read_text()
    assert text.splitlines() == [place.path for place in places]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("place", ["pipe", "zero", "sparse"])
def test_what_a_user_has_in_the_place_of_keys_is_neither_waited_for_nor_held_in_memory(
    tmp_path: Path, place: str, shell: str
) -> None:
    """Root reads it, for `fleet check` and before each transaction."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "good").write_text("ssh-ed25519 AAAA me\n")
    script = f"""ulimit -v 600000; keys_of() {{ echo $PWD/$1; }}; login='' accounts=root:x:0:0::/root:
      has_keys {place} && echo has; has_keys good && echo good
      keys='{tmp_path}/{place} {tmp_path}/good'; people | grep ^key"""
    told = call(tmp_path, script, shell=f"timeout 20 {shell}").splitlines()
    assert told == ["good", f"key {tmp_path}/good:ssh-ed25519 AAAA me"]
