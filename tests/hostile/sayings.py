"""What a hostile host says: texts and bytes by a seed, made of what has once hurt somebody and of good answers."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from fleet.store import wire
from tests.fakes import Says
from tests.unit.builders import NEW, OLD, RUN
from tests.unit.world import ENTRY, FACTS

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBERS = (
    "0",
    "-1",
    "7",
    "9" * 18,
    "9" * 19,
    "9" * 5000,
    "²",
    "१२",
    "1e999",
    "1.2.3",
    "-" + "9" * 18,
    "0x10",
    "",
    " 5 ",
    "nan",
)
NASTY = (
    "", " ", "=", "-", "\\", "\\u12", "\\ud800", "\0", "\t", "\x1b]0;x\x07", "\x1b[2J", "\x9b2J", "\u202eabc\u2066",
    "\u2028", "%s%n{}", "a" * 300, "a.service" * 40, "[" * 3000, '{"a":' * 2000, '"', "/../../x", "~nobody9",
    "/nix/store/" + "-" * 250, "`" * 500, "-1-1" * 80, "@" * 200 + ".service",
    "\ud83d".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
)  # fmt: skip
KEYS = (
    *FACTS, "generation", "booted", "inhibitors", "specialisation", "boot_free", "failed_unit", "upgrade",
    "init_interface", "nvidia", "running_nvidia", "running_kernel", "booted_kernel", "boots_once", "boots_not_once",
    "lock_holder", "serial", "link", "live", "previous", "staged", "quarantined", "doubtful", "open_run",
    "open_state", "open_who", "open_from", "open_since", "open_closes_in", "open_new", "open_old", "open_goal",
    "last_run", "last_state", "last_new", "last_reason", "last_blame", "last_part", "last_serial", "state", "status",
    "blame", "reason", "boot_entry", "rebooted", "since", "closes_in", "line", "cursor", "bad", "unsettled",
    "accepted", "begun", "current", "history", "busy", "damaged", "kept", "refused", "message", "done",
    "compared", "secret", "known", "unknown_unit", "secret_missing",
)  # fmt: skip
WORDS = (
    "switching", "arming", "rebooting", "switched", "committing", "reverting", "committed", "tested", "reverted",
    "stuck", "superseded", "found", "silent", "yes", "no", "locked", "stale", "quarantined", "incomplete", "unfit",
    "full", "broken", "root", "usage", "format", "closed", "ended", OLD, NEW, RUN, ENTRY, "system-2-link", "x86_64",
    "switch", "boot",
)  # fmt: skip


class Sayings:
    """A source of hostile texts. The same seed says the same."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self) -> str:
        """A value, or what stands where one should be."""
        return self.random.choice(
            (self.random.choice(WORDS), self.random.choice(NUMBERS), self.random.choice(NASTY), self.mess())
        )

    def mess(self) -> str:
        """Several of them, one behind the other."""
        parts = (*NASTY, *NUMBERS, *WORDS, "\n", "=", "  ", "-nvidia-x11-570.1-6/", "MESSAGE", "%paths", "error: ")
        return "".join(self.random.choice(parts) for _ in range(self.random.randrange(12)))

    def lines(self, keys: Sequence[str] = KEYS) -> str:
        """An answer of the host program: good lines, bad values, lines that nobody knows, and now and then a flood."""
        rows = [f"{key}={value}" for key, value in FACTS.items() if self.random.random() < 0.8]
        for _ in range(self.random.randrange(30)):
            rows += [f"{self.random.choice(keys)}={self.value()}"]
        if self.random.random() < 0.2:
            rows += [f"{self.random.choice(keys)}={self.value()[:100]}"] * self.random.choice((10, 3_000, 120_000))
        if self.random.random() < 0.1:
            rows.append("x" * self.random.choice((5_000, 500_000, 5_000_000)))
        self.random.shuffle(rows)
        return "\n".join(rows) + "\n"

    def document(self, depth: int = 3) -> object:
        """A value of JSON."""
        kind = self.random.randrange(6 if depth else 4)
        if kind == 4:
            return [self.document(depth - 1) for _ in range(self.random.randrange(4))]
        if kind == 5:
            keys = ("MESSAGE", "UNIT", "_SYSTEMD_UNIT", "a", "drv", "out", "kernel")
            return {self.random.choice(keys): self.document(depth - 1) for _ in range(self.random.randrange(4))}
        return (self.value(), self.random.choice((0, -1, 256, 1e308, 10**30)), None, True)[kind]

    def journal(self) -> str:
        """What `journalctl --output=json` might print."""
        rows = [json.dumps(self.document()) for _ in range(self.random.randrange(20))]
        return "\n".join([*rows, *(self.random.choice(NASTY) for _ in range(3)), "[" * 50_000])

    def says(self) -> Says:
        """What a command does: answer anything, fail, die, or say nothing for a long time."""
        odd = self.random.random()
        stdout = self.lines() if self.random.random() < 0.8 else self.journal()
        stderr = self.mess() * self.random.choice((0, 1, 1000))
        return Says(
            status=self.random.choice((0, 0, 0, 0, 1, 2, 74, 75, 127, 255)),
            stdout=stdout.encode(errors="replace") if odd < 0.9 else self.random.randbytes(10_000),
            stderr=stderr.encode(errors="replace"),
            died_of="SIGKILL" if odd > 0.97 else "",
            seconds=self.random.choice((0.0, 0.0, 0.0, 1.0, 100_000.0)),
        )

    def served(self, paths: Sequence[str]) -> bytes:
        """What might come from `nix-store --serve --write`: a good conversation, and what is wrong with it."""
        good = [
            wire.number(wire.ANSWER) + wire.number(wire.VERSION),
            wire.texts(self.random.sample(paths, self.random.randrange(len(paths) + 1))),
            *(wire.number(1) for _ in range(self.random.randrange(len(paths) + 2))),
            wire.texts(paths),
        ]
        while self.random.random() < 0.6:
            place = self.random.randrange(len(good) + 1)
            bad = (
                wire.number(self.random.choice((0, 2, 2**20, 2**31, 2**63, 2**64 - 1))), wire.text(self.value()[:9]),
                wire.texts([self.value()[:200] for _ in range(self.random.randrange(50))]), self.random.randbytes(16),
                wire.number(3) + wire.text("/nix/store/x") * 2, bytes(64),
            )  # fmt: skip
            good[place:place] = [self.random.choice(bad)]
        data = bytearray(b"".join(good))
        if self.random.random() < 0.5:
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(data[: self.random.randrange(len(data) + 1)] if self.random.random() < 0.3 else data)
