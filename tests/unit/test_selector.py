"""Which hosts a selector means."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import ConfigError
from fleet.inventory import Inventory, parse
from fleet.selector import Wave, select, waves

HOSTS = """
[hosts.gpu-02]
kind = "gpu"
tags = ["prod"]
[hosts.gpu-01]
kind = "gpu"
tags = ["prod", "canary"]
[hosts.laptop]
kind = "laptop"
[hosts."pi.lan"]
kind = "pi"
tags = ["edge-eu"]
"""
NAMES = ("gpu-02", "gpu-01", "laptop", "pi.lan")


def inventory(rollout: str = "") -> Inventory:
    return parse(Path("/etc/home/fleet.toml"), HOSTS + rollout)


FLEET = inventory()


def names(*selectors: str) -> list[str]:
    return [host.name for host in select(FLEET, selectors)]


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        (["laptop"], ["laptop"]),
        (["pi.lan"], ["pi.lan"]),
        (["gpu-*"], ["gpu-02", "gpu-01"]),
        (["gpu-0[1]"], ["gpu-01"]),
        (["gpu-0?"], ["gpu-02", "gpu-01"]),
        (["*"], list(NAMES)),
        (["@prod"], ["gpu-02", "gpu-01"]),
        (["@edge-*"], ["pi.lan"]),
        (["kind:gpu"], ["gpu-02", "gpu-01"]),
        (["laptop,@canary"], ["gpu-01", "laptop"]),
        (["laptop", "@canary"], ["gpu-01", "laptop"]),
        ([" laptop , pi.lan "], ["laptop", "pi.lan"]),
        (["@prod,!gpu-01"], ["gpu-02"]),
        (["!gpu-01,@prod"], ["gpu-02"]),
        (["!kind:gpu"], ["laptop", "pi.lan"]),
        (["!@prod", "!laptop"], ["pi.lan"]),
    ],
)
def test_a_selector_means_hosts_in_file_order(selectors: list[str], expected: list[str]) -> None:
    assert names(*selectors) == expected


@pytest.mark.parametrize(
    ("selector", "problem"),
    [
        ("gpu01", 'unknown host "gpu01"; did you mean gpu-01?'),
        ("!laptpo", 'unknown host "laptpo"; did you mean laptop?'),
        ("@prdo", 'unknown tag "prdo"; did you mean @prod?'),
        ("!@prdo", 'unknown tag "prdo"; did you mean @prod?'),
        ("kind:lapto", 'unknown kind "lapto"; did you mean laptop?'),
        ("kind:x", 'unknown kind "x"; expected one of server, laptop, gpu, pi'),
        ("kind:server", "no host has the kind server"),
        ("web-*", 'no host matches "web-*"'),
        ("@x*", 'no tag matches "x*"'),
        ("GPU-01", 'unknown host "GPU-01"; did you mean gpu-01?'),
        ("@prod,!gpu-*", 'the selector "@prod,!gpu-*" excludes every host that it names'),
        ("laptop,", 'an empty part in the selector "laptop,"'),
        ("!", 'an empty part in the selector "!"'),
        ("", "no selector"),
    ],
)
def test_a_selector_that_means_nothing_names_the_nearest_right_one(selector: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        names(selector)
    assert caught.value.message.startswith(f"/etc/home/fleet.toml: {problem}")
    assert "; tags: " in caught.value.hint


def test_no_selector_at_all_is_not_the_whole_fleet() -> None:
    with pytest.raises(ConfigError, match="no selector"):
        names()


@settings(max_examples=50)
@given(chosen=st.sets(st.sampled_from(NAMES), min_size=1), left_out=st.sets(st.sampled_from(NAMES)))
def test_excludes_win_whatever_the_order(chosen: set[str], left_out: set[str]) -> None:
    excludes = [f"!{name}" for name in left_out]
    if chosen - left_out:
        expected = [name for name in NAMES if name in chosen - left_out]
        assert names(*chosen, *excludes) == names(*excludes, *chosen) == expected
    else:
        with pytest.raises(ConfigError, match="excludes every host"):
            names(*chosen, *excludes)


@settings(max_examples=50)
@given(st.text("gpu-01@!:*,[ k", max_size=8))
def test_any_text_selects_hosts_or_is_a_config_error(text: str) -> None:
    try:
        found = names(text)
    except ConfigError:
        return
    assert found


WAVES = """
[[rollout.waves]]
hosts = "@canary"
[[rollout.waves]]
hosts = "kind:pi"
[[rollout.waves]]
hosts = "@prod"
"""


def test_each_host_goes_in_the_first_wave_that_names_it_and_the_rest_last() -> None:
    fleet = inventory(WAVES)
    order = [list(wave.hosts) for wave in waves(fleet, fleet.hosts.values())]
    assert order == [["gpu-01"], ["pi.lan"], ["gpu-02"], ["laptop"]]


def test_waves_without_a_selected_host_are_dropped() -> None:
    fleet = inventory(WAVES)
    order = [list(wave.hosts) for wave in waves(fleet, select(fleet, ["gpu-*"]))]
    assert order == [["gpu-01"], ["gpu-02"]]


def test_without_waves_all_hosts_go_at_once() -> None:
    assert waves(FLEET, FLEET.hosts.values()) == (Wave(tuple(FLEET.hosts), 0.0, 1),)
    assert waves(FLEET, ()) == ()
