"""The speed of the last push to each host, from the folders of earlier runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fleet.deploy.speeds import ENOUGH, Speeds
from fleet.model import HostName

if TYPE_CHECKING:
    from pathlib import Path


def record(state: Path, run: str, *lines: str) -> None:
    folder = state / "runs" / run
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))


def pushed(host: str, size: int, seconds: float) -> str:
    return json.dumps({"event": "push_finished", "host": host, "paths": 1, "wire_bytes": size, "seconds": seconds})


def test_newest_push_that_is_big_enough_counts(tmp_path: Path) -> None:
    record(tmp_path, "20260101T000000-a", pushed("web", 4 * ENOUGH, 2.0), pushed("db", ENOUGH, 4.0))
    record(tmp_path, "20260102T000000-b", pushed("web", 8 * ENOUGH, 2.0))
    record(tmp_path, "20260103T000000-c", pushed("web", ENOUGH - 1, 2.0))
    speeds = Speeds(tmp_path)
    assert [speeds.of(HostName(name)) for name in ("web", "db", "other")] == [4 * ENOUGH, ENOUGH / 4, None]


def test_what_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    assert Speeds(tmp_path).of(HostName("web")) is None
    good = pushed("web", ENOUGH, 1.0)
    bad = [good[:-20], '{"event": "push_finished"}', '"push_finished"', '["push_finished"]', pushed("db", ENOUGH, 0.0)]
    quoted = json.dumps(
        {"event": "output_line", "host": "db", "text": '"push_finished"', "wire_bytes": ENOUGH, "seconds": 1}
    )
    record(tmp_path, "20260101T000000-a", *bad, quoted, good)
    (tmp_path / "runs" / "20260102T000000-b").mkdir()
    (tmp_path / "runs" / "file").write_text("")
    speeds = Speeds(tmp_path)
    assert [speeds.of(HostName(name)) for name in ("web", "db")] == [ENOUGH, None]


def test_runs_are_read_once_and_only_when_a_host_is_asked_for(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path)
    record(tmp_path, "20260101T000000-a", pushed("web", ENOUGH, 1.0))
    assert speeds.of(HostName("web")) == ENOUGH
    record(tmp_path, "20260102T000000-b", pushed("web", ENOUGH, 2.0))
    assert speeds.of(HostName("web")) == ENOUGH
