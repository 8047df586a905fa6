"""`fleet token`: a token is shown once, its digest is written where it belongs, and nothing else is changed."""

from __future__ import annotations

import re
import time
import tomllib
from typing import TYPE_CHECKING

import pytest

from fleet.policy import PrincipalKind, principals, tokens
from tests.unit.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import CommandLine

OLD = f"sha256:{'0' * 64}"
FORMS = {
    "none yet": '# people\n[principals.ann]\nkind = "person"   # she\n\n[principals.bob]\nkind = "person"\n',
    "an empty list": '[principals.ann]\nkind = "person"\ntokens = []\n\n[principals.bob]\nkind = "person"\n',
    "one": f'[principals.bob]\nkind = "person"\n[principals.ann]\ntokens = ["{OLD}"]\nkind = "person"\n',
    "several lines": f'[principals.ann]\nkind = "person"\ntokens = [\n  "{OLD}", # the old one\n]\n'
    '[principals.bob]\nkind = "ci"\n',
    "the other has some": f'[principals.bob]\nkind = "person"\ntokens = ["{OLD}"]\n[principals.ann]\nkind = "person"\n',
    "no end of line": '[principals.bob]\nkind = "person"\n[principals.ann]\nkind = "person"',
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, "a")


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_token_is_made_is_known_and_is_revoked(world: World, command_line: CommandLine, text: str) -> None:
    file = world.file.with_name("principals.toml")
    file.write_text(text)
    said = command_line(world, "token", "new", "ann", "--expires", "12h")
    assert said.code == 0, said.err
    token = said.out.strip()
    assert re.fullmatch(r"fleet_[0-9]{10}_[0-9A-Za-z_-]{43}", token)
    assert token not in file.read_text()
    assert token not in said.err
    now = time.time()
    holder = tokens.holder_of(token, principals.load(world.file.parent), now=now)
    assert holder is not None
    assert (holder.name, holder.kind) == ("ann", PrincipalKind.PERSON)
    assert now + 43_000 < holder.expires < now + 43_300
    digest = tokens.digest_of(token)
    assert f"ann  {digest}\n" in command_line(world, "token", "list").out
    revoked = command_line(world, "token", "revoke", "ann", digest.removeprefix("sha256:")[:8])
    assert revoked.code == 0
    assert digest in revoked.err
    after, before = tomllib.loads(file.read_text()), tomllib.loads(text)
    assert {**after["principals"]["ann"], "tokens": []} == {**before["principals"]["ann"], "tokens": []}
    assert after["principals"]["ann"].get("tokens", []) == before["principals"]["ann"].get("tokens", [])
    assert after["principals"]["bob"] == before["principals"]["bob"]
    assert [line for line in text.splitlines() if "#" in line] == [
        line for line in file.read_text().splitlines() if "#" in line
    ]
    assert tokens.holder_of(token, principals.load(world.file.parent), now=now) is None


def test_all_tokens_of_somebody_are_revoked_at_once(world: World, command_line: CommandLine) -> None:
    file = world.file.with_name("principals.toml")
    file.write_text(FORMS["none yet"])
    made = [command_line(world, "token", "new", name).out.strip() for name in ("ann", "ann", "bob")]
    assert command_line(world, "token", "revoke", "ann").code == 0
    known = principals.load(world.file.parent)
    found = [tokens.holder_of(token, known, now=time.time()) for token in made]
    assert [one.name if one else None for one in found] == [None, None, "bob"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("new", "carl"), "is nobody in it"),
        (("new", "ann", "--expires", "400d"), "between a minute and 366 days"),
        (("new", "ann", "--expires", "5"), "--expires"),
        (("new", "ann", "--expires", "1s"), "between a minute"),
        (("revoke", "ann"), "no such token"),
        (("revoke", "carl"), "is nobody in it"),
    ],
)
def test_what_is_wrong_is_said_and_the_file_stays(
    world: World, command_line: CommandLine, words: tuple[str, ...], said: str
) -> None:
    file = world.file.with_name("principals.toml")
    file.write_text(FORMS["none yet"])
    answer = command_line(world, "token", *words)
    assert answer.code == 2
    assert answer.out == ""
    assert said in answer.err
    assert file.read_text() == FORMS["none yet"]


def test_without_principals_there_is_nobody_to_make_a_token_for(world: World, command_line: CommandLine) -> None:
    answer = command_line(world, "token", "new", "ann")
    assert (answer.code, answer.out) == (2, "")
    assert "there is no such file" in answer.err
    assert command_line(world, "token", "list").out == ""
