"""What somebody with a stolen key tries at a gate that wants two people and a touch, and what the host says to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.containers.gate_client import APPROVAL, PLAN, FidoKey, Offer, sha256

if TYPE_CHECKING:
    from tests.containers.gated import Gated

Attack = Callable[["Gated", str], str | Offer]
"""Makes, for a gated host and a system that is there, the order that is sent to `begin`."""
GOOD = ("ann", "bob")


def edited(where: str, key: str, value: str, *, again: bool = False) -> Attack:
    """A plan that is changed after it was signed; with `again` so that its digests fit."""

    def attack(host: Gated, new: str) -> Offer:
        offer = host.signed(host.offer(new), *GOOD)
        getattr(offer, where)[key] = value
        if again:
            offer.host_line()
            offer.order["plan"] = sha256(offer.head)
        return offer

    return attack


def planned(where: str, key: str, value: str | None, *approvers: str) -> Attack:
    """A plan that says this, signed by everybody who should."""

    def attack(host: Gated, new: str) -> Offer:
        offer = host.offer(new)
        if value is None:
            del getattr(offer, where)[key]
        else:
            getattr(offer, where)[key] = value.replace("NOW", str(int(time.time()))).replace("NEW", new)
        return host.signed(offer, *(approvers or GOOD))

    return attack


def signed(*signers: tuple[str, str]) -> Attack:
    """The right plan, with these signatures only."""
    return lambda host, new: host.offer(new).sign(*((host.people.keys[who], space) for who, space in signers))


def untouched(host: Gated, new: str) -> Offer:
    ann = host.people.keys["ann"]
    assert isinstance(ann, FidoKey)
    keys = host.people.keys
    return host.offer(new).sign((keys["robot"], PLAN), (keys["bob"], APPROVAL), (replace(ann, flags=0), APPROVAL))


def other_application(host: Gated, new: str) -> Offer:
    """ann's own device, under a name by which nobody knows it."""
    ann = host.people.keys["ann"]
    assert isinstance(ann, FidoKey)
    other = replace(ann, application=b"ssh:other")
    return host.offer(new).sign((host.people.keys["robot"], PLAN), (ann, APPROVAL), (other, APPROVAL))


def with_text(change: Callable[[str], str]) -> Attack:
    """The right order, whose text is changed as a whole."""
    return lambda host, new: change(host.signed(host.offer(new), *GOOD).text)


def with_signatures(change: Callable[[list[str]], list[str]]) -> Attack:
    def attack(host: Gated, new: str) -> Offer:
        offer = host.signed(host.offer(new), *GOOD)
        offer.signatures = change(offer.signatures)
        return offer

    return attack


def other_contents(host: Gated, new: str, *, lines: str = "all") -> Offer:
    """The plan was made where one path has other contents."""
    manifest = host.manifest(new).splitlines(keepends=True)
    wrong = manifest[0].split(":")[0] + ":" + "0" * 52 + "\n"
    text = "".join([wrong, *manifest[1:]])
    offer = host.signed(host.offer(new, manifest=sha256(text)), *GOOD)
    offer.manifest = {"all": text, "none": "", "honest": "".join(manifest)}[lines]
    return offer


def second_order(text: str) -> str:
    return text.replace("fleet-plan v1", "fleet-part v1\nnew /nix/store/x\nfleet-plan v1", 1)


ARMOUR = "-----BEGIN SSH SIGNATURE-----"
ORDERS: dict[str, tuple[Attack, str]] = {
    "no signatures at all": (lambda host, new: host.offer(new), "wants a signed plan"),
    "nobody but the author": (signed(("robot", PLAN)), "asks for 2 approvals by different people, and the plan has 0"),
    "no author": (
        signed(("ann", APPROVAL), ("bob", APPROVAL)),
        "robot, who is to have made the plan, has not signed it",
    ),
    "one approval": (signed(("robot", PLAN), ("ann", APPROVAL)), "and the plan has 1: ann"),
    "one person twice": (signed(("robot", PLAN), ("ann", APPROVAL), ("ann", APPROVAL)), "and the plan has 1: ann"),
    "one device under another name": (
        other_application,
        "and the plan has 1: ann (not counted: one by a key that nobody",
    ),
    "an approval by an agent": (signed(("robot", PLAN), ("ann", APPROVAL), ("robot", APPROVAL)), "robot is no person"),
    "an approval by a stranger": (
        signed(("robot", PLAN), ("ann", APPROVAL), ("eve", APPROVAL)),
        "by a key that nobody here",
    ),
    "an approval without touch": (untouched, "ann has touched no FIDO key"),
    "an approval by a key in a file": (
        signed(("robot", PLAN), ("ann", APPROVAL), ("carl", APPROVAL)),
        "carl has touched no",
    ),
    "an approval that was made for git": (
        signed(("robot", PLAN), ("ann", APPROVAL), ("bob", "git")),
        "bob has signed for 'git'",
    ),
    "an author who has approved only": (
        signed(("robot", APPROVAL), ("ann", APPROVAL), ("bob", APPROVAL)),
        "has not signed it",
    ),
    "an approver as the author": (
        signed(("ann", PLAN), ("ann", APPROVAL), ("bob", APPROVAL)),
        "ann has signed it as its author",
    ),
    "another author's name": (planned("plan", "by", "carl"), "robot has signed it as its author"),
    "an author with a pattern for a name": (planned("plan", "by", "*"), "robot has signed it as its author"),
    "another system in the part": (
        edited("part", "new", "/nix/store/" + "0" * 32 + "-x"),
        "not the one that the plan was made",
    ),
    "other limits in the part": (edited("part", "confirm", "9999"), "not the one that the plan was made with"),
    "units that may fail": (edited("part", "ignore", "*"), "not the one that the plan was made with"),
    "an edited plan": (edited("plan", "intent", "nothing"), "names another plan than the one that it brings"),
    "an edited plan with its digests": (
        edited("plan", "intent", "nothing", again=True),
        "is not good: the plan was changed",
    ),
    "an edited part with its digests": (
        edited("part", "confirm", "9999", again=True),
        "is not good: the plan was changed",
    ),
    "a plan that has expired": (planned("plan", "expires", "1000"), "the plan expired at '1000'"),
    "a part that has expired": (planned("part", "expires", "1000"), "the plan expired at '1000'"),
    "a plan for ever": (planned("plan", "expires", "99999999999999"), "the plan expired at '99999999999999'"),
    "a plan of no time": (planned("plan", "made", None), "does not say when it was made"),
    "another host's plan": (planned("part", "host", "two SHA256:x"), "the part is for host 'two', and this is one"),
    "a clone's plan": (planned("part", "host", "one SHA256:" + "A" * 43), "another machine of that name"),
    "a plan for any machine": (planned("part", "host", "one -"), "another machine of that name"),
    "a plan for a machine without a key": (planned("part", "host", "one "), "another machine of that name"),
    "another fleet's plan": (planned("plan", "fleet", "home fedcba9876543210"), "is for fleet 'fedcba9876543210'"),
    "a plan of no fleet": (planned("plan", "fleet", "home -"), "is for fleet '-'"),
    "a line that no plan has": (
        planned("plan", "approved", "yes"),
        "a line that this gate does not know: approved yes",
    ),
    "a line twice": (planned("plan", "by2", "carl"), "the plan has 'by' twice"),
    "a line that no part has": (
        planned("part", "run_as", "root"),
        "the order has a line that this program does not know",
    ),
    "a system twice": (planned("part", "new2", "/nix/store/" + "0" * 32 + "-x"), "no store path of a system"),
    "a system outside of the store": (planned("part", "new", "/nix/store/../../root/x"), "no store path of a system"),
    "a system that is not there": (planned("part", "new", "/nix/store/" + "0" * 32 + "-x"), "is not complete"),
    "another path's contents": (lambda host, new: other_contents(host, new, lines="none"), "has other contents here"),
    "a path whose hash differs": (other_contents, "was not built here, and is signed by nobody"),
    "the contents of this host": (
        lambda host, new: other_contents(host, new, lines="honest"),
        "not the one that the plan was made",
    ),
    "no contents": (planned("part", "manifest", "-"), "does not say what its system consists of"),
    "contents that the host builds": (
        lambda host, new: host.signed(host.offer(new, manifest="-", build="target", drv=new), *GOOD),
        "is not what the plan's derivation",
    ),
    "a plan for something else": (
        planned("part", "goal", "dry-activate"),
        "for a dry activation, and for nothing else",
    ),
    "a change of the gate that is none": (planned("part", "gate", "change"), "says 'gate change', and with"),
    "a gate that stays": (planned("part", "gate", "off"), "says 'gate off', and with"),
    "another expected system": (
        planned("part", "expected", "/nix/store/" + "0" * 32 + "-x"),
        "ran here when this was planned",
    ),
    "a limit that no shell calculates with": (planned("part", "confirm", "08"), "'08' is no time limit confirm"),
    "a limit without end": (planned("part", "activation", "9" * 30), "is no time limit activation"),
    "a limit below nothing": (planned("part", "confirm", "-5"), "'-5' is no time limit confirm"),
    "a limit that is a sum": (planned("part", "confirm", "5+5"), "'5+5' is no time limit confirm"),
    "very many units that may fail": (
        with_text(lambda text: text.replace("\nsettle", "\nignore x" * 3000 + "\nsettle", 1)),
        "more than 2000 lines before its plan",
    ),
    "very many units, and no signature": (
        lambda host, new: host.offer(new).text.replace("\nsettle", "\nignore x" * 3000 + "\nsettle", 1),
        "more than 2000 lines before its plan",
    ),
    "another serial": (planned("part", "serial", "7-00000000"), "the newest transaction was 7-00000000"),
    "two armours in one line": (
        with_signatures(lambda all_: [all_[0], f"{all_[1]} {ARMOUR} {all_[2]}"]),
        "it is not base64 on one line",
    ),
    "two signatures in one": (
        with_signatures(lambda all_: [all_[0], all_[1] + all_[2]]),
        "a line of the signatures is no",
    ),
    "half a signature": (with_signatures(lambda all_: [one[:-8] for one in all_]), "a line of the signatures is no"),
    "a signature and more": (
        with_signatures(lambda all_: [f"{one}AAAA" for one in all_]),
        "a line of the signatures is no",
    ),
    "a signature of zeros": (with_signatures(lambda _: ["A" * 400]), "it is not made by ssh-keygen"),
    "a huge signature": (with_signatures(lambda _: ["A" * 20000]), "it is longer than any"),
    "very many signatures": (with_signatures(lambda all_: all_ * 30), "more than 64 signatures"),
    "an order in an order": (with_text(second_order), "other sections than an order"),
    "two plans": (
        with_text(lambda text: text.replace("fleet-signatures", "fleet-plan v1\nby eve\nfleet-signatures", 1)),
        "other sec",
    ),
    "a section of another version": (
        with_text(lambda text: text.replace("fleet-part v1", "fleet-part v9")),
        "other sections",
    ),
    "an order that was cut": (with_text(lambda text: text[:-4]), "cut short"),
    "an order with more behind its end": (with_text(lambda text: text + "new /nix/store/x\n"), "cut short"),
    "an end in the plan": (planned("plan", "end", "x"), "does not know: end x"),
    "a NUL in the order": (with_text(lambda text: text.replace("intent x", "intent \0x")), "not all printable ASCII"),
    "an escape in the order": (
        with_text(lambda text: text.replace("intent x", "intent \x1b[2Jx")),
        "not all printable ASCII",
    ),
    "nine megabytes": (with_text(lambda text: "a 0123456789abcde\n" * 500_000 + text), "more than 8388608 bytes"),
}
"""Orders for `begin`: each one's name, what makes it, and words of the reason for which the host refuses it."""

RUN = "20250101T000000-abcdef"
LINES: dict[str, tuple[str, str]] = {
    "a shell": ("", "no shell, no files, no forwarding but to checks"),
    "a command": ("id", "no shell"),
    "a shell command": ("sh -c id", "no shell"),
    "a verb that fleet has": ("1 exec id", "the gate does not do 'exec'"),
    "the keeper": (f"1 keep {RUN}", "the gate does not do 'keep'"),
    "the guard": ("1 guard /nix/store/x test", "the gate does not do 'guard'"),
    "the gate in the gate": ("1 gate gate", "the gate does not do 'gate'"),
    "the activation": (f"1 activate {RUN}", "the gate does not do 'activate'"),
    "another protocol": ("2 facts", "this gate speaks protocol 1, and the call was '2'"),
    "an older protocol": ("0 facts", "this gate speaks protocol 1"),
    "a path for a run": ("1 show ../../../etc", "the gate does not do 'show'"),
    "a path for a state": (f"1 watch {RUN} ../../../../etc/shadow", "the gate does not do 'watch'"),
    "a path for a check": ("1 check ../allowed_signers", "the gate does not do 'check'"),
    "a script for a bundle": (f"1 bundle leave-mark {RUN} 1", "the gate does not do 'bundle'"),
    "a file for a journal": ("1 logs --file=/etc/shadow 10 % %", "the gate does not do 'logs'"),
    "an option for a time": ("1 logs x 10 today;reboot follow", "the gate does not do 'logs'"),
    "an option for a cursor": (f"1 watch {RUN} switched --file=/etc/shadow", "the gate does not do 'watch'"),
    "an option for a unit": ("1 unit --help", "the gate does not do 'unit'"),
    "an option for evidence": (f"1 evidence {RUN} 1 1 --file=/etc/shadow", "the gate does not do 'evidence'"),
    "a file for a store path": ("1 requisites /etc/shadow", "the gate does not do 'requisites'"),
    "what is above a store path": ("1 diff /nix/store/../../etc", "the gate does not do 'diff'"),
    "a root for a file": (f"1 root {RUN} /nix/store/../../etc/shadow x", "the gate does not do 'root'"),
    "a file to build": (f"1 build {RUN} /etc/shadow", "the gate does not do 'build'"),
    "a folder to look at": ("1 drift-store 5 /root", "the gate does not do 'drift-store'"),
    "a file for the key of the mesh": ("1 mesh-key ../key", "the gate does not do 'mesh-key'"),
    "the private key of the mesh": ("1 mesh-key /var/lib/fleet-mesh/key", "the gate does not do 'mesh-key'"),
    "a number that no shell calculates with": (f"1 queue {RUN} 08 a b c", "the gate does not do 'queue'"),
    "a number that is too large": (f"1 look {RUN} 99999999999", "the gate does not do 'look'"),
    "a look at what is above": ("1 look ..", "the gate does not do 'look'"),
    "a word for a folder": ("1 word ../last confirm", "the gate does not do 'word'"),
    "a withdrawal that names a path": ("1 withdraw ../x 41-8f3a09c2 a b c", "the gate does not do 'withdraw'"),
    "generations by a pattern": ("1 prune 5 *", "the gate does not do 'prune'"),
    "an acquittal by a path": ("1 acquit ../x", "the gate does not do 'acquit'"),
    "a push of everybody": ("1 end-idle .*", "the gate does not do 'end-idle'"),
    "a specialisation elsewhere": ("1 specialisation /etc /root", "the gate does not do 'specialisation'"),
    "the values of secrets": (f"1 secrets stage {RUN}", "the gate does not do 'secrets'"),
    "a flag in place of follow": ("1 logs x 10 % --file=/etc/shadow", "the gate does not do 'logs'"),
    "a protocol that is a path": ("1,../x facts", "no shell, no files"),
    "another word": (f"1 word {RUN} committed", "the gate does not do 'word'"),
    "a word in two lines": (f"1 word {RUN} abandon%20found%20x\nconfirm", "not all printable ASCII"),
    "a substitution": (f"1 show $(id>/tmp/{RUN})", "the gate does not do 'show'"),
    "a substitution in a reason": (f"1 history `id>/tmp/{RUN}`", "the gate does not do 'history'"),
    "a second command": (f"1 show {RUN};id", "the gate does not do 'show'"),
    "a very long line": ("1 show " + "a" * 9000, "the call has more than 8192 characters"),
    "other letters": ("1 show \u00e4", "not all printable ASCII"),
    "a dry activation without signatures": ("1 dry-activate", "cut short"),
    "more words": ("1 facts now", "the gate does not do 'facts'"),
    "a reboot of something else": ("1 reboot x y", "the gate does not do 'reboot'"),
}
"""What is asked of sshd, and words of the host's answer."""
