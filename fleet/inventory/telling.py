"""The tables [[notify]] and [metrics]: who is told how runs end."""

from __future__ import annotations

import enum
import re
from pathlib import Path  # noqa: TC003 - pydantic reads it while running
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from fleet.inventory import amounts, values
from fleet.inventory.tables import File, Table, file
from fleet.inventory.words import expected, shown

if TYPE_CHECKING:
    from fleet.inventory.problems import Problems

LONGEST_TIMEOUT = 60.0
"""Seconds that somebody may have to be told: a person waits for the command meanwhile."""
_MAILBOX = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")
_LIKE_A_TOKEN = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9_-]{20,}")
"""A part of a path that nobody can guess, as the addresses of many chat services have it."""
_LITERALS = {"token": "token_file", "password": "password_file"}
"""Keys for what does not belong into a fleet.toml, and those to write instead."""
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class Occasion(enum.StrEnum):
    """How a run has ended, as those see it who are told."""

    FINISHED = "finished"
    """Everything is as it was asked for."""
    FAILED = "failed"
    """The exit code is another one, and no host needs a human."""
    NEEDS_HUMAN = "needs_human"


def address(value: object) -> str:
    """Read an http or https address that has no secret in it. The error does not repeat it: it may have one."""
    word = values.text(value, 'an address such as "https://example.org/hook"')
    try:
        values.url(word)
        parts = urlsplit(word)
    except ValueError:
        raise ValueError('is no address such as "https://example.org/hook", without a login in it') from None
    if parts.query or any(_LIKE_A_TOKEN.fullmatch(part) for part in parts.path.split("/")):
        raise ValueError(
            "has what may be a token in it, and everybody may read fleet.toml; write the whole address to a file, and "
            "webhook_file or ntfy_file with the path of that file"
        )
    return word


def topic(value: object) -> str:
    """Read the address of a topic of ntfy."""
    word = address(value)
    if not urlsplit(word).path.strip("/"):
        raise expected(value, 'the address of a topic such as "https://ntfy.sh/my-fleet"')
    return word


def mailbox(value: object) -> str:
    """Read an e-mail address alone, without a name."""
    word = values.text(value, "an e-mail address")
    if _MAILBOX.fullmatch(word) is None:
        raise expected(value, 'an e-mail address such as "ops@example.org"')
    return word


def _mailboxes(value: object) -> tuple[str, ...]:
    boxes = tuple(map(mailbox, value)) if isinstance(value, list | tuple) else (mailbox(value),)
    if not boxes:
        raise expected([], "at least one e-mail address")
    return boxes


def _smtp(value: object) -> str:
    values.host_and_port(value)
    return str(value)


def _occasions(value: object) -> tuple[Occasion, ...]:
    choices = ", ".join(Occasion)
    if not isinstance(value, list | tuple) or not value:
        raise expected(value, f"a list of some of {choices}")
    for each in value:
        if each not in tuple(Occasion):
            raise expected(each, f"one of {choices}")
    return tuple(Occasion(each) for each in value)


def _timeout(value: object) -> float:
    seconds = amounts.positive_seconds(value)
    if seconds > LONGEST_TIMEOUT:
        raise expected(value, f"at most {LONGEST_TIMEOUT:g}s")
    return seconds


WAYS = ("webhook", "webhook_file", "ntfy", "ntfy_file", "email")
_FITTING = {
    "token_file": ("webhook", "webhook_file", "ntfy", "ntfy_file"),
    **dict.fromkeys(("from", "smtp", "tls", "user", "password_file"), ("email",)),
}
"""Keys that only some ways have."""


class Notify(Table):
    """Somebody who is told how runs end, by a webhook, by ntfy or by e-mail."""

    webhook: Annotated[str, BeforeValidator(address)] | None = None
    webhook_file: File | None = None
    """A file with the address, where that is a secret."""
    ntfy: Annotated[str, BeforeValidator(topic)] | None = None
    ntfy_file: File | None = None
    email: Annotated[tuple[str, ...], BeforeValidator(_mailboxes)] = ()
    on: Annotated[tuple[Occasion, ...], BeforeValidator(_occasions)] = (Occasion.FAILED, Occasion.NEEDS_HUMAN)
    token_file: File | None = None
    """A file with a token, which is sent as `Authorization: Bearer`."""
    from_: Annotated[str, BeforeValidator(mailbox)] | None = Field(default=None, alias="from")
    smtp: Annotated[str, BeforeValidator(_smtp)] | None = None
    """The mail server, with or without its port."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: Annotated[str, BeforeValidator(values.line)] | None = None
    password_file: File | None = None
    timeout: Annotated[float, BeforeValidator(_timeout)] = 10.0

    @property
    def way(self) -> str:
        """Which of the ways it is."""
        return next(way for way in WAYS if getattr(self, way))

    @property
    def label(self) -> str:
        """What people call it: never the whole address, in which a topic or a token may be."""
        url = self.webhook or self.ntfy
        if url is not None:
            return f"{self.way} {urlsplit(url).hostname}"
        return f"e-mail to {', '.join(self.email)}" if self.email else self.way.removesuffix("_file")

    @property
    def server(self) -> tuple[str, int]:
        """The host and the port of the mail server."""
        host, port = values.host_and_port(self.smtp)
        return host, port or _PORTS[self.tls]

    @model_validator(mode="after")
    def _fits(self) -> Notify:
        given = {type(self).model_fields[name].alias or name for name in self.model_fields_set}
        ways = [way for way in WAYS if way in given]
        if len(ways) != 1:
            raise ValueError(f"has {' and '.join(ways) or 'none of them'}; exactly one of {', '.join(WAYS)} is needed")
        for key, fitting in _FITTING.items():
            if key in given and ways[0] not in fitting:
                raise ValueError(f"{key} does not fit {ways[0]}; only {' and '.join(fitting)} have it")
        if self.email:
            self._require_mail()
        url = self.webhook or self.ntfy
        if url and self.token_file and not may_carry_a_token(url):
            raise ValueError("token_file: the token would be sent without encryption; write https")
        return self

    def _require_mail(self) -> None:
        for key, value in (("from", self.from_), ("smtp", self.smtp)):
            if value is None:
                raise ValueError(f"{key} is missing, which e-mail needs")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together; one of them is missing")
        if self.password_file and self.tls == "none" and not values.is_loopback(self.server[0]):
            raise ValueError('password_file: the password would be sent without encryption; write tls = "starttls"')


def may_carry_a_token(url: str) -> bool:
    """Whether nobody on the way can read what is sent there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or values.is_loopback(parts.hostname or "")


def _textfile(value: object, info: ValidationInfo) -> Path:
    path = file(value, info)
    if path.suffix != ".prom":
        raise expected(value, "a path that ends in .prom: node_exporter reads no other files")
    return path


class MetricsTable(Table):
    """The table [metrics]."""

    textfile: Annotated[Path, BeforeValidator(_textfile)] | None = None
    """The file that node_exporter's textfile collector reads; None if there is to be none."""


def read_told(problems: Problems, notify: Any, metrics: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """Return what an `Inventory` has of both tables, and note what is wrong with them."""
    return {"notify": _notify(problems, notify, context), "metrics": _metrics(problems, metrics, context)}


def _notify(problems: Problems, value: Any, context: dict[str, Any]) -> tuple[Notify, ...]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        problems.add("", "notify", f"found {shown(value)}, expected [[notify]] tables, with two brackets on each side")
        return ()
    found = []
    for number, raw in enumerate(value, 1):
        table = f"[[notify]] {number}"
        literals = [key for key in _LITERALS if key in raw]
        for key in literals:
            remedy = f"write it to a file that you alone can read, and {_LITERALS[key]} with its path"
            problems.add(table, key, f"everybody may read fleet.toml, and the Nix store has a copy of it; {remedy}")
        known = {key: each for key, each in raw.items() if key not in literals}
        try:
            found.append(Notify.model_validate(known, context=context))
        except ValidationError as error:
            problems.add_invalid(error, table, Notify.toml_keys(), known)
    return tuple(found)


def _metrics(problems: Problems, raw: dict[str, Any], context: dict[str, Any]) -> MetricsTable:
    try:
        return MetricsTable.model_validate(raw, context=context)
    except ValidationError as error:
        problems.add_invalid(error, "[metrics]", MetricsTable.toml_keys(), raw)
        return MetricsTable()
