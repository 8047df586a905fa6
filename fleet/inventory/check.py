"""Define the checks of fleet.toml: every key, its default, and the values it may have."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from fleet.inventory import amounts, values
from fleet.inventory.tables import Count, PositiveSeconds, Table
from fleet.inventory.words import expected


def _true(value: object) -> bool:
    if value is not True:
        raise expected(value, "true; leave the check out where there is no GPU")
    return True


def _statuses(value: object) -> tuple[int, ...]:
    """Read one HTTP status, or several that are all good."""
    many = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not many or any(type(each) is not int or not 100 <= each <= 599 for each in many):
        raise expected(value, "an HTTP status from 100 to 599, or a list of them")
    return many


def _headers(value: object) -> dict[str, str]:
    """Read HTTP header fields that cannot end the header early."""
    if not isinstance(value, dict):
        raise expected(value, "a table of headers")
    for key, content in value.items():
        if re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", key) is None:
            raise expected(key, "the name of a header")
        if not isinstance(content, str) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]", content):
            raise ValueError(f"{key}: {expected(content, 'the text of a header, on one line')}")
    return value


CheckKind = Literal["http", "tcp", "unit", "command", "gpu"]
CHECK_KINDS: tuple[CheckKind, ...] = get_args(CheckKind)


def shape_problems(keys: set[str]) -> list[tuple[str, str]]:
    """Return what is wrong with a check that has these keys: pairs of key and problem.

    The key is empty for a problem of the check as a whole.
    """
    kinds = [kind for kind in CHECK_KINDS if kind in keys]
    if len(kinds) != 1:
        has = " and ".join(kinds) or "none of them"
        return [("", f"has {has}; exactly one of {', '.join(CHECK_KINDS)} is needed")]
    fitting = _EXTRA_KEYS.get(kinds[0], frozenset())
    return [
        (key, f"does not fit a {kinds[0]} check; only {owners} checks have it")
        for key, owners in _OWNERS.items()
        if key in keys and key not in fitting
    ]


_HTTP_KEYS = frozenset({"method", "status", "body", "headers", "verify_tls"})
_GPU_KEYS = frozenset({"count", "min_driver"})
_EXTRA_KEYS = {"http": _HTTP_KEYS | {"from"}, "tcp": frozenset({"from"}), "gpu": _GPU_KEYS}
_OWNERS = {"from": "http and tcp"} | dict.fromkeys(sorted(_HTTP_KEYS), "http") | dict.fromkeys(sorted(_GPU_KEYS), "gpu")


def _default_check_name(data: dict[str, Any]) -> str:
    for kind in CHECK_KINDS:
        if target := data.get(kind):
            printable = (char if char.isprintable() else "?" for char in " ".join(str(target).split()))
            words = "".join(printable)
            return {"http": words, "gpu": kind}.get(kind, f"{kind} {words}")
    return "check"


class Check(Table):
    """Something that must be true of a healthy host."""

    http: Annotated[str, BeforeValidator(values.url)] | None = None
    tcp: Annotated[str, BeforeValidator(values.tcp_target)] | None = None
    unit: Annotated[str, BeforeValidator(values.unit)] | None = None
    command: Annotated[str, BeforeValidator(values.script)] | None = None
    gpu: Annotated[bool, BeforeValidator(_true)] | None = None
    name: Annotated[str, BeforeValidator(values.line)] = Field(default_factory=_default_check_name)
    within: PositiveSeconds = 60.0
    interval: PositiveSeconds = 1.0
    timeout: PositiveSeconds = 5.0
    tolerate_existing: StrictBool = False
    from_: Literal["host", "controller"] = Field(default="host", alias="from")
    method: Literal["GET", "HEAD", "POST", "PUT", "OPTIONS"] = "GET"
    status: Annotated[tuple[int, ...], BeforeValidator(_statuses)] = (200,)
    body: Annotated[str, BeforeValidator(values.regex)] | None = None
    headers: Annotated[dict[str, str], BeforeValidator(_headers)] = Field(default_factory=dict)
    verify_tls: StrictBool = True
    count: Count | None = None
    min_driver: Annotated[str, BeforeValidator(amounts.version)] | None = None

    @property
    def kind(self) -> CheckKind:
        """Which of the five kinds it is."""
        return next(kind for kind in CHECK_KINDS if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _fits(self) -> Check:
        keys = {type(self).model_fields[name].alias or name for name in self.model_fields_set}
        for key, problem in shape_problems(keys):
            raise PydanticCustomError(SHAPE, "{problem}", {"problem": f"{key} {problem}".strip()})
        return self


SHAPE = "check_shape"
"""The type of the error about something that `shape_problems` has reported in full."""
