"""The ledger: what was planned, approved and done in a fleet, entry by entry, so that later changes to it are seen.

An entry is a line of canonical JSON that names the hash of the entry before it. `entries` makes them, `chain` finds the
first one that is wrong, and `witnesses` compares them with what hosts and plans have kept. Pure functions: the state
keeps the lines.
"""

from fleet.ledger.entries import ZERO, Entry, Head, Kind, Opening
from fleet.ledger.keeper import Ledger

__all__ = ["ZERO", "Entry", "Head", "Kind", "Ledger", "Opening"]
