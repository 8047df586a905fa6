"""The small fleets of `tests/data/fleets`: copies, and what people have to edit there until `fleet plan` works.

Their shapes are those of public fleets, and their text is ours. `raw-hive` is as Gowee/flakes, `deploy-rs` as
tillycode/homelab-v2 with the settings of haenoe/nix-configuration, `hive` as fleets that follow colmena's manual,
`npins` as the hive of simonjanlov/nixos-config, `mixed` as flakes that have several deployers, and `plain` as one that
has none.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent.parent / "data" / "fleets"
MOST_EDITS = 3


@dataclass(frozen=True)
class Edit:
    """One line that becomes another, or several."""

    file: str
    line: str
    becomes: str


@dataclass(frozen=True)
class SmallFleet:
    """One of the fleets."""

    name: str
    hosts: dict[str, str]
    """The address of each host that fleet.toml has."""
    before: tuple[Edit, ...] = ()
    """What is edited before `fleet init` writes a file."""
    after: tuple[Edit, ...] = ()
    """What is edited afterwards, until `fleet check` finds no error and each host is reached."""
    left_out: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    evaluations: int = 1
    """How often Nix is asked until the first file is written."""
    in_lab: tuple[Edit, ...] = ()
    """What else is edited, with the port of the lab host for PORT: ports of fleet.toml come before ~/.ssh/config."""

    def copy_to(self, folder: Path) -> Path:
        """Make the fleet's folder below `folder`, and return it."""
        made = folder / self.name
        shutil.copytree(DATA / self.name, made)
        shutil.copy(DATA / "nixos.nix", made)
        return made

    @staticmethod
    def edit(folder: Path, edits: tuple[Edit, ...]) -> None:
        """Make the edits. Each line must be there once."""
        for edit in edits:
            file = folder / edit.file
            lines = file.read_text().splitlines()
            assert lines.count(edit.line) == 1, (edit.line, file.read_text())
            file.write_text("\n".join(edit.becomes if line == edit.line else line for line in lines) + "\n")


HIVE = Edit(
    "flake.nix",
    "      colmena = {",
    "      colmenaHive = colmena.lib.makeHive self.outputs.colmena;\n      colmena = {",
)
FLEETS = (
    SmallFleet("hive", {"db": "db.example.org", "web-1": "web-1.example.org", "web-2": "web-2.example.org"}),
    SmallFleet("raw-hive", {"air0": "air0.example.org", "nah0": "nah0.example.org"}, before=(HIVE,)),
    SmallFleet("deploy-rs", {"nas": "nas.example.org", "router": "router.example.org"}),
    SmallFleet(
        "plain",
        {"desk": "desk.example.org", "shelf.lan": "shelf.lan"},
        after=(
            Edit("fleet.toml", '# address = "desk.example.org"', 'address = "desk.example.org"'),
            Edit(
                "fleet.toml",
                'ignore = ["installer", "sandbox"]  # images or virtual machines, no hosts',
                'ignore = ["installer", "sandbox", "half", "wrong"]',
            ),
        ),
        left_out=("half", "wrong"),
        ignored=("installer", "sandbox"),
        # One fails, since Nix lets nobody catch an error. Then it is asked for the names, for each of the six,
        # and for the reason of one that throws.
        evaluations=1 + 1 + 6 + 1,
    ),
    SmallFleet(
        "mixed",
        {"bell": "bell", "gate": "gate.example.org", "lamp": "lamp.example.org", "oven": "oven.example.org"},
        after=(Edit("fleet.toml", "[hosts.lamp]", '[hosts.lamp]\naddress = "lamp.example.org"'),),
        left_out=("pots",),
        in_lab=(Edit("fleet.toml", "port = 2222", "port = PORT"), Edit("fleet.toml", "port = 22", "port = PORT")),
    ),
    SmallFleet("npins", {"aibo": "aibo", "kumo": "kumo.example.org"}),
)
