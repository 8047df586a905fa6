"""Keep the signatures of a plan beside it, and find out which of them count."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import ConfigError, PolicyError
from fleet.files import alone_in, read_file, replace_file
from fleet.policy import Approval, PrincipalKind
from fleet.signing import APPROVAL, PLAN, bundle, keygen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet.plans import Plan
    from fleet.policy import Principals
    from fleet.signing import PublicKey, Signature

ENDING = ".signatures"
USUAL_KEYS = ("id_ed25519_sk", "id_ecdsa_sk", "id_ed25519", "id_ecdsa", "id_rsa")
"""Names of keys in ~/.ssh, in the order in which they are tried."""


def beside(file: Path) -> Path:
    """Return where the signatures of the plan in the file are."""
    return file.with_name(f"{file.name}{ENDING}")


def read_signatures(plan: Plan, file: Path, *, must_exist: bool = False) -> tuple[Signature, ...]:
    """Return the signatures of the plan in the file; none if there is no file.

    Raise `ConfigError` if it holds something else, or signatures of another plan.
    """
    try:
        return bundle.parse(read_file(file, most=bundle.LARGEST).decode("ascii"), plan.digest)
    except FileNotFoundError:
        if not must_exist:
            return ()
        raise ConfigError(f"{file}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: is no file of signatures: it is not ASCII") from None
    except ValueError as error:
        hint = "fleet plan --sign and fleet approve write one for each plan"
        raise ConfigError(f"{file}: {error}", hint=hint) from None


def add_signatures(plan: Plan, file: Path, signatures: Sequence[Signature]) -> None:
    """Add signatures of the plan to those in the file, for this user alone. Raise `ConfigError` if that fails."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone_in(file.parent):  # two people may approve at the same time
            text = bundle.written(plan.digest, (*read_signatures(plan, file), *signatures))
            replace_file(file, text.encode("ascii"), mode=0o600, durable=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What the signatures of a plan come to."""

    author: str = ""
    """Who has signed as the author, and is the one that the plan names. Empty if nobody has."""
    approvals: tuple[Approval, ...] = ()
    ignored: tuple[str, ...] = ()
    """Signatures that count for nothing, each with the reason."""


def forget_earlier(plan: Plan, file: Path) -> None:
    """Remove signatures beside the plan in this file that are of another one: the plan that was in the file before."""
    place = beside(file)
    with suppress(OSError):
        title, _, rest = read_file(place, most=bundle.LARGEST).decode("ascii", "replace").partition("\n")
        if title == bundle.TITLE and not rest.startswith(f"plan {plan.digest}\n"):
            place.unlink()


async def verified(plan: Plan, signatures: Sequence[Signature], principals: Principals | None) -> Signed:
    """Return what the signatures come to, by the keys that principals.toml has.

    Raise `PolicyError` for one that is not good, or by somebody else than the author that the plan names: something was
    changed on the way.
    """
    if principals is None:
        why = "there is no principals.toml, which says whose signatures count"
        return Signed(ignored=(why,) if signatures else ())
    author, approvals, ignored = "", list[Approval](), list[str]()
    allowed = keygen.allowed_signers(principals.signers())
    for number, signature in enumerate(signatures, 1):
        name = principals.owner_of(signature.key)
        if name is None:
            ignored.append(f"signature {number} is by {signature.key.fingerprint}, which is nobody's key")
            continue
        if why := _why_not(signature, name, principals):
            ignored.append(f"signature {number} {why}")
            continue
        if not await asyncio.to_thread(keygen.verify, plan.head, signature, name=name, allowed=allowed):
            hint = "somebody has changed the plan or the signature: make a new plan"
            raise PolicyError(f"signature {number}, by {name}, is not a good one of this plan", hint=hint)
        if signature.namespace == APPROVAL:
            approvals.append(Approval(name, signature.is_touched))
            continue
        if name != plan.by:
            raise PolicyError(f"the plan says that {plan.by} has made it, and {name} has signed it", hint="plan again")
        author = name
    return Signed(author=author, approvals=tuple(approvals), ignored=tuple(ignored))


def _why_not(signature: Signature, name: str, principals: Principals) -> str:
    """Return why a signature counts for nothing before it is verified; nothing if it may count."""
    if signature.namespace not in (PLAN, APPROVAL):
        return f"by {name} was made for {signature.namespace[:40]!r}"
    if signature.namespace == APPROVAL and principals.kind_of(name) is not PrincipalKind.PERSON:
        return f"is by {name}, and only people can approve"
    return ""


@contextmanager
def signing_key(name: str, principals: Principals | None, given: Path | None, *, touch: bool) -> Iterator[Path]:
    """Find the key that `name` signs with, while inside: the one that was `given`, else one in ~/.ssh or in the agent.

    With principals it is one of theirs. With `touch` a FIDO key comes first. Raise `ConfigError` if there is none.
    """
    own = [key for owner, key, _ in principals.signers() if owner == name] if principals is not None else None
    if given is not None:
        key = given.expanduser()
        if own is not None and keygen.read_public(key) not in own:
            hint = f"[principals.{name}] of {principals.path if principals else ''} has its keys"
            raise ConfigError(f"{given}: is no key of {name}", hint=hint)
        yield key
        return
    files = _in_home(own)
    agent = [key for key in keygen.in_agent() if own is None or key in own]
    if touch:
        files = [file for file in files if file[0].is_security_key] or ([] if any(_touchable(agent)) else files)
        agent = _touchable(agent) or agent
    if files:
        yield files[0][1]
        return
    if not agent:
        whose = f"of {name} " if own is not None else ""
        hint = (
            "--key FILE names one; [principals] of principals.toml says whose is which"
            if own is not None
            else "--key FILE"
        )
        raise ConfigError(f"there is no key {whose}in ~/.ssh or in ssh-agent to sign with", hint=hint)
    with tempfile.TemporaryDirectory(prefix="fleet-key-") as folder:
        public = Path(folder, "key.pub")
        public.write_text(f"{agent[0]}\n", encoding="ascii")
        yield public


def _touchable(keys: Sequence[PublicKey]) -> list[PublicKey]:
    return [key for key in keys if key.is_security_key]


def _in_home(own: Sequence[PublicKey] | None) -> list[tuple[PublicKey, Path]]:
    """Return keys of ~/.ssh, each with its private file: those that are `own`, or the usual ones."""
    folder = Path.home() / ".ssh"
    names = USUAL_KEYS if own is None else sorted(file.stem for file in folder.glob("*.pub"))
    found = []
    for name in names:
        file = folder / name
        if not file.is_file():
            continue
        try:
            key = keygen.read_public(file)
        except ConfigError:
            continue
        if own is None or key in own:
            found.append((key, file))
    return found
