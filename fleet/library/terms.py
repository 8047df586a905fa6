"""Compare the terms of somebody else's plan with the own fleet.toml: what runs commands must be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import PolicyError
from fleet.signing import PublicKey
from fleet.text import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet.inventory import Host, Inventory
    from fleet.model import HostName
    from fleet.plans import Part, Plan

TERMS = (
    *("activation_timeout", "confirm_timeout", "boot_timeout", "settle", "checks", "hooks", "ignore_units"),
    *("ignore_snippets", "last_resort", "build_on"),
)
"""The keys of a host that a part has too."""
UPDATE = "take it over into your own fleet.toml first, if it is meant"


def own_terms(part: Part, fleet: Inventory) -> None:
    """Raise `PolicyError` if the part runs a command that the own fleet.toml has not, or is for another machine."""
    host = fleet.hosts[part.host]
    for hook in part.hooks:
        if hook not in host.hooks:
            raise PolicyError(
                f"{part.host}: the hook {hook.name} is not in {fleet.path} as the plan has it", hint=UPDATE
            )
    for check in part.checks:
        if check.command is not None and check not in host.checks:
            message = f"{part.host}: the check {check.name} runs a command that {fleet.path} does not have"
            raise PolicyError(message, hint=UPDATE)
    known = _fingerprint(host)
    if known and part.host_key != known:
        answered = part.host_key or "no key"
        message = f"{part.host}: the plan is for the machine with {answered}, and host_key of {fleet.path} is {known}"
        raise PolicyError(message, hint="find out which is right: fleet trust shows what answers")


def _fingerprint(host: Host) -> str:
    """Return the fingerprint of the host's key as fleet.toml has it; empty where that is not known."""
    try:
        return PublicKey.parse(host.host_key).fingerprint if host.host_key else ""
    except ValueError:  # of a kind that signs nothing here
        return ""


def remarks_on(plan: Plan, fleet: Inventory) -> Iterator[str]:
    """Yield what people should know before they approve, where the plan is not as the own fleet.toml would have it."""
    differing: dict[str, list[HostName]] = {}
    for name, part in plan.parts.items():
        for words in (*_differing(part, fleet.hosts[name]), *_asked_for(part)):
            differing.setdefault(words, []).append(name)
    for words, hosts in differing.items():
        yield f"{listed(hosts, most=6)}: {words}"
    if dict(plan.nix_options) != fleet.nix_options:
        yield "its Nix options are not those of your fleet.toml, which were used here"
    if plan.max_failures > fleet.rollout.max_failures:
        yield f"it goes on after {plan.max_failures} failures, and your fleet.toml after {fleet.rollout.max_failures}"


def _differing(part: Part, host: Host) -> Iterator[str]:
    planned = part.apply_policy(host)
    for key in TERMS:
        here, there = getattr(host, key), getattr(planned, key)
        if here == there:
            continue
        if key in ("checks", "hooks"):
            lost = [one.name for one in here if one not in there]
            new = [one.name for one in there if one not in here]
            yield "; ".join(
                words
                for words in (
                    f"without {key} of your fleet.toml: {', '.join(lost)}" if lost else "",
                    f"with {key} that your fleet.toml has not: {', '.join(new)}" if new else "",
                )
                if words
            )
        else:
            yield f"{key} is {_shown(there)}, and {_shown(here)} in your fleet.toml"
    if part.windows != host.window:
        yield f"window is {_shown(part.windows)}, and {_shown(host.window)} in your fleet.toml"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "nothing"
    return str(value) if value is not None else "nothing"


def _asked_for(part: Part) -> Iterator[str]:
    """Yield what was asked for that is more than usual."""
    if part.retry_quarantined:
        yield "it is tried again though it was found bad there, if it was (--retry-quarantined)"
    if part.force:
        yield "a reboot interrupts people and jobs (--force)"
    if part.accept_boot_risk:
        yield "a boot risk is accepted (--accept-boot-risk)"
    if not part.checks_decide:
        yield "failing checks do not take the host back"
    if part.by_reboot:
        yield "it reboots"
