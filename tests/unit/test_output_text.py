"""Amounts, tables, summaries and plans, as text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fleet.events import FindingReported, HostFinished, HostPlanned, RunFinished
from fleet.model import Closure, Failure, FailureKind, HostName, HostResult, Outcome, RunId, Severity
from fleet.output.facts import fact_lines
from fleet.output.format import change, failure_lines, human_bytes, human_seconds, short_name
from fleet.output.patch import patch_lines
from fleet.output.summary import grouped_failures, plan_lines, summary_lines
from fleet.output.table import table
from fleet.text import listed

WEB = HostName("web-1")


def system(host: str, version: str, letter: str = "a") -> Closure:
    return Closure(f"/nix/store/{letter * 32}-nixos-system-{host}-{version}")


def kept(host: str, **fields: object) -> HostResult:
    given_fields = {"closure": system(host, "25.05.2"), "previous": system(host, "25.05.1"), "boot_default": True}
    return HostResult(host=HostName(host), outcome=Outcome.KEPT, **(given_fields | fields))  # type: ignore[arg-type]


def broken(host: str, message: str = "switch failed (exit status 4)") -> HostResult:
    failure = Failure(
        kind=FailureKind.SWITCH,
        message=f"{host}: {message}",
        ran=f"ssh {host} -- stc test",
        said=("Failed to start nginx.service", "bind: address in use"),
        now="runs the old system, healthy",
        hint=f"journalctl -u nginx on {host}",
    )
    return HostResult(host=HostName(host), outcome=Outcome.ROLLED_BACK, seconds=3.0, failure=failure)


def finished(*hosts: HostResult, error: Failure | None = None) -> RunFinished:
    return RunFinished(run=RunId("r"), exit_code=1, error=error, hosts=hosts)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (-2048, "-2.0 KiB"),
        (47815000, "45.6 MiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_bytes_read_well(count: int, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (9.96, "10 s"), (59.6, "1m 00s"), (125, "2m 05s"), (3720, "1h 02m")],
)
def test_seconds_read_well(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@given(st.integers(-(2**59), 2**59))
def test_bytes_are_always_short(count: int) -> None:
    assert len(human_bytes(count)) <= 13


def test_names_lose_their_hash_and_host() -> None:
    assert short_name(system("web-1", "25.05.2"), "web-1") == "25.05.2"
    assert short_name("/nix/store/" + "a" * 32 + "-other") == "other"
    assert short_name("no path") == "no path"


def test_equal_names_are_told_apart_by_hash() -> None:
    assert change(system("web-1", "25.05", "a"), system("web-1", "25.05", "b"), WEB) == "25.05 aaaaaaa → 25.05 bbbbbbb"
    assert change(system("web-1", "1"), system("web-1", "2"), WEB) == "1 → 2"
    assert change(None, system("web-1", "2"), WEB) == "2"


def test_long_lists_are_cut() -> None:
    assert listed([str(n) for n in range(20)], most=3) == "0, 1 and 18 more"


def test_failure_has_its_five_parts() -> None:
    result = broken("web-1")
    assert result.failure is not None
    assert failure_lines(["web-1"], result.failure) == [
        "error: web-1: switch failed (exit status 4)",
        "  ran:   ssh web-1 -- stc test",
        "  said:  Failed to start nginx.service",
        "         bind: address in use",
        "  now:   runs the old system, healthy",
        "  hint:  journalctl -u nginx on web-1",
    ]


def test_empty_parts_of_a_failure_are_left_out() -> None:
    assert failure_lines([], Failure(kind=FailureKind.CONFIG, message="no hosts")) == ["error: no hosts"]


def test_escape_sequences_of_a_host_do_not_reach_the_terminal() -> None:
    failure = Failure(kind=FailureKind.HOST, message="bad", said=("\x1b]0;owned\x07\x1b[31mred\x1b[0m",))
    assert failure_lines([], failure) == ["error: bad", "  said:  red"]


def test_table_is_aligned_and_never_cut_without_a_terminal() -> None:
    long = "x" * 300
    assert table(("a", "b"), [("1", long), ("日本", "\x1b[31m2")]).splitlines() == [
        "a     b",
        f"1     {long}",
        "日本  2",
    ]


def test_table_fits_a_terminal() -> None:
    drawn = table(("host", "text"), [("web-1", "word " * 40)], is_terminal=True, width=60)
    assert "web-1" in drawn
    assert "─" in drawn


def test_summary_tells_each_host_each_failure_and_the_totals() -> None:
    results = (kept("web-1", seconds=12.0, reboot_pending=True), broken("web-2"))
    assert summary_lines(finished(*results)) == [
        "host   outcome      system             time   notes",
        "web-1  kept         25.05.1 → 25.05.2  12 s   reboot pending: the new kernel is not proven",
        "web-2  rolled back                     3.0 s",
        "",
        "error: web-2: switch failed (exit status 4)",
        "  ran:   ssh web-2 -- stc test",
        "  said:  Failed to start nginx.service",
        "         bind: address in use",
        "  now:   runs the old system, healthy",
        "  hint:  journalctl -u nginx on web-2",
        "",
        "1 kept, 1 rolled back",
    ]


def test_tested_system_is_not_called_the_boot_default() -> None:
    assert "not the boot default" in "\n".join(summary_lines(finished(kept("web-1", boot_default=False))))


def test_same_failure_on_many_hosts_is_shown_once() -> None:
    groups = grouped_failures([broken("web-1"), broken("web-2"), broken("web-3", "disk is full")])
    assert [hosts for hosts, _ in groups] == [("web-1", "web-2"), ("web-3",)]
    text = "\n".join(summary_lines(finished(broken("web-1"), broken("web-2"))))
    assert text.count("error:") == 1
    assert "error: web-1, web-2: switch failed" in text


def test_failure_of_the_run_is_shown_without_hosts() -> None:
    error = Failure(kind=FailureKind.EVALUATION, message="attribute missing", hint="fleet check")
    assert summary_lines(finished(error=error)) == ["error: attribute missing", "  hint:  fleet check"]


def planned(host: str, action: str, **fields: object) -> HostPlanned:
    given_fields: dict[str, object] = {
        "closure": system(host, "2"),
        "running": system(host, "1"),
        "wave": 1,
        "missing_paths": 0,
        "missing_bytes": 0,
        "reboot": (),
    }
    return HostPlanned(host=HostName(host), action=action, **(given_fields | fields))  # type: ignore[arg-type]


def test_plan_shows_action_bytes_reboot_waves_and_findings() -> None:
    hosts = [
        planned("web-1", "switch", missing_paths=12, missing_bytes=34 * 1024**2, reboot=("kernel", "initrd")),
        planned("web-2", "unchanged", running=system("web-2", "2")),
    ]
    finding = FindingReported(
        host=HostName("web-3"), severity=Severity.ERROR, kind="unreachable", message="no route", hint="is it on?"
    )
    note = FindingReported(host=None, severity=Severity.NOTE, kind="untracked", message="a.nix is not in git")
    waves = [[HostName("web-1")], [HostName("web-2")]]
    assert plan_lines(hosts, waves, [finding, note]) == [
        "host   action     running → wanted  push                reboot",
        "web-1  switch     1 → 2             12 paths, 34.0 MiB  kernel, initrd",
        "web-2  unchanged  2                 -                   -",
        "",
        "wave 1: web-1",
        "wave 2: web-2",
        "",
        "error: web-3: no route",
        "  hint:  is it on?",
        "note: a.nix is not in git",
        "",
        "1 switch, 1 unchanged; 12 paths to push, 34.0 MiB",
    ]


def test_plan_says_once_what_is_so_of_many_hosts() -> None:
    notes = [
        FindingReported(
            host=HostName(name),
            severity=Severity.NOTE,
            kind="reboot",
            message=f"{name}: needs a reboot",
            hint=f"fleet reboot {name}",
        )
        for name in ("web-1", "web-2")
    ]
    assert plan_lines([], (), notes) == ["", "note: web-1, web-2: needs a reboot", "  hint:  fleet reboot HOST"]
    assert plan_lines([], (), notes[:1]) == ["", "note: web-1: needs a reboot", "  hint:  fleet reboot web-1"]


def test_plan_shows_what_comes_from_caches_what_is_sent_and_how_long_that_takes() -> None:
    mib = 1024**2
    hosts = [
        planned(
            "pi", "switch", missing_paths=12, missing_bytes=34 * mib, substitute_paths=2, substitute_bytes=4 * mib,
            wire_bytes=3 * mib, push_seconds=2.5, room_needed=70 * mib, room_free=900 * mib,
        ),
        planned("web-2", "unchanged", running=system("web-2", "2"), room_free=900 * mib),
    ]  # fmt: skip
    assert plan_lines(hosts) == [
        "host   action     running → wanted  push                           takes        from caches       "
        "room on /nix                    reboot",
        "pi     switch     1 → 2             10 paths, 30.0 MiB as 3.0 MiB  about 2.5 s  2 paths, 4.0 MiB  "
        "900.0 MiB free, needs 70.0 MiB  -",
        "web-2  unchanged  2                 -                              -            -                 "
        "-                               -",
        "",
        "1 switch, 1 unchanged; 10 paths to push, 30.0 MiB; 2 paths from caches, 4.0 MiB",
    ]


def test_patch_is_coloured_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    patch = ["@@ -1 +1 @@", "-old", "+new\x1b[31m", " same"]
    assert patch_lines(patch) == ["@@ -1 +1 @@", "-old", "+new", " same"]
    assert patch_lines(patch, is_terminal=True)[2] == "\x1b[32m+new\x1b[0m"


def unchanged(count: int, **fields: object) -> list[HostResult]:
    there = {"outcome": Outcome.UNCHANGED, "closure": system("x", "1"), "previous": system("x", "1"), **fields}
    return [HostResult(host=HostName(f"host-{number}"), **there) for number in range(count)]  # type: ignore[arg-type]


def planned_unchanged(count: int, **fields: object) -> list[HostPlanned]:
    usual = {
        "action": "unchanged", "closure": system("x", "1"), "running": system("x", "1"), "wave": 0,
        "missing_paths": 0, "missing_bytes": 0, "substitute_paths": 0, "substitute_bytes": 0, "download_bytes": 0,
        "wire_bytes": 0, "push_seconds": None, "room_needed": 0, "room_free": 0, "reboot": (), **fields,
    }  # fmt: skip
    return [HostPlanned(host=HostName(f"host-{number}"), **usual) for number in range(count)]  # type: ignore[arg-type]


def test_few_unchanged_hosts_have_a_row_each() -> None:
    assert [line.split()[0] for line in summary_lines(finished(*unchanged(2)))[1:3]] == ["host-0", "host-1"]
    assert [line.split()[0] for line in plan_lines(planned_unchanged(2))[1:3]] == ["host-0", "host-1"]


def test_many_unchanged_hosts_are_in_the_totals_alone() -> None:
    many = unchanged(1000)
    assert summary_lines(finished(*many)) == ["1000 unchanged"]
    lines = summary_lines(finished(*many, kept("web-1"), *unchanged(1, notes=("look here",))))
    assert [line.split()[:1] for line in lines] == [["host"], ["web-1"], ["host-0"], [], ["1"]]
    assert lines[-1] == "1 kept, 1001 unchanged"
    assert plan_lines(planned_unchanged(1000)) == ["1000 unchanged"]
    pending = plan_lines([*planned_unchanged(1000), *planned_unchanged(1, reboot=("kernel",))])
    assert (pending[1].split()[:2], pending[2:]) == (["host-0", "unchanged"], ["", "1001 unchanged"])


def test_host_that_is_deferred_is_no_error() -> None:
    failure = Failure(kind=FailureKind.UNREACHABLE, message="a: no answer", now="nothing was changed")
    ended = [
        HostResult(host=HostName("a"), outcome=Outcome.DEFERRED, failure=failure),
        HostResult(host=HostName("b"), outcome=Outcome.FAILED, failure=replace(failure, message="b: broken")),
    ]
    lines = summary_lines(RunFinished(run=RunId("r"), exit_code=1, error=None, hosts=tuple(ended)))
    assert "note: a: no answer" in lines
    assert "error: b: broken" in lines


def test_host_that_never_began_took_no_time() -> None:
    ended = HostResult(host=HostName("a"), outcome=Outcome.NEEDS_HUMAN, seconds=0.0)
    assert fact_lines(HostFinished(host=HostName("a"), result=ended)) == ["a: needs human"]
    lines = summary_lines(RunFinished(run=RunId("r"), exit_code=4, error=None, hosts=(ended,)))
    assert lines[1].split() == ["a", "needs", "human", "-"]


def test_name_of_a_host_stands_once_before_a_message() -> None:
    found = FindingReported(host=HostName("broken"), severity=Severity.ERROR, kind="x", message="broken: no", hint="h")
    assert fact_lines(found) == ["broken: error: no", "broken: hint: h"]
    assert plan_lines([], findings=[found])[1] == "error: broken: no"


def ended(number: int, outcome: Outcome, *notes: str) -> HostResult:
    return HostResult(
        host=HostName(f"web-{number:02}"), outcome=outcome, boot_default=True, seconds=number, notes=notes
    )


@pytest.mark.parametrize("outcome", [Outcome.KEPT, Outcome.STAGED, Outcome.UNCHANGED])
def test_many_hosts_that_are_well_in_the_same_way_share_a_row(outcome: Outcome) -> None:
    alike = [ended(number, outcome, "same note") for number in range(1, 41)]
    hosts = (*alike, ended(50, outcome, "other note"), ended(60, Outcome.ROLLED_BACK), ended(61, Outcome.ROLLED_BACK))
    lines = summary_lines(RunFinished(run=RunId("r"), exit_code=1, error=None, hosts=hosts))
    assert [re.split(r"\s{2,}", line)[0] for line in lines[1:5]] == [
        "web-01, web-02 and 38 more", "web-50", "web-60", "web-61",
    ]  # fmt: skip
    assert " 40 s " in lines[1]
    assert lines[-1].startswith("41 ")


def test_many_hosts_without_a_note_are_only_counted() -> None:
    hosts = tuple(ended(number, Outcome.KEPT) for number in range(40))
    assert summary_lines(RunFinished(run=RunId("r"), exit_code=0, error=None, hosts=hosts)) == ["40 kept"]


def test_names_of_hosts_are_not_broken_on_a_narrow_terminal() -> None:
    name = "gpu-01.example.org"
    lines = table(("host", "outcome", "notes"), [(name, "rolled back", "word " * 20)], is_terminal=True, width=40)
    assert name in re.sub(r"\x1b\[[0-9;]*m", "", lines)


RAN = ("shop-2", "2026-12-01 11:50:38", "root@vm", "rolled_back", "b78b9e6-dirty", "20261201T115038-4678e2b8")
WHY = "new shop: health check web: http://127.0.0.1:8080/: 503 Lab, wanted 200 (within 60 s) 日本語"


@pytest.mark.parametrize("width", [*range(20, 130, 3), 200])
def test_no_terminal_is_so_narrow_that_anything_is_left_out(width: int) -> None:
    """A cell that is cut off tells something else: 503 became 50."""
    headers = ("host", "when", "by", "outcome", "revision", "run", "why")
    drawn = table(headers, [(*RAN, WHY), ("日本", *RAN[1:], "")], is_terminal=True, width=width)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    lines = plain.splitlines()
    assert "…" not in plain
    is_table = lines[0].split() == list(headers)
    if is_table:
        assert max(map(cell_len, lines)) <= width
        starts = [lines[0].index(header) for header in headers]
        ends = [*(start - 3 for start in starts[1:]), None]
        rows = [line for line in lines[2:] if not line.startswith("日本")][: -1 if lines[-1].startswith(" ") else None]
        told = ["".join(line[start:end] for line in rows) for start, end in zip(starts, ends, strict=True)]
        for cell in RAN:
            assert any(cell.replace(" ", "") in column.replace(" ", "") for column in told)
        assert WHY.replace(" ", "") in told[-1].replace(" ", "")
    else:
        assert [*RAN, WHY] == [lines[0], *(line[12:] for line in lines[1:7])]
        assert lines[7] == "日本"
    assert RAN[-1] in plain
