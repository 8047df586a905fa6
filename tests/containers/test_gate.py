"""The gate on a real host, attacked by somebody with the key that deploys and a client of their own."""

from __future__ import annotations

import base64
import shutil
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.gate_attacks import GOOD, LINES, ORDERS, RUN
from tests.containers.gate_client import Client, run_id
from tests.containers.gated import Gated
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.containers.conftest import MakeLab

pytestmark = pytest.mark.skipif(shutil.which("nix") is None, reason="no Nix here")
CHECKS = 'checks = { web = "! test -e /run/sick"; environment = "env"; };'
SETTINGS = f'required = 2; touch = true; permitOpen = [ "127.0.0.1:8080" ]; {CHECKS}'

MANY_PATHS = """
d=$(mktemp -d) && cd $d && mkdir files && i=0
while [ $i -lt 3000 ]; do echo $i >files/$i; i=$((i + 1)); done
find files -type f | xargs -n 500 nix-store --add >paths
cat >many.nix <<'END'
let
  lines = builtins.filter (l: builtins.isString l && l != "") (builtins.split "\\n" (builtins.readFile ./paths));
in
derivation {
  name = "many"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "cat $allPath >$out" ];
  all = map builtins.storePath lines; passAsFile = [ "all" ]; PATH = "/bin:/usr/bin";
}
END
nix-build --no-out-link --option sandbox false many.nix 2>/dev/null
"""
"""Prints a store path on the host that needs 3,000 others."""


@pytest.fixture(scope="module")
def gated(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Gated:
    """One host for all of them: nothing that is refused changes anything."""
    return Gated.on(make_lab("one"), "one", tmp_path_factory.mktemp("gate"), settings=SETTINGS)


@pytest.fixture(scope="module")
def new(gated: Gated) -> str:
    return gated.subject.closure(gated.system("two"))


def state(gated: Gated) -> tuple[str, ...]:
    """Everything that an attack could have changed."""
    there = (
        "cat /nix/var/fleet/serial; ls -d /run/fleet/open /run/fleet/.own.* /nix/var/fleet/went-back; "
        "ls -A /tmp /root /var/empty /etc/ssh /etc/sudoers.d; id fleet"
    )
    return (*gated.subject.stands_on, gated.subject.sh(f"({there}) 2>/dev/null", check=False))


@pytest.fixture(scope="module")
def before(gated: Gated) -> tuple[str, ...]:
    """What the host was before the first attack."""
    return state(gated)


@pytest.mark.parametrize("attack", ORDERS)
def test_order_is_refused_by_the_host_with_its_reason(
    gated: Gated, new: str, before: tuple[str, ...], attack: str
) -> None:
    assert before
    make, reason = ORDERS[attack]
    made = make(gated, new)
    answer = gated.client.ask("1 begin", made if isinstance(made, str) else made.text)
    assert "begun" not in answer
    assert reason in answer.get("message", ""), answer


@pytest.mark.parametrize("attack", LINES)
def test_call_is_refused_by_the_host_with_its_reason(gated: Gated, before: tuple[str, ...], attack: str) -> None:
    assert before
    line, reason = LINES[attack]
    answer = gated.client.ask(line)
    assert reason in answer.get("message", ""), answer


def test_no_attack_has_changed_anything(gated: Gated, before: tuple[str, ...]) -> None:
    assert state(gated) == before


SSHD = {
    "a terminal": (("-tt",), ("1", "true"), "PTY allocation request failed"),
    "a forward to another port": (("-W", "127.0.0.1:22"), (), "stdio forwarding failed"),
    "a forward to elsewhere": (("-W", "10.0.0.1:8080"), (), "stdio forwarding failed"),
    "a forward from there": (
        ("-R", "18080:127.0.0.1:22", "-o", "ExitOnForwardFailure=yes"),
        ("1", "true"),
        "failed for listen",
    ),
    "files": (("-s",), ("sftp",), "this login runs fleet's gate, and nothing else"),
    "no command at all": ((), (), "this login runs fleet's gate, and nothing else"),
}
"""What is asked of sshd: flags, words, and what is said to that."""


@pytest.mark.parametrize("what", SSHD)
def test_sshd_gives_this_login_nothing_but_the_gate(gated: Gated, what: str) -> None:
    flags, words, said = SSHD[what]
    done = gated.client.ssh(*words, flags=flags)
    assert said in done.stdout + done.stderr, done


def test_checks_are_forwarded_to_and_they_alone(gated: Gated) -> None:
    done = gated.client.ssh(flags=("-W", "127.0.0.1:8080"), stdin="GET / HTTP/1.0\r\n\r\n")
    assert "one" in done.stdout, done


SMUGGLED = ("LANG=../../x", "LC_FLEET=$(id)", "PATH=/tmp", "SHELLOPTS=xtrace", "LD_PRELOAD=/tmp/x.so")


OURS = ("LC_ALL", "PATH")
"""Variables that the gate sets itself."""


@pytest.mark.parametrize(
    "variable", ["LC_ALL=x", "BASH_ENV=/tmp/x", *(pytest.param(word, marks=pytest.mark.long) for word in SMUGGLED)]
)
def test_no_variable_of_the_caller_gets_through(gated: Gated, variable: str) -> None:
    """sshd of Debian takes LANG and LC_*, and sudo keeps some of them."""
    name = variable.partition("=")[0]
    by_ssh = gated.client.ssh("1 check environment", flags=("-o", f"SetEnv={variable}")).stdout
    by_sudo = gated.subject.sh(f"runuser -u fleet -- env '{variable}' sudo -n -- /opt/fleet-gate '1 check environment'")
    for seen in (by_ssh, by_sudo):
        assert "PATH=" in seen, "it is told"
        assert variable not in seen.splitlines()
        assert name in OURS or f"{name}=" not in seen


@pytest.mark.parametrize(
    "words",
    ["sh", "-s", "-u root id", "PROGRAM 2 facts", "PROGRAM gate facts", "-E PROGRAM",
     "-l /bin/sh", "-u deploy /opt/fleet-gate x", "FLEET=1 /opt/fleet-gate x", "-e /etc/passwd", "/opt/../bin/sh"],
)  # fmt: skip
def test_sudo_lets_the_user_run_the_one_program_alone(gated: Gated, words: str) -> None:
    """Even if somebody came so far as to run commands as that user."""
    done = gated.subject.host.exec(
        "runuser", "-u", "fleet", "--", "sh", "-c", f"sudo -n {words.replace('PROGRAM', gated.program)}", check=False
    )
    assert done.status != 0
    assert "uid=0" not in done.stdout
    assert "running=" not in done.stdout


@pytest.mark.parametrize("user", ["root", "deploy", "operator"])
def test_key_of_the_gate_opens_no_other_account(gated: Gated, user: str) -> None:
    done = Client(gated.client.port, gated.client.key, user).ssh("true")
    assert "Permission denied" in done.stderr, done


def test_store_takes_no_unsigned_path_from_this_login(gated: Gated, new: str) -> None:
    """Through the serve protocol, as fleet speaks it: Nix's daemon trusts the user of the gate with nothing."""
    subject = gated.subject
    odd = subject.sh("f=$(mktemp -d) && echo odd >$f/x && nix-store --add $f")
    forged = "/nix/store/" + "1" * 32 + "-forged"
    export = subject.sh(f"nix-store --export {odd} | base64 -w 0")
    data = base64.b64decode(export).replace(odd.encode(), forged.encode()[: len(odd)].ljust(len(odd), b"x"))
    name = forged[: len(odd)].ljust(len(odd), "x")
    import_paths = struct.pack("<QQQ", 0x390C9DEB, 0x206, 4)
    argv = ["ssh", "-F", "none", "-i", str(gated.client.key), "-p", str(gated.client.port), "-o", "IdentitiesOnly=yes"]
    argv += [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "fleet@127.0.0.1",
        f"1 serve {RUN}",
    ]
    done = subprocess.run(argv, input=import_paths + data, capture_output=True, check=False, timeout=60)
    assert b"lacks a signature by a trusted key" in done.stderr or b"lacks a valid signature" in done.stderr, done
    assert not subject.succeeds(f"nix-store --check-validity {name}")


def test_files_of_a_system_are_read_as_somebody_who_may_read_little(gated: Gated) -> None:
    names = "../../../../../../etc/shadow\n/etc/shadow\n-f\nfleet/gate/config\n"
    done = gated.client.ssh(f"1 texts {gated.running} 100000", stdin=names)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [name for _, name in rows] == ["fleet/gate/config"]


def test_public_key_of_the_mesh_is_told_and_no_other_file(gated: Gated) -> None:
    """Root alone puts anything there. Were it a link, whoever asks would be no more than the gate's own user."""
    there = "/var/lib/fleet-mesh"
    gated.subject.sh(
        f"mkdir {there} && echo public >{there}/public && echo private >{there}/key && chmod 600 {there}/key"
    )
    assert gated.client.ssh("1 mesh-key").stdout == "public\n"
    gated.subject.sh(f"ln -sf key {there}/public")
    linked = gated.client.ssh("1 mesh-key")
    gated.subject.sh(f"rm -r {there}")
    assert (linked.returncode, linked.stdout) == (1, ""), linked


def test_reboot_is_of_the_boot_and_the_system_that_were_seen(gated: Gated) -> None:
    boot = gated.client.ask("1 boot-state")["boot"]
    assert len(boot.split()) == 2
    other = gated.client.ask(f"1 reboot {boot.split()[0]}%2012 {gated.running}")
    assert other["changed"] == "it has booted again meanwhile"
    other = gated.client.ask(f"1 reboot {boot.replace(' ', '%20')} /nix/store/{'0' * 32}-x")
    assert other["changed"].endswith(" runs now")


# --- what is let through: in this order, on the same host


def test_what_two_people_have_approved_with_a_touch_is_kept_and_cannot_be_played_again(gated: Gated, new: str) -> None:
    offer = gated.signed(gated.offer(new), *GOOD)
    assert gated.deploy(offer) == "committed"
    assert gated.subject.stands_on == (new,) * 3
    replayed = gated.client.begin(replace(offer, order=offer.order | {"run": run_id()}))
    assert replayed["refused"] == "ended", replayed
    other = gated.client.begin(gated.signed(gated.offer(gated.running, serial=offer.part["serial"]), *GOOD))
    assert other["refused"] == "stale", other
    history = gated.client.ask("1 history")["history"]
    assert offer.order["run"] in history


def test_it_goes_back_without_a_signature_once(gated: Gated, new: str) -> None:
    before = gated.running
    refused = gated.client.begin(gated.offer(before, risk="yes"))
    assert "takes no risk" in refused["message"]
    refused = gated.client.begin(gated.offer(before, goal="test"))
    assert "goes back for good" in refused["message"]
    older = gated.subject.sh("readlink -f /nix/var/nix/profiles/system-1-link")
    assert "wants a signed plan" in gated.client.begin(gated.offer(older))["message"]
    assert gated.deploy(gated.offer(before, manifest="-")) == "committed"
    assert gated.subject.stands_on == (before,) * 3
    again = gated.client.begin(gated.offer(new, manifest="-"))
    assert "has gone back without a signature already" in again["message"], again
    assert gated.deploy(gated.signed(gated.offer(new), *GOOD)) == "committed"
    assert not gated.subject.succeeds("test -e /nix/var/fleet/went-back")


def test_no_order_without_a_signature_leaves_a_host_that_never_ends(gated: Gated) -> None:
    """The way back is open to whoever has the key: nobody else has read its limits."""
    before = gated.subject.sh("readlink /nix/var/nix/gcroots/fleet/previous")
    for limit in ("08", "-1", "1 1", "x", "9" * 25):
        refused = gated.client.begin(gated.offer(before, manifest="-", confirm=limit))
        assert "is no time limit" in refused.get("message", ""), refused
    gated.subject.sh("test ! -e /run/fleet/open")


def test_withdrawn_plan_begins_no_more_though_it_is_signed(gated: Gated) -> None:
    offer = gated.signed(gated.offer(gated.running), *GOOD)
    drawn = gated.client.ask(f"1 withdraw {run_id()} {offer.part['serial']} eve lair {offer.order['plan']}")
    assert drawn["serial"] != offer.part["serial"]
    gated.forget()
    refused = gated.client.begin(offer)
    assert (refused["refused"], offer.part["serial"] in refused["message"]) == ("stale", True), refused


def test_of_two_signed_plans_for_one_host_only_one_begins_at_once(gated: Gated) -> None:
    """Each by a client of its own, at the same moment."""
    both = [gated.signed(gated.offer(gated.running), *GOOD) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        begun = list(pool.map(gated.client.begin, both))
    assert sorted("begun" in one for one in begun) == [False, True], begun
    (winner,) = (offer for offer, one in zip(both, begun, strict=True) if "begun" in one)
    gated.forget()
    gated.follow(winner, "switched")
    gated.client.ask(f"1 word {winner.order['run']} abandon%20silent%20enough")
    assert gated.follow(winner, "reverted") == "reverted"


def test_nobody_keeps_a_system_whose_own_checks_fail(gated: Gated) -> None:
    """Whoever holds the key may say `confirm` at any time."""
    sick = gated.subject.closure(gated.system("sick", more='activationScript = "touch /run/sick";'))
    offer = gated.signed(gated.offer(sick), *GOOD)
    assert gated.deploy(offer) == "reverted"
    shown = gated.client.ask(f"1 show {offer.order['run']}")
    assert shown["reason"].startswith("own check web failed"), shown
    # The one before fails it too as long as the file is there: then the new one is not to blame.
    assert (shown["blame"], "it fails with the old system too" in shown["reason"]) == ("silent", True)
    gated.subject.sh("rm /run/sick")


def test_nobody_keeps_a_system_on_trial_by_looking_at_it_for_ever(gated: Gated) -> None:
    """With no word the host goes back by itself: after five times what a proof takes. Most of it is left out."""
    trial = gated.subject.closure(gated.system("trial"))
    offer = gated.signed(gated.offer(trial, settle="0"), *GOOD)
    gated.begin(offer)
    look, limit = f"1 look {offer.order['run']}", "/run/fleet/open/limit"
    before = gated.subject.sh(f"cat {limit}")
    assert gated.client.ask(look)["state"] == "switched"
    assert gated.subject.sh(f"cat {limit}") == before, "no look moves it"
    gated.subject.sh(f"echo $(($(cut -d . -f 1 /proc/uptime) + 2)) >{limit}")
    until(lambda: gated.client.ask(look).get("state") == "reverted", within=60, what="it goes back")
    shown = gated.client.ask(f"1 show {offer.order['run']}")
    assert (shown["blame"], shown["reason"]) == ("silent", "nobody confirmed within 480 s, though somebody looked")


def test_plan_that_is_older_than_the_newest_one_is_measured_by_that(gated: Gated) -> None:
    """A host whose clock was set back, as after a power cut, does not take what has expired."""
    newest = int(gated.subject.sh("cat /nix/var/fleet/newest-plan"))
    offer = gated.offer(gated.running)
    offer.plan["expires"] = offer.part["expires"] = str(newest)
    refused = gated.client.begin(gated.signed(offer, *GOOD))
    assert f"expired at '{newest}'" in refused["message"], refused


CHANGES: dict[str, dict[str, Any]] = {
    "an approver less": {"kinds": {"ann": "person", "bob": "person", "robot": "agent"}},
    "an author more": {"kinds": {"ann": "person", "bob": "person", "carl": "person", "robot": "agent", "eve": "agent"}},
    "fewer approvals": {"settings": SETTINGS.replace("required = 2", "required = 1")},
    "no touch": {"settings": SETTINGS.replace("touch = true;", "")},
    "another check": {"settings": SETTINGS.replace("! test -e", "test ! -e")},
}


@pytest.mark.parametrize(
    "change", [name if not place else pytest.param(name, marks=pytest.mark.long) for place, name in enumerate(CHANGES)]
)
def test_change_of_the_gate_has_to_be_said(gated: Gated, change: str) -> None:
    other = gated.subject.closure(gated.system(f"other-{len(change)}", gated.module(**CHANGES[change])))
    refused = gated.client.begin(gated.signed(gated.offer(other), *GOOD))
    assert "the plan says 'gate keep'" in refused["message"], refused
    assert "it is 'gate change'" in refused["message"]
    off = gated.client.begin(gated.signed(gated.offer(other, gate="off"), *GOOD))
    assert "the plan says 'gate off'" in off["message"], off


def test_gate_that_goes_has_to_be_said(gated: Gated) -> None:
    bare = gated.subject.closure('version = "bare"; services.web.http = { port = 8080; body = "bare"; };')
    refused = gated.client.begin(gated.signed(gated.offer(bare), *GOOD))
    assert "it is 'gate off'" in refused["message"], refused
    refused = gated.client.begin(gated.signed(gated.offer(bare, gate="change"), *GOOD))
    assert "it is 'gate off'" in refused["message"], refused


def test_both_gates_have_to_agree(gated: Gated) -> None:
    others = {"carl": "person", "stranger": "person", "robot": "agent"}
    other = gated.subject.closure(
        gated.system("others", gated.module(kinds=others, settings=SETTINGS.replace("= 2", "= 1")))
    )
    old_alone = gated.client.begin(gated.signed(gated.offer(other, gate="change"), *GOOD))
    assert f"the gate of {other} asks for 1 approvals" in old_alone["message"], old_alone
    new_alone = gated.client.begin(gated.signed(gated.offer(other, gate="change"), "stranger"))
    assert "the gate of /run/current-system asks for 2" in new_alone["message"], new_alone


def test_key_under_two_names_signs_for_nobody(gated: Gated) -> None:
    """The module refuses it; this is what the host says of a closure that was made otherwise."""
    found = gated.module()
    signers = found["files"]["fleet/gate/allowed_signers"]
    bob = next(line for line in signers.splitlines() if line.startswith("bob "))
    found["files"]["fleet/gate/allowed_signers"] = signers + bob.replace("bob ", "bobby ", 1) + "\n"
    twice = gated.subject.closure(gated.system("twice", found))
    refused = gated.client.begin(gated.signed(gated.offer(twice, gate="change"), *GOOD))
    assert "one key has two names" in refused["message"], refused
    found["files"]["fleet/gate/allowed_signers"] = signers.replace(
        'namespaces="fleet-plan@v1,fleet-approval@v1" ', "", 1
    )
    open_to_git = gated.subject.closure(gated.system("git", found))
    refused = gated.client.begin(gated.signed(gated.offer(open_to_git, gate="change"), *GOOD))
    assert "not as the module writes it" in refused["message"], refused


def test_change_of_the_gate_that_both_approve_is_kept_and_there_is_no_way_back_without_signatures(gated: Gated) -> None:
    before = gated.subject.running
    kinds = {"ann": "person", "bob": "person", "robot": "agent", "eve": "agent"}
    found = gated.module(kinds=kinds)
    other = gated.subject.closure(gated.system("changed", found))
    assert gated.deploy(gated.signed(gated.offer(other, gate="change"), *GOOD)) == "committed"
    refused = gated.client.begin(gated.offer(before))
    assert "has another gate than the system that runs" in refused["message"], refused
    gated.found = found  # whoever is in the new gate may plan from now on
    next_one = gated.subject.closure(gated.system("next"))
    assert gated.deploy(gated.signed(gated.offer(next_one), *GOOD, author="eve")) == "committed"


def test_dry_activation_runs_what_was_approved_for_just_that(gated: Gated) -> None:
    dry = gated.subject.closure(gated.system("dry", more='dryActivationScript = "echo was here >/run/dry";'))
    assert "signed plan" in gated.client.ask("1 dry-activate", gated.offer(dry).text)["message"]
    switch = gated.signed(gated.offer(dry), *GOOD)
    assert "for no dry activation" in gated.client.ask("1 dry-activate", switch.text)["message"]
    assert not gated.subject.succeeds("test -e /run/dry")
    wanted = gated.signed(gated.offer(dry, goal="dry-activate"), *GOOD)
    done = gated.client.ssh("1 dry-activate", stdin=wanted.text)
    assert (done.returncode, gated.subject.sh("cat /run/dry")) == (0, "was here"), done
    assert gated.subject.running != dry


def test_checks_of_the_gate_take_less_than_a_second_for_3000_paths(
    gated: Gated, record_property: Callable[[str, object], None]
) -> None:
    """Measured and told; a busy machine proves nothing."""
    subject = gated.subject
    many = subject.feed(MANY_PATHS.encode(), "sh")
    assert gated.manifest(many).count("\n") >= 3000
    offer = gated.signed(gated.offer(many, gate="off"), "ann", "bob")
    seconds = []
    for _ in range(3):
        begun = time.monotonic()
        refused = gated.client.begin(offer)
        seconds.append(time.monotonic() - begun)
        assert refused["refused"] == "unfit", refused  # the last thing that is looked at: it is no system
    timed = "TIMEFORMAT='%R %U %S'; time runuser -u fleet -- sudo -n -- /opt/fleet-gate '1 begin' >/dev/null"
    alone = gated.subject.feed(offer.text.encode(), "bash", "-c", f"{{ {timed}; }} 2>&1")
    record_property("seconds", seconds)
    print(f"3000 paths, three signatures: {min(seconds):.2f} s with the login; on the host: {alone} (real, user, sys)")
