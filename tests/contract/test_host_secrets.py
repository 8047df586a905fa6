"""Secrets as the host program writes them, in folders of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.host.answers import parse
from tests.contract.host_functions import SHELLS, call, put

if TYPE_CHECKING:
    from pathlib import Path

RUN = "20261120T042211-3fa9c1d2"
FAKES = """
staged={folder}/staged
have_memory() {{ mkdir -p $staged; }}
is_safe() {{ :; }}
start_of() {{ echo s1; }}
restart_noted() {{ answer due "$(sort -u "$1" | tr '\\n' ' ')"; {then}; }}
"""


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(folder: Path, shell: str, *, then: str = ":", number: str = "") -> dict[str, list[str]]:
    """Fill one secret; `then` is done in place of starting its unit anew."""
    sent = f"secret token {folder}/place/token root root 400 tmpfs after web.service\nvalue Z29vZA==\nend\n"
    script = FAKES.format(folder=folder, then=then) + f"fill_secrets {RUN} {number}"
    return parse(call(folder, script, shell=shell, stdin=sent))


def test_fill_that_was_cut_short_before_its_units_started_is_done_anew(tmp_path: Path, shell: str) -> None:
    assert fill(tmp_path, shell, then="exit 0")["compared"] == ["token yes"]
    again = fill(tmp_path, shell)
    assert (again["compared"], again["due"]) == (["token yes"], ["web.service s1 "])
    assert (tmp_path / "place/token").read_text() == "good"
    third = fill(tmp_path, shell)
    assert third["compared"] == ["token no"]
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["token"]


@pytest.mark.parametrize("verb", ["put_secrets", "fill_secrets"])
def test_secrets_are_written_to_the_end_though_whoever_sent_them_is_gone(tmp_path: Path, shell: str, verb: str) -> None:
    """A connection that was lost is a HUP, or a PIPE at the first answer; and then no answer can be written."""
    sent = "".join(
        f"secret {name} {tmp_path}/place/{name} root root 400 tmpfs after web.service\nvalue Z29vZA==\n"
        for name in ("token", "other")
    )
    fakes = FAKES.format(folder=tmp_path, then=f"kill -HUP $$; kill -PIPE $$; touch {tmp_path}/restarted")
    script = f"{fakes}\nsystemctl() {{ false; }}\nsleep() {{ :; }}\nsync() {{ :; }}\n{verb} {RUN} >/dev/full 2>&1"
    call(tmp_path, f"{script}; true", shell=shell, stdin=f"{sent}end\n")
    assert {path.name for path in (tmp_path / "place").iterdir()} == {"token", "other"}
    assert (tmp_path / "restarted").exists()
    assert not (tmp_path / "staged" / RUN).exists()


@pytest.mark.parametrize(
    ("number", "state", "run", "refused"),
    [
        ("3", "switched", RUN, []),
        ("2", "switched", RUN, ["locked"]),  # displaced
        ("3", "reverting", RUN, ["locked"]),
        ("3", "switched", "20261120T042211-other", ["locked"]),
    ],
)
def test_only_who_proves_a_boot_on_trial_fills_in_it(
    tmp_path: Path, shell: str, number: str, state: str, run: str, refused: list[str]
) -> None:
    put(tmp_path / "run/open", run=run, state=state, prover="3", rebooting="once", deadline="9")
    said = fill(tmp_path, shell, number=number)
    assert said.get("refused", []) == refused
    assert (tmp_path / "place/token").exists() is not bool(refused)


def gone_back(folder: Path, shell: str, meanwhile: str, *, had: bool = True) -> list[str]:
    """What is said of the way back where the activation has done something to the place of a secret."""
    put(folder / "run/open", run=RUN, secret=f"token {folder}/place/token root root 600 disk before web.service")
    put(folder / f"staged/{RUN}/values", token="new")
    put(folder / "place", **{"token": "old"} if had else {"other": "any"})
    script = (
        FAKES.format(folder=folder, then=":")
        + f"""
      sync() {{ :; }}; put_durably() {{ put "$1" "${{2:-yes}}"; }}; mkdir {folder}/elsewhere; set +f
      enter $open && write_secrets before && get {folder}/place/token; set +f; {meanwhile}; cd $open
      restore_secrets; lost_secret"""
    )
    said = call(folder, f"{script}; true", shell=shell).splitlines()
    assert said[0] == "new"
    return said[1:]


@pytest.mark.parametrize("had", [True, False])
@pytest.mark.parametrize(
    "meanwhile", [":", "rm place/token", "rm place/token; ln -s ../elsewhere place/token", "ln -sf none place/token"]
)
def test_what_was_in_the_place_of_a_secret_is_there_again(
    tmp_path: Path, shell: str, meanwhile: str, *, had: bool
) -> None:
    assert gone_back(tmp_path, shell, f"cd {tmp_path}; {meanwhile}", had=had) == []
    place = tmp_path / "place/token"
    assert not place.is_symlink()
    assert (place.read_text() if had else place.exists()) == ("old\n" if had else False)
    assert {path.name for path in place.parent.iterdir()} == {"token" if had else "other"}
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "meanwhile",
    [
        "rm -r place",
        "rm -r place; mkdir place",
        "rm -r place; ln -s elsewhere place",
        "rm place/.token.fleet-old place/token",
        "rm place/token; mkdir place/token",
    ],
)
def test_old_secret_that_cannot_be_put_back_is_named(tmp_path: Path, shell: str, meanwhile: str) -> None:
    said = gone_back(tmp_path, shell, f"cd {tmp_path}; {meanwhile}")
    assert said == ["the secret token is not what it was at begin"]
    if (tmp_path / "place/token").is_dir():  # it is not moved in there, where nobody would find it
        assert (tmp_path / "place/.token.fleet-old").read_text() == "old\n"
