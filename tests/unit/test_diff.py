"""Two systems compared: packages, units, files and parts that need a reboot."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.diff import PackageChange, SystemFacts, UnitsDiff, compare, diff_json, diff_lines, fold, needed_texts
from fleet.diff.packages import changed_packages, package_name
from fleet.diff.units import parse_unit
from fleet.model import Closure, HostName

WEB = HostName("web-1")
HASH = "0123456789abcdfghijklmnpqrsvwxyz"
OLD = Closure(f"/nix/store/{HASH}-nixos-system-web-1-25.05.1")
NEW = Closure(f"/nix/store/{HASH}-nixos-system-web-1-25.05.2")
UNITS = "systemd/system"


def path(name: str) -> str:
    return f"/nix/store/{HASH}-{name}"


def units(closure: Closure, wants: dict[str, frozenset[str]] | None = None, /, **texts: str) -> SystemFacts:
    """A system of units with these texts; `__` in a name stands for its dot, `___` for a drop-in's folder."""
    named = {f"{UNITS}/{name.replace('___', '.d/').replace('__', '.')}": text for name, text in texts.items()}
    return SystemFacts(
        closure=closure, files={p: f"#{text}" for p, text in named.items()}, texts=named, wants=wants or {}
    )


def fate(old: str, new: str, name: str = "a__service") -> str:
    diff = compare(units(OLD, **{name: old}), units(NEW, **{name: new})).units
    return next((f for f in ("start", "stop", "restart", "reload", "left_alone") if getattr(diff, f)), "none")


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("nginx-1.28.0", ("nginx", "1.28.0")),
        ("nginx-1.28.0-doc", ("nginx", "1.28.0")),
        ("glibc-2.40-66-bin", ("glibc", "2.40-66")),
        ("python3.12-numpy-2.2.6", ("python3.12-numpy", "2.2.6")),
        ("perl5.40.0-DBI-1.644-man", ("perl5.40.0-DBI", "1.644")),
        ("unit-nginx.service", ("unit-nginx.service", "")),
        ("bash-interactive-5.2p37-man", ("bash-interactive", "5.2p37")),
        ("x86-64-level-1", ("x86", "64-level-1")),
        ("etc", ("etc", "")),
    ],
)
def test_a_store_path_has_a_package_and_a_version(name: str, package: tuple[str, str]) -> None:
    assert package_name(path(name)) == package


def test_packages_are_added_removed_and_changed() -> None:
    old = {path("nginx-1.26.1"): 1000, path("nginx-1.26.1-doc"): 10, path("gone-1"): 5, path("same-1"): 7}
    new = {path("nginx-1.28.0"): 1500, path("new-2"): 9, path("same-1"): 7}
    assert changed_packages(old, new) == (
        PackageChange("gone", ("1",), (), -5),
        PackageChange("new", (), ("2",), 9),
        PackageChange("nginx", ("1.26.1",), ("1.28.0",), 490),
    )


def test_versions_are_in_natural_order() -> None:
    (change,) = changed_packages({path("a-1.10"): 1, path("a-1.9"): 1}, {path("a-1.10"): 1})
    assert change.old == ("1.9", "1.10")


def test_small_unversioned_paths_are_no_packages() -> None:
    assert changed_packages({}, {path("unit-nginx.service"): 500}) == ()
    assert changed_packages({}, {path("initrd"): 9000}) == (PackageChange("initrd", (), ("",), 9000),)


@given(st.dictionaries(st.from_regex(rf"/nix/store/{HASH}-[a-z]{{1,3}}-[0-9]", fullmatch=True), st.integers(0, 10**9)))
@settings(max_examples=25)
def test_a_system_does_not_differ_from_itself(paths: dict[str, int]) -> None:
    assert changed_packages(paths, paths) == ()


def test_size_is_of_the_whole_closure_and_the_system_is_no_package() -> None:
    old = SystemFacts(closure=OLD, paths={OLD: 100, path("a-1"): 50})
    new = SystemFacts(closure=NEW, paths={NEW: 120, path("a-1"): 50})
    diff = compare(old, new)
    assert (diff.size, diff.packages) == (20, ())


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[Service]\nExecStart=/a", "[Service]\nExecStart=/a", "none"),
        ("[Service]\nExecStart=/a", "[Service]\nExecStart=/b", "restart"),
        ("[Unit]\nDescription=a", "[Unit]\nDescription=b", "left_alone"),
        ("[Unit]\nX-Reload-Triggers=a", "[Unit]\nX-Reload-Triggers=b\nDescription=b", "reload"),
        ("[Unit]\nX-Restart-Triggers=a", "[Unit]\nX-Restart-Triggers=b", "restart"),
        ("[Service]\nExecStart=/a", "[Service]\nExecStart=/b\nX-ReloadIfChanged=true", "reload"),
        ("[Service]\nExecStart=/a", "[Service]\nExecStart=/b\nX-RestartIfChanged=false", "left_alone"),
        ("[Service]\nExecStart=/a", "[Service]\nExecStart=/b\nX-StopIfChanged=false", "restart"),
        ("[Service]\nExecStart=/a", "[Unit]\nRefuseManualStop=true\n[Service]\nExecStart=/b", "left_alone"),
        ("[Service]\nExecStart=/a", "# said\n\n[Service]\nExecStart = /a", "left_alone"),
        ("[Service]\nExecReload=/a", "[Unit]\nDescription=b\n[Service]\nExecReload=/b", "reload"),
        ("[Service]\nNice=1", "[Service]\nNice=1\nExecReload=/b", "reload"),
        ("[Service]\nNice=1\nExecReload=/a", "[Service]\nNice=1", "left_alone"),
        ("[Service]\nExecReload=/a", "[Service]\nExecReload=/b\nNice=1", "restart"),
        ("[Unit]\nX-Reload-Triggers=a", "[Unit]\nDescription=b", "left_alone"),
        ("[Service]\nNice=1\n[Install]\nWantedBy=a", "[Service]\nNice=1\n[Install]\nWantedBy=b", "left_alone"),
    ],
)
def test_a_changed_service_meets_the_fate_that_its_file_asks_for(old: str, new: str, expected: str) -> None:
    assert fate(old, new) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a__target", "left_alone"), ("a__slice", "left_alone"), ("a__socket", "left_alone"), ("a__timer", "restart")],
)
def test_some_kinds_of_units_are_never_restarted(name: str, expected: str) -> None:
    assert fate("[Unit]\nAfter=a", "[Unit]\nAfter=b", name) == expected


def test_mount_options_are_remounted() -> None:
    assert fate("[Mount]\nOptions=a", "[Mount]\nOptions=b", "srv__mount") == "reload"
    assert fate("[Mount]\nWhat=a", "[Mount]\nWhat=b", "srv__mount") == "restart"
    assert fate("[Mount]\nWhat=a", "[Mount]\nWhat=a\nOptions=b", "srv__mount") == "restart"
    assert fate("[Mount]\nWhat=a", "[Mount]\nWhat=b", "nix__mount") == "reload"


def test_a_unit_whose_text_is_unknown_counts_as_restarted() -> None:
    old = SystemFacts(closure=OLD, files={f"{UNITS}/a.service": "#1"})
    new = SystemFacts(closure=NEW, files={f"{UNITS}/a.service": "#2"})
    assert compare(old, new).units == UnitsDiff(restart=("a.service",))


def test_a_drop_in_changes_its_unit() -> None:
    unit = "[Service]\nExecStart=/a"
    diff = compare(
        units(OLD, a__service=unit, a__service___x__conf="[Service]\nNice=1"),
        units(NEW, a__service=unit, a__service___x__conf="[Service]\nNice=2\nX-ReloadIfChanged=true"),
    )
    assert diff.units == UnitsDiff(reload=("a.service",))


def test_units_that_went_away_are_stopped_unless_they_say_no() -> None:
    old = units(OLD, a__service="[Service]", b__service="[Unit]\nX-StopOnRemoval=false")
    assert compare(old, units(NEW)).units == UnitsDiff(stop=("a.service",))


def test_masked_units_are_stopped() -> None:
    masked = SystemFacts(closure=NEW, files={f"{UNITS}/a.service": "masked"})
    assert compare(units(OLD, a__service="[Service]"), masked).units == UnitsDiff(stop=("a.service",))
    assert compare(masked, units(NEW)).units == UnitsDiff()


def test_newly_wanted_units_are_started() -> None:
    wants = {
        "multi-user.target": frozenset({"new.service", "tty@1.service", "unknown.service"}),
        "rescue.target": frozenset({"rare.service"}),
    }
    new = units(NEW, wants, new__service="", tty__service="", rare__service="", **{"tty@__service": ""})
    assert compare(units(OLD), new).units.start == ("new.service", "tty@1.service")
    assert compare(new, new).units.start == ()


def test_unit_files_are_parsed_as_systemd_does() -> None:
    text = "[Service]\nA=1\nA=2\nB=1\nB=\n; no\nC=x \\\n  y\n"
    parsed = parse_unit(text)
    assert parsed["Service", "A"] == ["1", "2"]
    assert parsed["Service", "B"] == []
    assert parsed["Service", "C"][0].split() == ["x", "y"]


def etc(closure: Closure, **files: str) -> SystemFacts:
    return SystemFacts(closure=closure, files={name: f"#{text}" for name, text in files.items()}, texts=files)


def test_files_are_added_removed_and_changed_with_a_patch() -> None:
    diff = compare(etc(OLD, gone="x", same="x", motd="a\nb\n"), etc(NEW, new="x", same="x", motd="a\nc\n"))
    assert [(entry.path, entry.kind) for entry in diff.etc] == [
        ("gone", "removed"),
        ("motd", "changed"),
        ("new", "added"),
    ]
    assert diff.etc[1].patch == ("--- a/etc/motd", "+++ b/etc/motd", "@@ -1,2 +1,2 @@", " a", "-b", "+c")


def test_files_that_are_no_text_have_no_patch() -> None:
    old = SystemFacts(closure=OLD, files={"a": "1"}, texts={"a": None})
    new = SystemFacts(closure=NEW, files={"a": "2"}, texts={"a": "text"})
    assert compare(old, new).etc[0].patch is None


def test_only_changed_files_are_read() -> None:
    same = {"same": "#1", "new": "#1", f"{UNITS}/same.service": "#1", f"{UNITS}/gone.service": "#1"}
    old = SystemFacts(closure=OLD, files=same | {"motd": "#1", f"{UNITS}/a.service": "#1"})
    new = SystemFacts(closure=NEW, files={**same, "motd": "#2", f"{UNITS}/a.service": "#2"})
    assert needed_texts(old, new) == (f"{UNITS}/a.service", "motd")


def test_parts_that_need_a_reboot_are_named() -> None:
    old = SystemFacts(closure=OLD, parts={"kernel": "/a", "initrd": "/a", "systemd": "/s"})
    new = SystemFacts(closure=NEW, parts={"kernel": "/b", "initrd": "/b", "systemd": "/s", "kernel-params": "quiet"})
    assert compare(old, new).reboot == ("kernel", "initrd", "kernel-params")


def test_what_forbids_a_live_switch_is_named_too() -> None:
    module = "/nix/store/x-nvidia-x11-{}-6.12.30/lib/modules/6.12.30/misc/nvidia.ko.xz"
    parts = {"switch-inhibitors": '{"dbus": "a", "old": "1"}', "init-interface-version": "systemd 2"}
    old = SystemFacts(closure=OLD, parts={**parts, "nvidia": module.format("570.86.15")})
    parts = {"switch-inhibitors": '{"dbus": "b", "new": "1"}', "init-interface-version": "systemd 3"}
    new = SystemFacts(closure=NEW, parts={**parts, "nvidia": module.format("570.153.02")})
    assert compare(old, new).reboot == (
        "inhibitor dbus: a -> b",
        "init interface: systemd 2 -> systemd 3",
        "NVIDIA driver: 570.86.15 -> 570.153.02",
    )
    assert compare(old, SystemFacts(closure=NEW)).reboot == ()


def example() -> tuple[SystemFacts, SystemFacts]:
    old = SystemFacts(
        closure=OLD,
        paths={path("nginx-1.26.1"): 1024, path("gone-1"): 10},
        files={f"{UNITS}/nginx.service": "#1", "motd": "#1", "cert": "#1"},
        texts={"motd": "hello\n"},
        parts={"kernel": "/a"},
    )
    new = SystemFacts(
        closure=NEW,
        paths={path("nginx-1.28.0"): 4096},
        files={f"{UNITS}/nginx.service": "#2", "motd": "#2", "cert": "#2", "new": "#1"},
        texts={"motd": "hel\x1b[31mlo there\n"},
        parts={"kernel": "/b"},
    )
    return old, new


def test_a_diff_reads_well() -> None:
    assert diff_lines(WEB, compare(*example())) == [
        "web-1: 25.05.1 → 25.05.2",
        "  packages",
        "    gone   removed 1        -10 B",
        "    nginx  1.26.1 → 1.28.0  +3.0 KiB",
        "  size +3.0 KiB",
        "  units",
        "    restart    nginx.service",
        "  etc",
        "    changed  cert (binary or large, not shown)",
        "    changed  motd",
        "      --- a/etc/motd",
        "      +++ b/etc/motd",
        "      @@ -1 +1 @@",
        "      -hello",
        "      +hello there",
        "    added    new",
        "  needs reboot: kernel",
    ]


def test_equal_systems_have_no_difference() -> None:
    old, _ = example()
    assert diff_lines(WEB, compare(old, old)) == ["web-1: 25.05.1 (no difference)"]


def test_many_hosts_are_folded_by_package() -> None:
    diff = compare(
        SystemFacts(closure=OLD, paths={path("nginx-1.26"): 1}),
        SystemFacts(closure=NEW, paths={path("nginx-1.28"): 1, path("new-1"): 0}),
    )
    other = compare(SystemFacts(closure=OLD), SystemFacts(closure=NEW, paths={path("new-1"): 0}))
    diffs = {HostName(f"web-{number}"): diff for number in range(12)} | {HostName("db"): other}
    lines = fold(diffs)
    assert lines[1:3] == ["new      added 1      13 hosts", "nginx    1.26 → 1.28  12 hosts"]
    few = fold({HostName("a"): diff, HostName("b"): diff})
    assert few[2] == "nginx    1.26 → 1.28  a, b"
    units_only = fold({WEB: compare(*example())})
    assert "  needs reboot: kernel" in units_only
    assert "    restart    nginx.service" in units_only


def test_json_has_the_promised_shape() -> None:
    data = json.loads(json.dumps(diff_json({WEB: compare(*example())})))
    (host,) = data["hosts"]
    assert list(host) == ["name", "from", "to", "packages", "size", "agents", "units", "etc", "reboot"]
    assert host["from"] == OLD
    assert host["packages"][1] == {"name": "nginx", "old": ["1.26.1"], "new": ["1.28.0"], "size": 3072}
    assert host["units"]["restart"] == ["nginx.service"]
    assert host["etc"][0] == {"path": "cert", "kind": "changed", "patch": None}
    assert host["etc"][1]["patch"].startswith("--- a/etc/motd\n+++ b/etc/motd\n")
    assert host["reboot"] == ["kernel"]


def agents(closure: Closure, **texts: str) -> SystemFacts:
    """A system with these agents, each with the lines that services.fleet.agents writes."""
    files = {
        f"fleet/agents/{name}": f"fleet-agent v1\nhome /var/lib/fleet-agents/{name}\n{text}"
        for name, text in texts.items()
    }
    return SystemFacts(closure=closure, files={path: f"#{text}" for path, text in files.items()}, texts=files)


def test_versions_of_agents_are_told_by_their_names() -> None:
    old = agents(
        OLD, claude="package claude-code 2.1.60\npackage git 2.51\n", gone="package codex 1\n", same="package a 1\n"
    )
    new = agents(
        NEW, claude="package claude-code 2.1.63\npackage jq 1.8\n", here="package codex 2\n", same="package a 1\n"
    )
    lines = diff_lines(WEB, compare(old, new))
    first = lines.index("  agents")
    assert lines[first + 1 : first + 4] == [
        "    claude     claude-code 2.1.60 → 2.1.63, git removed 2.51, jq added 1.8",
        "    gone       removed: codex removed 1",
        "    here       added: codex added 2",
    ]
    (told,) = diff_json({WEB: compare(old, new)})["hosts"]
    assert told["agents"][0] == {
        "name": "claude",
        "kind": "changed",
        "packages": [
            {"name": "claude-code", "old": "2.1.60", "new": "2.1.63"},
            {"name": "git", "old": "2.51", "new": None},
            {"name": "jq", "old": None, "new": "1.8"},
        ],
    }


def test_texts_of_agents_are_read_first_also_of_those_that_come_and_go() -> None:
    old, new = agents(OLD, gone="", claude="package a 1"), agents(NEW, here="", claude="package a 2")
    assert needed_texts(old, new) == ("fleet/agents/claude", "fleet/agents/gone", "fleet/agents/here")


def test_an_agent_of_which_nothing_but_its_home_differs_has_no_versions_to_tell() -> None:
    old, new = agents(OLD, a="home /a\npackage x 1"), agents(NEW, a="home /b\npackage x 1")
    assert compare(old, new).agents == ()


def test_what_a_host_says_of_agents_is_bounded_and_has_no_control_characters() -> None:
    lines = "".join(f"package p{number} 1\n" for number in range(1000))
    diff = compare(agents(OLD), agents(NEW, evil=f"package \x1b[31mx 1\x07\n{lines}"))
    assert len(diff.agents[0].packages) == 200
    assert not {"\x1b", "\x07"} & set("".join(diff_lines(WEB, diff)))
