"""The hosts of a run, in an immutable mapping that is cheap to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.model import HostName
    from fleet.state.records import HostRecord

_PART = 64
"""Records in one part. A change copies one part and the list of parts: 220 references for 10,000 hosts."""


class Hosts(Mapping["HostName", "HostRecord"]):
    """Records of hosts by name, in the order in which they were given. Immutable.

    A run emits thousands of events about thousands of hosts, and each one replaces the record of one host. To copy a
    dictionary every time would make that quadratic.
    """

    __slots__ = ("_parts", "_places")

    def __init__(self, records: Iterable[HostRecord] = ()) -> None:
        found = tuple({record.name: record for record in records}.values())
        self._places = {record.name: place for place, record in enumerate(found)}
        self._parts = tuple(found[first : first + _PART] for first in range(0, len(found), _PART))

    def replace(self, record: HostRecord) -> Hosts:
        """Return the same hosts with this record in place of the one with its name.

        Raise `KeyError` if there is none.
        """
        number, place = divmod(self._places[record.name], _PART)
        parts, part = self._parts, self._parts[number]
        changed = object.__new__(Hosts)
        changed._places = self._places
        changed._parts = (*parts[:number], (*part[:place], record, *part[place + 1 :]), *parts[number + 1 :])
        return changed

    def __getitem__(self, name: HostName) -> HostRecord:
        number, place = divmod(self._places[name], _PART)
        return self._parts[number][place]

    def __iter__(self) -> Iterator[HostName]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"Hosts({list(self.values())})"
