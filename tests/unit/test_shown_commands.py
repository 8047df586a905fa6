"""The commands that documentation shows: which count as shown, and whether the command line would take them."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from fleet import cli
from fleet.cli.parse import complaint
from fleet.source.commands import is_documentation, shown

PAGE = """
`fleet check` looks, `fleet trust` is only mentioned, and `fleet deploy gpu-01` is a command.

```console
$ fleet plan   # comments; fleet of ships
fleet 0.1.0 said this
$ cd lab && fleet deploy --all | tee log; fleet status
$ fleet deploy \\
    --goal test gpu-01
```

~~~sh
fleet ssh gpu-01
```
fleet diff
~~~
The fleet sails, and ``the `fleet of` ships`` too.
"""


def test_commands_are_found_with_their_lines() -> None:
    assert list(shown(PAGE, cli.COMMANDS)) == [
        (2, "fleet deploy gpu-01"),
        (5, "fleet plan"),
        (7, "fleet deploy --all"),
        (7, "fleet status"),
        (9, "fleet deploy --goal test gpu-01"),
        (13, "fleet ssh gpu-01"),
        (15, "fleet diff"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("README.md", True),
        ("docs/a/b.md", True),
        ("skills/fleet/SKILL.md", True),
        ("vendor/README.md", False),
        ("docs/CHANGELOG.md", False),
        ("docs/a.nix", False),
        ("notes.md", False),
    ],
)
def test_documentation_is_what_people_and_agents_take_commands_from(path: str, *, expected: bool) -> None:
    assert is_documentation(PurePath(path)) == expected


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("fleet deplyo x", "Did you mean deploy?"),
        ("fleet deploy --gaol test", "--gaol"),
        ("fleet deploy --goal tset", "tset"),
        ("fleet ssh", "Missing"),
        ("fleet lab power x maybe", "maybe"),
        ("fleet lab sink", "sink"),
        ("fleet deploy 'a", "No closing quotation"),
    ],
)
def test_a_command_that_is_wrong_is_noticed(wrong: str, words: str) -> None:
    assert words in (complaint(wrong) or "")


@pytest.mark.parametrize(
    "right",
    [
        "fleet --version",
        "fleet deploy --help",
        "fleet --debug deploy x",
        "fleet init --dir /no/such/folder",
        "fleet lab",
    ],
)
def test_a_command_that_is_right_is_taken_without_a_word(right: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(right) is None
    assert capsys.readouterr().out == ""
