"""What a host lacks of a closure, and what of that its own caches have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.errors import CommandFailedError, ConfigError, PushError
from fleet.machine import Output
from fleet.machine.pipe import LocalStreams
from fleet.plans import Forecast
from fleet.plans.manifest import manifest
from fleet.steps.caches import ask_caches
from fleet.steps.load import Contents, Load, contents_of, load_of
from fleet.store.nar import ChangedError
from fleet.store.supply import Supply
from fleet.store.wire import PathInfo
from tests.fakes import Answers, FakeMachine, runs
from tests.unit.builders import NEW, host

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENTS = Contents(sizes={"/nix/store/a": 10, "/nix/store/b": 200, NEW: 3}, manifest="")


def store(*, missing: str = "", status: int = 0) -> FakeMachine:
    return FakeMachine((runs("xargs"), Output(status=status, stdout=missing, stderr="oops\n")))


async def test_host_that_lacks_paths_lacks_their_bytes() -> None:
    found = await load_of(store(missing=f"/nix/store/b\n{NEW}\nnoise\n"), host(substitute=False), CONTENTS)
    assert (found.missing, found.missing_bytes) == (("/nix/store/b", NEW), 203)


def caching(caches: Answers) -> FakeMachine:
    """A host that lacks all of CONTENTS, and whose caches say this."""
    missing = Output(status=0, stdout="".join(f"{path}\n" for path in CONTENTS.sizes))
    return FakeMachine((runs("xargs", "-r", "nix-store", "--realise"), caches), (runs("xargs"), missing))


HAVE_B = "this path will be fetched (0.50 MiB download, 1.00 MiB unpacked):\n  /nix/store/b\n  /nix/store/other\n"


async def test_what_the_hosts_caches_have_is_not_pushed() -> None:
    found = await load_of(caching(Output(status=0, stderr=HAVE_B)), host(), CONTENTS)
    assert (len(found.missing), found.missing_bytes) == (3, 213)
    assert (found.substitutes, found.download_bytes) == ({"/nix/store/b": 200}, 1 << 19)
    assert (found.pushed, found.push_bytes) == (("/nix/store/a", NEW), 13)
    assert found.caches_trouble == ""


async def test_host_that_must_not_substitute_is_not_asked_for_its_caches() -> None:
    found = await load_of(caching(ZeroDivisionError()), host(substitute=False), CONTENTS)
    assert (len(found.pushed), found.substitutes) == (3, {})


async def test_host_that_lacks_nothing_is_not_asked_for_its_caches() -> None:
    assert (
        await load_of(FakeMachine((runs("xargs"), [Output(status=0), ZeroDivisionError()])), host(), CONTENTS) == Load()
    )


@pytest.mark.parametrize(
    ("says", "trouble"),
    [
        (
            Output(status=123, stderr="warning: x\nerror: unable to download 'http://x'\n"),
            "unable to download 'http://x'",
        ),
        (Output(status=123, stderr="oops\n"), "exit status 123"),
        (CommandFailedError(host().name, "xargs did not end within 60 s"), "did not end within 60 s"),
    ],
)
async def test_caches_that_do_not_answer_have_nothing(says: Output | CommandFailedError, trouble: str) -> None:
    found = await load_of(caching(says), host(), CONTENTS)
    assert (len(found.pushed), found.substitutes, found.download_bytes) == (3, {}, 0)
    assert trouble in found.caches_trouble


async def test_derivations_are_not_asked_for() -> None:
    there = caching(Output(status=0))
    await ask_caches(there, ["/nix/store/a", "/nix/store/b.drv"])
    assert there.ran[0].stdin == b"/nix/store/a\n"


async def test_store_that_does_not_answer_is_told() -> None:
    with pytest.raises(PushError, match="the host's store does not answer") as caught:
        await load_of(store(status=1), host(), CONTENTS)
    assert caught.value.said == ("oops",)


class Shelf(Supply):
    """A local store with these sizes."""

    def __init__(self, sizes: dict[str, int]) -> None:
        super().__init__(LocalStreams())
        self.sizes = sizes

    async def infos(self, paths: Iterable[str]) -> list[PathInfo]:
        found = list(paths)
        if missing := [path for path in found if path not in self.sizes]:
            raise ChangedError(f"{missing[0]} is not in the local store")
        return [PathInfo(path=path, nar_hash=f"{self.sizes[path]:064x}", nar_size=self.sizes[path]) for path in found]


LISTED = Output(status=0, stdout="/nix/store/a\n/nix/store/b\n")


async def test_contents_are_asked_of_the_local_store() -> None:
    here = FakeMachine((runs("nix-store", "--query", "--requisites", NEW), LISTED))
    found = await contents_of(here, Shelf({"/nix/store/a": 1, "/nix/store/b": 20}), NEW)
    assert found.sizes == {"/nix/store/a": 1, "/nix/store/b": 20}
    assert found.manifest == manifest([("/nix/store/b", f"{20:064x}"), ("/nix/store/a", f"{1:064x}")])


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (Output(status=1, stderr="error: not valid\n"), "error: not valid"),
        (LISTED, "/nix/store/b is not in the local store"),
    ],
)
async def test_closure_that_the_local_store_lacks_is_told(listed: Output, said: str) -> None:
    with pytest.raises(ConfigError, match="not in this machine's store") as caught:
        await contents_of(FakeMachine((runs("nix-store"), listed)), Shelf({"/nix/store/a": 1}), NEW)
    assert caught.value.said == (said,)


def test_forecast_tells_the_load_in_numbers() -> None:
    load = Load(
        missing=("/nix/store/a", "/nix/store/b", "/nix/store/c"), missing_bytes=60,
        substitutes={"/nix/store/b": 20}, download_bytes=5, wire_bytes=41, push_seconds=2.5, room_needed=99,
    )  # fmt: skip
    told = load.forecast(room_free=1000)
    assert told == Forecast(
        missing_paths=3, missing_bytes=60, substitute_paths=1, substitute_bytes=20, download_bytes=5,
        wire_bytes=41, push_seconds=2.5, room_needed=99, room_free=1000,
    )  # fmt: skip
    assert (told.push_paths, told.push_bytes) == (len(load.pushed), load.push_bytes) == (2, 40)
