"""How what a host lacks is cut into groups, and what the host must read for each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.store import wire
from fleet.store.deltas.groups import GREETING, MOST_PATHS, PIECE, REGION, Cutter, Dump, Group, Part
from fleet.store.supply import length
from fleet.store.wire import PathInfo

MIB = 1 << 20
SIZES = st.one_of(st.integers(100, 100_000), st.integers(0, 3 * MIB), st.integers(0, 60 * MIB))


def path(number: int, size: int, kind: str = "new") -> PathInfo:
    return PathInfo(path=f"/nix/store/{kind}-{number}", nar_hash=f"{number * 37 % 256:02x}", nar_size=size)


def cut(sizes: list[tuple[int, int | None]]) -> tuple[list[PathInfo], list[Group]]:
    cutter, infos, groups = Cutter(), [], []
    for number, (size, base) in enumerate(sizes):
        infos.append(path(number, size))
        groups += cutter.add(infos[-1], None if base is None else path(number, base, "old"))
    return infos, groups + cutter.rest()


PAIRS = st.lists(st.tuples(SIZES, st.none() | SIZES), max_size=30)


@given(PAIRS)
def test_groups_hold_every_byte_once_and_in_order(sizes: list[tuple[int, int | None]]) -> None:
    infos, groups = cut(sizes)
    parts = [part for group in groups for part in group.new]
    assert list(dict.fromkeys(part.info.path for part in parts)) == [info.path for info in infos]
    at: dict[str, int] = {}
    for part in parts:
        assert part.start == at.get(part.info.path, 0)
        at[part.info.path] = part.end
    assert at == {info.path: length(info) for info in infos}


@given(PAIRS)
def test_groups_need_little_memory_on_either_side(sizes: list[tuple[int, int | None]]) -> None:
    for group in cut(sizes)[1]:
        assert group.size <= PIECE
        assert sum(part.size for part in group.base) <= REGION
        assert all(0 <= part.start <= part.end <= part.info.nar_size for part in group.base)


def test_small_paths_travel_together_and_hosts_that_differ_share_most_groups() -> None:
    many = [path(number, 5_000) for number in range(1000)]

    def groups(infos: list[PathInfo]) -> list[Group]:
        cutter = Cutter()
        return [group for info in infos for group in cutter.add(info, None)] + cutter.rest()

    whole, other = groups(many), groups(many[:500] + many[501:])
    assert len(whole) < 100
    assert len(set(whole) - set(other)) == 1


def test_a_group_has_no_more_paths_than_a_pipe_holds_requests_for() -> None:
    cutter = Cutter()
    groups = []
    for number in range(1000):
        info = PathInfo(path=f"/nix/store/{'x' * 200}-{number}", nar_hash="ff", nar_size=100)
        groups += cutter.add(info, info)
    assert max(len(group.new) for group in groups) == MOST_PATHS
    asked = b"".join(wire.dump_store_path(part.info.path) for part in groups[0].base)
    assert len(wire.hello() + asked) < 1 << 16


class Host:
    """What `receive` does with its base, with places instead of bytes: `(path, at)` stands for a byte."""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.base: list[tuple[str, int, int]] = []
        self.stream: list[tuple[str, int, int]] = []
        self.taken = 0

    def obey(self, orders: bytes) -> None:
        while orders:
            line, _, orders = orders.partition(b"\n")
            word, count = line.decode().split()
            if word == "ask":
                assert not self.stream, "it is asked only when everything was read"
                asked, orders = orders[: int(count)], orders[int(count) :]
                if asked.startswith(wire.hello()):
                    asked = asked[len(wire.hello()) :]
                    self.stream.append(("greeting", 0, GREETING))
                while asked:
                    size = int.from_bytes(asked[8:16], "little")
                    name = asked[16 : 16 + size].decode()
                    assert asked.startswith(wire.dump_store_path(name))
                    asked = asked[len(wire.dump_store_path(name)) :]
                    self.stream += [(name, 0, self.sizes[name])] if self.sizes[name] else []  # of none nothing is read
            elif word == "drop":
                self.base = self._split(self.base, int(count))[1]
            else:
                read, self.stream = self._split(self.stream, int(count))
                if word == "take":
                    self.base += read
                    self.taken += int(count)

    @staticmethod
    def _split(
        pieces: list[tuple[str, int, int]], count: int
    ) -> tuple[list[tuple[str, int, int]], list[tuple[str, int, int]]]:
        first, rest = [], []
        for name, start, end in pieces:
            cut = min(end, start + count)
            count -= cut - start
            first += [(name, start, cut)] if cut > start else []
            rest += [(name, cut, end)] if end > cut else []
        assert count == 0, "it reads no more than there is"
        return first, rest


def joined(pieces: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Neighbours as one."""
    found: list[tuple[str, int, int]] = []
    for name, start, end in pieces:
        if found and found[-1][0] == name and found[-1][2] == start:
            found[-1] = (name, found[-1][1], end)
        elif end > start:
            found.append((name, start, end))
    return found


@given(PAIRS)
def test_the_host_s_base_holds_what_each_group_was_made_against(sizes: list[tuple[int, int | None]]) -> None:
    _, groups = cut(sizes)
    bases = {part.info.path: part.info.nar_size for group in groups for part in group.base}
    host, dump = Host(bases), Dump(lambda data: data)
    for group in groups:
        host.obey(dump.hold(group.base))
        assert joined(host.base) == joined([(part.info.path, part.start, part.end) for part in group.base])
    assert host.taken <= sum(bases.values())  # nothing is read twice


def test_many_bases_are_read_in_one_go() -> None:
    parts = [Part(path(number, 5_000, "old"), 0, 5_000) for number in range(100)]
    orders = Dump(lambda _: b"frame").hold(parts)
    assert orders == b"ask 5\nframe" + b"skip 16\n" + b"take 500000\n"


def test_a_base_that_is_asked_for_again_is_read_again() -> None:
    old = path(1, 100, "old")
    host, dump = Host({old.path: 100}), Dump(lambda data: data)
    for part in (Part(old, 0, 60), Part(old, 20, 100), Part(old, 0, 100)):
        host.obey(dump.hold([part]))
        assert joined(host.base) == [(old.path, part.start, part.end)]
