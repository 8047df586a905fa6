"""The lines that are shown of a failure: those of the units it names, from before the host went back."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from fleet.errors import UnreachableError
from fleet.host.answers import State, View
from fleet.machine import Output
from fleet.model import Closure, HostName, RunId
from fleet.steps import evidence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from fleet.machine import Command, OnLine, TcpStream

RUN = RunId("20261120T042211-3fa9c1d2")
KEEPER = f"fleet-keep-{RUN}.service"


class Journal:
    """A machine whose journal has these entries, or that is gone."""

    def __init__(self, *entries: tuple[str, object]) -> None:
        self.entries = entries
        self.asked: list[Command] = []

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:  # noqa: ARG002 - the protocol
        self.asked.append(command)
        if not self.entries:
            raise UnreachableError(HostName("web-01"), "gone")
        rows = [{"_SYSTEMD_UNIT": unit, "MESSAGE": message} for unit, message in self.entries]
        return Output(status=0, stdout="".join(f"{json.dumps(row)}\n" for row in rows))

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        raise NotImplementedError


async def shown(
    *entries: tuple[str, object], reason: str = "a.service has failed", status: int = 0, said: Sequence[str] = ()
) -> list[str]:
    view = View(state=State.REVERTED, running=Closure("/nix/store/x"), status=status, since=1700000000)
    return await evidence.lines(Journal(*entries), RUN, view, reason, said)


async def test_what_the_old_system_wrote_is_not_shown() -> None:
    lines = await shown(("a.service", "cannot bind"), (KEEPER, "stopping"), ("a.service", "hello from the old one"))
    assert lines == ["cannot bind"]


async def test_lines_of_several_units_say_whose_they_are() -> None:
    lines = await shown(("a.service", "one"), ("b.service", "two"), reason="a.service has failed; b.service has failed")
    assert lines == ["a.service: one", "b.service: two"]


async def test_only_the_last_lines_and_each_once() -> None:
    assert await shown(*[("a.service", "again")] * 30) == ["again"]
    lines = await shown(*[("a.service", str(number)) for number in range(30)])
    assert lines == [str(number) for number in range(30 - evidence.MOST, 30)]


async def test_without_named_units_those_that_were_touched_are_asked() -> None:
    journal = Journal(("web.service", "no such table"))
    view = View(state=State.REVERTED, running=Closure("/nix/store/x"), status=0, since=1700000000)
    said = ["stopping the following units: web.service", "starting the following units: web.service"]
    assert await evidence.lines(journal, RUN, view, "check http: 503", said) == ["no such table"]
    assert journal.asked[0].argv[4:] == (RUN, "1700000000", str(evidence.MOST_ENTRIES), "web.service")


async def test_failed_activation_shows_the_script_without_its_progress() -> None:
    said = ["switching to system configuration /nix/store/x", "activating the configuration...", "no secrets"]
    assert await shown(("a.service", "noise"), reason="activation failed", status=2, said=said) == said[1:]


async def test_failed_commit_shows_the_boot_loader_and_not_the_way_back() -> None:
    lines = await shown(
        (KEEPER, "no room"), (KEEPER, "switching profile from version 3 to 2"), (KEEPER, "more"), reason="commit: bad"
    )
    assert lines == ["no room"]


async def test_host_that_cannot_be_asked_shows_what_the_switch_said() -> None:
    assert await shown(said=["warning: the following units failed: a.service"]) == [
        "warning: the following units failed: a.service"
    ]


def test_what_somebody_else_says_of_a_unit_is_not_believed(tmp_path: Path) -> None:
    """Anybody on the host may write `UNIT=`, with a keeper's name in it too: that would end what is shown."""
    forged = {"_PID": "999", "_SYSTEMD_UNIT": "session-3.scope", "UNIT": KEEPER, "MESSAGE": "forged"}
    rows = [forged, {**forged, "_PID": "1", "_SYSTEMD_UNIT": "init.scope", "UNIT": "a.service", "MESSAGE": "exited"}]
    entries = evidence.read("".join(f"{json.dumps(row)}\n" for row in rows))
    assert entries == [("session-3.scope", "forged"), ("a.service", "exited")]
    asked = " ".join(argv_of_journalctl(tmp_path, "a.service", "b.service"))
    (about_units,) = (group for group in asked.split(" + ") if "UNIT=b.service PRIORITY" in group)
    assert "UNIT=a.service" in about_units
    assert "_PID=1" in about_units.split()
    assert asked.endswith(f" + _SYSTEMD_UNIT={KEEPER}")


def test_keeper_alone_is_asked_where_no_unit_is_named(tmp_path: Path) -> None:
    *flags, keeper = argv_of_journalctl(tmp_path)
    assert (keeper, "+" in flags) == (f"_SYSTEMD_UNIT={KEEPER}", False)
    assert {"--since=@7", f"--lines={evidence.MOST_ENTRIES}"} <= set(flags)


def test_units_of_a_user_are_asked_for_as_that_users_alone(tmp_path: Path) -> None:
    """Somebody else may have a unit of the same name, which says anything."""
    asked = " ".join(argv_of_journalctl(tmp_path, "a.service", "b.service", user="root"))
    about = "_SYSTEMD_USER_UNIT={}.service _UID=0"
    assert asked.endswith(f" {about.format('a')} + {about.format('b')} + _SYSTEMD_UNIT={KEEPER}")
    assert " UNIT=" not in asked
    row = {"_PID": "7", "_SYSTEMD_UNIT": "user@1000.service", "_SYSTEMD_USER_UNIT": "a.service", "MESSAGE": "no"}
    assert evidence.read(json.dumps(row)) == [("a.service", "no")]


def argv_of_journalctl(folder: Path, *units: str, user: str = "") -> list[str]:
    """What the command on the host calls journalctl with."""
    fake = folder / "journalctl"
    fake.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    fake.chmod(0o755)
    path = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(
        evidence.journal(units, RUN, since=7, user=user).argv, env=path, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("message", "text"), [([104, 105, 255], ["hi\ufffd"]), (None, []), ("\x1b[31mred\x1b[0m\n\ntwo", ["red", "two"])]
)
def test_messages_that_are_no_plain_text(message: object, text: list[str]) -> None:
    row = json.dumps({"_SYSTEMD_UNIT": "a.service", "MESSAGE": message})
    assert evidence.read(f"not json\n{row}\n[]\n") == [("a.service", line) for line in text]


@pytest.mark.parametrize(
    "said", ["a" * 500_000, "a.service." * 50_000, ".service " * 60_000, "a:" * 250_000, ("x" * 300 + " ") * 1_600]
)
def test_units_are_found_in_a_time_that_no_text_can_stretch(said: str) -> None:
    begun = time.process_time()
    assert len(evidence.units_in(f"{said} b.service has failed")) <= evidence.MOST_UNITS
    assert time.process_time() - begun < 2


def test_units_are_found_wherever_they_are_named() -> None:
    text = "failed: a.service, b@x\\x2dy.timer. (c.socket) d.services e.service:f.mount .path"
    assert evidence.units_in(text) == ["a.service", "b@x\\x2dy.timer", "c.socket", "e.service:f.mount"]


@pytest.mark.parametrize(
    "entry",
    ["[" * 100_000, '{"MESSAGE": ' + "[" * 100_000, "1" * 5000, '{"MESSAGE": [1e999, -1, 256, "a", null]}', "{}", '""',
     '{"UNIT": {"a": 1}, "MESSAGE": {}}'],
)  # fmt: skip
def test_entry_that_is_none_says_nothing(entry: str) -> None:
    good = json.dumps({"_PID": "1", "UNIT": "a.service", "MESSAGE": "cannot \x1b[2Jbind"})
    assert evidence.read(f"{entry}\n{good}\n") == [("a.service", "cannot bind")]
