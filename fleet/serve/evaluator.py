"""Evaluate for somebody else, once: a command of Nix comes on stdin, what it says goes to stdout.

The unit has a user without logins, and limits of memory and time. Nothing is run but `nix eval`, purely, and with none
of the options by which Nix runs code of others.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from fleet import nix
from fleet.errors import HostError
from fleet.library.served import STRICT, is_native
from fleet.machine import Command
from fleet.machine.local import LocalMachine
from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from fleet.machine import Machine

LARGEST = 1 << 20
"""Bytes of a command."""
WITH_VALUE = {"--option": 2, "--apply": 1, "--extra-experimental-features": 1}
"""The flags that there may be, and how many words each takes."""
PLAIN = ("--json", "--no-update-lock-file", "--no-write-lock-file")
OTHERS = ("eval-store", "experimental-features", "store")
"""Further options that are refused: what is evaluated is for this machine's store."""


def refusal(argv: Sequence[str]) -> str:
    """Return why a command is not run; empty if it is."""
    words = iter(argv)
    if next(words, "") != "nix":
        return "only nix is run here"
    plain: list[str] = []
    for word in words:
        if word in WITH_VALUE:
            values = [next(words, "") for _ in range(WITH_VALUE[word])]
            if why := _wrong_option(word, values):
                return why
        elif word.startswith("-"):
            if word not in PLAIN:
                return f"the flag {word} is not for this"
        else:
            plain.append(word)
    if len(plain) != 2 or plain[0] != "eval":
        return "only nix eval of one flake is done here"
    if not re.match(r"(/|git\+|github:|gitlab:|sourcehut:|path:/|https:)", plain[1]):
        return "that is no flake"
    options = list(_options(argv))
    return "" if ("pure-eval", "true") in options else "evaluation is pure here"


def _wrong_option(flag: str, values: Sequence[str]) -> str:
    if flag == "--extra-experimental-features":
        return "" if values == [nix.NIX[2]] else "no other features are for this"
    if flag == "--option":
        name, value = values
        is_impure = name in ("pure-eval", "restrict-eval") and value != "true"
        is_code = value != STRICT[name] if name in STRICT else is_native(name)
        is_other = name.removeprefix("extra-") in OTHERS or not re.fullmatch(r"[a-z][a-z0-9-]*", name)
        if is_impure or is_code or is_other:
            return f"the option {name} is not for this"
    return ""


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    for flag, name, value in zip(argv, argv[1:], argv[2:], strict=False):
        if flag == "--option":
            yield name, value


async def answer(asked: BinaryIO, told: BinaryIO, machine: Machine | None = None) -> int:
    """Read a command, run it unless it is refused, and tell line by line what it says and at last how it ended."""

    def tell(**message: Any) -> None:
        told.write(json.dumps(message).encode() + b"\n")
        told.flush()

    argv = _command(asked.readline(LARGEST + 1))
    if why := refusal(argv):
        tell(status=1, stderr=f"error: {why}")
        return 1
    strict = nix.with_options(Command(argv=argv, timeout=nix.PATIENTLY, root=False), STRICT)
    try:
        output = await (machine or LocalMachine()).run(strict, on_line=lambda line: tell(line=line))
    except HostError as error:
        tell(status=1, stderr="\n".join([f"error: {error.message}", *error.said]))
        return 1
    tell(status=output.status, stdout=output.stdout, stderr=output.stderr)
    return 0


def _command(line: bytes) -> tuple[str, ...]:
    """Return the words of a command; none for what is no command."""
    try:
        found = parsed_json(line) if len(line) <= LARGEST else None
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def streams() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout as bytes."""
    return sys.stdin.buffer, sys.stdout.buffer
