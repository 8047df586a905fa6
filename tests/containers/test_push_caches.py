"""What the host's own caches have is not pushed, and a cache that fails costs nothing but the push."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.containers.closures import has, many, nar_bytes, requisites
from tests.containers.driver import Stage, wait_until
from tests.containers.files import put, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

CACHE = "http://127.0.0.1:8098"
NIX = "nix --extra-experimental-features nix-command"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("one")


@dataclass
class Cached:
    """A host with a cache that has a part of a closure, of which the host itself has nothing."""

    host: LabHost
    closure: str
    there: list[str]
    """What the cache has."""


@pytest.fixture
def cached(lab: Lab, stage: Stage) -> Iterator[Cached]:
    host = lab.host("one")
    before = shell(host, "cat /etc/nix/nix.conf")
    closure = many(stage, count=7, kib=64)
    parts = sorted(path for path in requisites(closure) if "-part-" in path)
    stage.toml({"one": {}})
    assert stage.fleet("push", "one", "--closure", closure).code == 0
    shell(host, "mkdir -p /srv/cache && cd /srv && nix-store --generate-binary-cache-key lab-1 secret public")
    shell(host, f"{NIX} copy --to 'file:///srv/cache?secret-key=/srv/secret&compression=none' {' '.join(parts[:4])}")
    shell(host, f"nix-store --delete --ignore-liveness {closure} {' '.join(parts)}")
    trust = f"substituters = {CACHE}\ntrusted-public-keys = {shell(host, 'cat /srv/public')}\n"
    put(host, "/etc/nix/nix.conf", f"{before}\n{trust}")
    start_cache(host)
    stage.toml({"one": {"substitute": True}})
    yield Cached(host, closure, parts[:4])
    shell(host, "systemctl stop cache.service || true; rm -rf /srv /root/.cache/nix")
    put(host, "/etc/nix/nix.conf", before + "\n")


def start_cache(host: LabHost) -> None:
    shell(host, "systemd-run -q --collect --unit=cache busybox httpd -f -p 127.0.0.1:8098 -h /srv/cache")
    answers = "busybox nc -w 1 127.0.0.1 8098 </dev/null"
    wait_until(lambda: host.exec("sh", "-c", answers, check=False).status == 0, "the cache listens")


@pytest.mark.parametrize("engine", ["serve", "nix"])
def test_only_what_the_caches_do_not_have_is_pushed(stage: Stage, cached: Cached, engine: str) -> None:
    pushed = 7 + 1 - 4  # parts, the system that names them, and what the cache has
    plan = stage.document("plan", "one", "--closure", cached.closure)["hosts"][0]
    assert (plan["missing_paths"], plan["substitute_paths"]) == (pushed + 4, 4)
    assert plan["substitute_bytes"] == nar_bytes(*cached.there)
    assert 0 < plan["download_bytes"] < 2 * nar_bytes(*cached.there)
    size = plan["missing_bytes"] - plan["substitute_bytes"]
    assert size < plan["wire_bytes"] < size + 2000 * pushed
    assert plan["missing_bytes"] < plan["room_needed"] < plan["room_free"]

    run = stage.fleet("push", "one", "--closure", cached.closure, "--json", "--copy-with", engine)
    assert run.outcomes == {"one": "staged"}, run
    (fetched,), (moved,) = run.told("host_fetched"), run.told("push_finished")
    assert (fetched["paths"], fetched["nar_bytes"]) == (4, nar_bytes(*cached.there))
    assert moved["paths"] - pushed in (0, 1)  # with the host program, where it is counted
    assert size <= moved["nar_bytes"] < size + 100_000
    assert size <= moved["wire_bytes"] < size + 100_000
    assert has(cached.host, cached.closure)


def test_cache_that_is_gone_costs_nothing_but_the_push(stage: Stage, cached: Cached) -> None:
    """Nix remembers what the cache said of itself, and takes its silence for an error: so would a push with -s."""
    planned = stage.fleet("plan", "one", "--closure", cached.closure).stdout
    assert all(words in planned for words in ("4 paths, 256.4 KiB", "4 paths to push", "4 paths from caches"))
    shell(cached.host, "systemctl stop cache.service; rm -rf /root/.cache/nix/binary-cache-v6.sqlite-wal")
    shell(cached.host, "printf 'narinfo-cache-positive-ttl = 0\nnarinfo-cache-negative-ttl = 0\n' >>/etc/nix/nix.conf")
    run = stage.fleet("push", "one", "--closure", cached.closure, "--json")
    assert run.outcomes == {"one": "staged"}, run
    (note,) = run.told("finding_reported", kind="caches")
    assert "could not be asked" in note["message"]
    assert run.told("host_fetched") == []
    assert run.told("push_finished")[0]["paths"] >= 8
    assert has(cached.host, cached.closure)


@pytest.mark.parametrize("engine", ["serve", "nix"])
def test_what_a_cache_has_and_cannot_give_is_pushed(stage: Stage, cached: Cached, engine: str) -> None:
    """The host does not trust its signatures: that shows only when it fetches."""
    shell(cached.host, "sed -i 's/^trusted-public-keys.*/trusted-public-keys =/' /etc/nix/nix.conf")
    run = stage.fleet("push", "one", "--closure", cached.closure, "--json", "--copy-with", engine)
    assert run.outcomes == {"one": "staged"}, run
    (note,) = run.told("finding_reported", kind="caches")
    assert "could not fetch 4 of 4 paths" in note["message"]
    assert run.told("host_fetched")[0]["paths"] == 0
    assert run.told("push_finished")[0]["paths"] >= 8
    assert has(cached.host, cached.closure)
