"""Secrets that a test brings to a lab host, without the controller's code where that is under test itself."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from fleet.host import answers
from tests.containers.orders import run_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.host.answers import Lines
    from tests.containers.hostprogram import Subject

MEMORY, DISK = "/run/fleet-secrets", "/var/lib/fleet-secrets"
OLD_VALUE, NEW_VALUE = b"the old value\n\0\xff", b"the new value"


def line(name: str = "token", **changes: str) -> str:
    """A secret as a part of a plan has it."""
    on_disk = changes.get("storage") == "disk"
    usual = {
        "path": f"{DISK if on_disk else MEMORY}/{name}", "owner": "root", "group": "root",
        "mode": "600" if on_disk else "400", "storage": "tmpfs", "when": "before", "units": "-",
    }  # fmt: skip
    return " ".join((name, *(usual | changes).values()))


def ask(subject: Subject, verb: str, values: Mapping[str, bytes], run: str = "") -> Lines:
    """What the host answers to `secrets` of that verb, which gets these lines with their values."""
    lines = [text for secret, value in values.items() for text in (f"secret {secret}", f"value {_encoded(value)}")]
    data = "".join(f"{text}\n" for text in (*lines, "end")).encode()
    return answers.parse(subject.feed(data, *subject.asks.split(), "secrets", verb, run or run_id()))


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def put(subject: Subject, values: Mapping[str, bytes]) -> None:
    """The host has these now."""
    said = ask(subject, "put", values)
    assert "refused" not in said, said


def staged(subject: Subject, values: Mapping[str, bytes]) -> str:
    """The run that these wait for."""
    run = run_id()
    said = ask(subject, "stage", values, run)
    assert "refused" not in said, said
    return run


def value(subject: Subject, path: str) -> bytes | None:
    """What is there, to the byte."""
    said = subject.sh(f"[ ! -e {path} ] || base64 -w 0 {path}; [ -e {path} ] || echo -")
    return None if said == "-" else base64.b64decode(said)
