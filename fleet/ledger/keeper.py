"""What keeps a ledger. `fleet.state` has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fleet.ledger.chain import Begun
    from fleet.ledger.entries import Entry, Head


class Kept(NamedTuple):
    """A ledger as it is kept."""

    lines: Sequence[tuple[int, str]] = ()
    """The entries as they were written, each with the number by which it is kept."""
    noted: Head | None = None
    """The head as it was noted when the last entry was added."""


class Ledger(Protocol):
    """The ledger of one fleet on this machine. Methods wait for the disk, and may be called from any thread."""

    def enter(self, *entries: Entry) -> Head:
        """Add entries, in this order, behind what `enter_later` has kept, and return the head after them.

        They are on disk then, or `StateError` is raised and none is. The first call ever opens the ledger.
        """

    def enter_later(self, *entries: Entry) -> bool:
        """Keep entries in a file of this machine. Whoever enters something next enters them too, before that.

        This waits for no database and raises nothing. Returns whether they are on disk.
        """

    def noted(self) -> Head | None:
        """Return the head as it was noted when the last entry was added; None if there is no ledger.

        Raise `StateError`.
        """

    def read(self) -> Kept:
        """Return all that is kept, as of one moment. Raise `StateError`."""

    def begun(self, run: str) -> Begun | None:
        """Return what the entries lack of the end of a run; None if they lack nothing, or do not tell of it.

        Raise `StateError`.
        """

    def kept_for_later(self) -> int:
        """Return how many files of entries wait to be entered."""

    def put_aside(self) -> Sequence[Path]:
        """Return such files that could not be read, and whose entries are missing."""
