"""principals.toml and policy.toml: what they may say, and what their rules come to."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import ConfigError
from fleet.host import obstacles
from fleet.inventory import parse
from fleet.model import HostName
from fleet.policy import Actor, Approval, Change, Decision, Evidence, PrincipalKind, demands, judged, principals, schema
from fleet.policy.rules import DRIVER, KERNEL, UNKNOWN, strangers
from fleet.policy.schema import ApprovalTable, Policy, Verb
from tests.signer import Device

if TYPE_CHECKING:
    from pathlib import Path

FLEET = """[fleet]
name = "home"
[hosts.web-1]
tags = ["prod"]
[hosts.gpu-01]
kind = "gpu"
tags = ["prod", "gpu"]
[hosts.pi]
kind = "pi"
profiles.ann = { }
"""
WEB, GPU, PI = HostName("web-1"), HostName("gpu-01"), HostName("pi")
ANN, AGENT, CI = Actor("ann"), Actor("agent-3", PrincipalKind.AGENT), Actor("ci", PrincipalKind.CI)
PEOPLE = '[principals.ann]\nkind = "person"\n[principals.agent-3]\nkind = "agent"\n[principals.ci]\nkind = "ci"\n'
SATURDAY, SUNDAY = 1795831200.0, 1795917600.0  # 2026-11-28 and -29, 02:00 UTC


def policy(folder: Path, text: str, people: str | None = None) -> Policy:
    (folder / "policy.toml").write_text(text)
    if people is not None:
        (folder / "principals.toml").write_text(people)
    found = schema.load(parse(folder / "fleet.toml", FLEET), principals.load(folder))
    assert found is not None
    return found


def demanded(found: Policy, **changes: Any) -> dict[str, list[tuple[str, str]]]:
    """What is demanded of each host: pairs of rule and decision."""
    usual = Change(verb=Verb.DEPLOY, actors=(ANN,), hosts=dict.fromkeys((WEB, GPU, PI), ()), at=SUNDAY)
    rows: dict[str, list[tuple[str, str]]] = {}
    for one in demands(found, parse(found.path.parent / "fleet.toml", FLEET), dataclasses.replace(usual, **changes)):
        rows.setdefault(one.host, []).append((one.rule, one.says.value))
    return rows


def test_without_the_files_there_is_nothing(tmp_path: Path) -> None:
    assert principals.load(tmp_path) is None
    assert schema.load(parse(tmp_path / "fleet.toml", FLEET), None) is None


def test_agents_ask_on_the_hosts_that_a_rule_selects(tmp_path: Path) -> None:
    found = policy(tmp_path, '[[agents]]\nname = "prod"\nhosts = "@prod"\n[[agents]]\nhosts = "kind:pi"\nmust = "deny"')
    assert demanded(found) == demanded(found, actors=(CI,)) == {}
    said = {WEB: [("prod", "ask")], GPU: [("prod", "ask")], PI: [("[[agents]] 2", "deny")]}
    assert demanded(found, actors=(AGENT,)) == said
    assert demanded(found, actors=(ANN, AGENT)) == said, "whoever has planned it counts, too"


def test_rule_for_a_host_is_for_its_profiles_too(tmp_path: Path) -> None:
    found = policy(tmp_path, '[[agents]]\nname = "pi"\nhosts = "pi"')
    profile = HostName("pi.ann")
    hosts = dict.fromkeys((profile, WEB), ())
    assert demanded(found, actors=(AGENT,), hosts=hosts) == {profile: [("pi", "ask")]}


def test_agent_says_why_where_a_rule_wants_that(tmp_path: Path) -> None:
    found = policy(tmp_path, '[[agents]]\nname = "why"\nhosts = "pi"\nintent = true')
    assert demanded(found, actors=(AGENT,)) == {PI: [("why", "ask"), ("why", "deny")]}
    assert demanded(found, actors=(AGENT,), intent="update nginx") == {PI: [("why", "ask")]}
    assert demanded(found, actors=(AGENT,), verb=Verb.EXEC) == {PI: [("why", "ask")]}, "nobody keeps it there"


def test_rule_is_about_its_verbs_alone(tmp_path: Path) -> None:
    found = policy(
        tmp_path, '[[agents]]\nname = "a"\nhosts = "pi"\nverbs = ["exec"]\n[[reboots]]\nname = "r"\nhosts = "pi"'
    )
    assert demanded(found, actors=(AGENT,), reboots={PI}) == {PI: [("r", "ask")]}
    assert demanded(found, actors=(AGENT,), reboots={PI}, verb=Verb.ROLLBACK) == {}
    assert demanded(found, actors=(AGENT,), verb=Verb.EXEC) == {PI: [("a", "ask")]}
    assert demanded(found, verb=Verb.REBOOT, reboots={PI}) == {PI: [("r", "ask")]}


def test_rules_about_kernels_and_drivers_know_the_words_that_hosts_are_told_in() -> None:
    assert set(KERNEL) == set(obstacles.PARTS) - {"systemd"}
    assert obstacles.between(({}, {}), ("", ""), ("1", "2"))[0].startswith(f"{DRIVER}: ")


@pytest.mark.parametrize(
    ("of", "parts", "reboots", "asks"),
    [
        ("reboot", (), True, True),
        ("reboot", ("kernel",), False, False),
        ("kernel", ("kernel",), False, True),
        ("kernel", ("initrd", "systemd"), False, True),
        ("kernel", ("systemd",), False, False),
        ("kernel", ("NVIDIA driver: 1 -> 2",), False, False),
        ("kernel", (), True, False),
        ("driver", ("NVIDIA driver: 1 -> 2",), False, True),
        ("driver", ("kernel",), False, False),
        ("kernel", (UNKNOWN,), False, True),
        ("driver", (UNKNOWN,), False, True),
        ("reboot", (UNKNOWN,), False, False),
    ],
)
def test_reboots_kernels_and_drivers_ask(
    tmp_path: Path, of: str, parts: tuple[str, ...], *, reboots: bool, asks: bool
) -> None:
    found = policy(tmp_path, f'[[reboots]]\nname = "r"\nhosts = "kind:gpu"\nof = ["{of}"]')
    rows = demanded(found, hosts={GPU: parts, PI: parts}, reboots={GPU, PI} if reboots else set())
    assert rows == ({GPU: [("r", "ask")]} if asks else {})


def test_outside_of_a_window_nothing_begins_and_what_has_begun_goes_on(tmp_path: Path) -> None:
    found = policy(tmp_path, '[[windows]]\nname = "night"\nhosts = "@prod"\nwindow = "Sat 02:00-05:00"')
    said = {WEB: [("night", "deny")], GPU: [("night", "deny")]}
    assert demanded(found) == said
    assert demanded(found, at=SATURDAY) == {}
    assert demanded(found, at=SATURDAY + 3 * 3600 - 1) == {}
    assert demanded(found, at=SATURDAY + 3 * 3600) == said
    assert demanded(found, has_begun=True) == {}
    assert demanded(found, verb=Verb.ROLLBACK) == {}, "going back never waits"


def test_deny_beats_ask_and_ask_beats_allow(tmp_path: Path) -> None:
    found = policy(tmp_path, '[[agents]]\nhosts = "*"\n[[agents]]\nhosts = "kind:gpu"\nmust = "deny"')
    change = Change(verb=Verb.DEPLOY, actors=(AGENT,), hosts=dict.fromkeys((WEB, GPU), ()), at=SUNDAY)
    asked = demands(found, parse(tmp_path / "fleet.toml", FLEET), change)
    approved = Evidence(approvals=(Approval("ann", is_touched=False),))
    verdict = judged((WEB, GPU, PI), asked, ApprovalTable(), Evidence())
    assert verdict.decisions == {WEB: Decision.ASK, GPU: Decision.DENY, PI: Decision.ALLOW}
    assert verdict.refused == (WEB, GPU)
    assert judged((WEB, GPU, PI), asked, ApprovalTable(), approved).refused == (GPU,)
    merged = Evidence(merged="main of x")
    assert judged((WEB, GPU, PI), asked, ApprovalTable(), merged).refused == (GPU,)


@pytest.mark.parametrize(
    ("table", "approvals", "satisfied"),
    [
        ({}, [("ann", False)], True),
        ({"required": 2}, [("ann", False)], False),
        ({"required": 2}, [("ann", False), ("ann", True)], False),
        ({"required": 2}, [("ann", False), ("bob", False)], True),
        ({"touch": True}, [("ann", False)], False),
        ({"touch": True}, [("ann", False), ("ann", True)], True),
        ({"touch": True, "required": 2}, [("ann", True), ("bob", False)], False),
    ],
)
def test_so_many_different_people_approve_and_with_a_touch_where_that_is_wanted(
    table: dict[str, Any], approvals: list[tuple[str, bool]], *, satisfied: bool
) -> None:
    evidence = Evidence(approvals=tuple(Approval(by, touched) for by, touched in approvals))
    verdict = judged((), (), ApprovalTable.model_validate(table), evidence)
    assert bool(verdict.satisfied) is satisfied
    assert bool(verdict.lacking) is not satisfied


def test_who_is_nobody_in_principals_may_change_nothing(tmp_path: Path) -> None:
    change = Change(verb=Verb.DEPLOY, actors=(Actor("bob", None),), hosts={WEB: ()}, at=SUNDAY)
    (one,) = strangers(change, tmp_path / "principals.toml")
    assert (one.host, one.rule, one.says) == (WEB, "principals.toml", Decision.DENY)
    assert strangers(dataclasses.replace(change, actors=(ANN, AGENT)), tmp_path / "principals.toml") == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[agent]]\nhosts = '*'", "agent: unknown table; did you mean agents?"),
        ("[[agents]]\nhost = '*'", "[[agents]] 1 host: unknown key; did you mean hosts?"),
        ("[[agents]]", "[[agents]] 1 hosts: is missing"),
        ("[agents]\nhosts = '*'", "[agents]: expected a list of tables"),
        ("[[agents]]\nhosts = '@prd'", '[[agents]] 1 hosts: unknown tag "prd"; did you mean @prod?'),
        ("[[agents]]\nhosts = '*'\nmust = 'allow'", '[[agents]] 1 must: found "allow", expected one of ask, deny'),
        ("[[agents]]\nhosts = '*'\nverbs = ['deplo']", "[[agents]] 1 verbs: found a list, expected a list of deploy"),
        ("[[windows]]\nhosts = '*'\nwindow = 'never'", '[[windows]] 1 window: found "never", expected a window'),
        ("[[windows]]\nhosts = '*'", "[[windows]] 1 window: is missing"),
        ("[[agents]]\nname = 'a'\nhosts = '*'\n[[agents]]\nname = 'a'\nhosts = '*'", "two rules are called"),
        ("[protected]\nremote = 'x'", "[protected] branches: is missing"),
        ("[protected]\nremote = 'x'\nbranches = ['a b']", "expected the name of a branch"),
        ("[protected]\nremote = '--upload-pack=x'\nbranches = ['main']", "the address of a git repository"),
        ("[protected]\nremote = 'ext::sh -c x'\nbranches = ['main']", "the address of a git repository"),
        ("[approval]\nrequired = 0", "[approval] required"),
        ("[approval]\ntouch = 'yes'", '[approval] touch: found "yes", expected true or false'),
        ("[approval]\nbreak_glass = ['agent-3']", "agent-3 is no person in"),
        ("[approval]\nbreak_glass = ['bob']", "bob is no person in"),
        ("[approval]\nrequired = 2", "is 2, and 0 of the people"),
        ("hosts = [", "is not TOML"),
    ],
)
def test_policy_that_is_wrong_is_refused_with_place_and_remedy(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy(tmp_path, text, PEOPLE)
    assert "policy.toml" in caught.value.message
    assert told in caught.value.message


KEY = str(Device().public)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there are no principals"),
        ("[people.ann]", "people: unknown table"),
        ("[principals]\nann = 1", "[principals.ann]: expected a table"),
        ("[principals.ann]", "[principals.ann] kind: is missing"),
        ("[principals.ann]\nkind = 'human'", "expected one of person, agent, ci"),
        ("[principals.'*']\nkind = 'person'", "a principal's name"),
        ("[principals.ann]\nkind = 'person'\nkeys = ['x']", "[principals.ann] keys: expected a public key"),
        ("[principals.ann]\nkind = 'person'\nkeys = 'x'", "expected a list of SSH public keys"),
        ("[principals.ann]\nkind = 'person'\ntokens = ['hunter2']", "never write the token itself"),
        (
            f"[principals.ann]\nkind = 'person'\nkeys = ['{KEY}']\n"
            f"[principals.bob]\nkind = 'agent'\nkeys = ['{KEY} other']",
            "is already that of ann: no two may share it",
        ),
        (
            "[principals.ann]\nkind = 'person'\nusers = ['root']\n[principals.bob]\nkind = 'agent'\nusers = ['root']",
            "[principals.bob] users: the user root is already that of ann",
        ),
        (
            f"[principals.ann]\nkind = 'person'\ntokens = ['sha256:{'a' * 64}']\n"
            f"[principals.bob]\nkind = 'agent'\ntokens = ['sha256:{'a' * 64}']",
            "[principals.bob] tokens: the token sha256:aaaaaaaa… is already that of ann",
        ),
        ("x", "is not TOML"),
    ],
)
def test_principals_that_are_wrong_are_refused_with_place_and_remedy(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "principals.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        principals.load(tmp_path)
    assert "principals.toml" in caught.value.message
    assert told in caught.value.message
    assert "hunter2" not in caught.value.message


def test_file_that_leads_nowhere_is_no_missing_file(tmp_path: Path) -> None:
    for name, load in (("principals.toml", principals.load), ("policy.toml", lambda folder: policy_in(folder))):
        (tmp_path / name).symlink_to(tmp_path / "gone")
        with pytest.raises(ConfigError, match="leads nowhere"):
            load(tmp_path)
        (tmp_path / name).unlink()


def policy_in(folder: Path) -> Policy | None:
    return schema.load(parse(folder / "fleet.toml", FLEET), None)


USERS = '[principals.ann]\nkind = "person"\nusers = ["root"]\n[principals.agent-3]\nkind = "agent"\n' + (
    '[principals.agent-4]\nkind = "agent"\n[principals.ci]\nkind = "ci"\n'
)


@pytest.mark.parametrize(
    ("user", "claimed", "actor"),
    [
        ("root", None, Actor("ann", PrincipalKind.PERSON)),
        ("root", "ann", Actor("ann", PrincipalKind.PERSON)),
        ("root", "agent-3", Actor("agent-3", PrincipalKind.AGENT)),
        ("ci", "agent-3", Actor("agent-3", PrincipalKind.AGENT)),
        ("agent-3", None, Actor("agent-3", PrincipalKind.AGENT)),
        ("agent-3", "agent-3", Actor("agent-3", PrincipalKind.AGENT)),
        ("ann", None, Actor("ann", None)),
        ("bob", None, Actor("bob", None)),
        ("bob", "agent-3", Actor("agent-3", PrincipalKind.AGENT)),
        ("agent-3", "ann", "can only say that it is an agent"),
        ("agent-3", "agent-4", "both are agents"),
        ("root", "ci", "can only say that it is an agent"),
        ("ci", "ann", "can only say that it is an agent"),
        ("bob", "ann", "can only say that it is an agent"),
        ("root", "nobody", "is nobody in"),
    ],
)
def test_process_may_say_that_it_is_less_and_never_more(
    tmp_path: Path, user: str, claimed: str | None, actor: Actor | str
) -> None:
    (tmp_path / "principals.toml").write_text(USERS)
    known = principals.load(tmp_path)
    if isinstance(actor, Actor):
        assert principals.acting(known, user, claimed) == actor
    else:
        with pytest.raises(ConfigError, match=actor):
            principals.acting(known, user, claimed)


def test_without_principals_everybody_is_the_local_user_and_may_say_that_it_is_an_agent() -> None:
    assert principals.acting(None, "ann", None) == Actor("ann", PrincipalKind.PERSON)
    assert principals.acting(None, "ann", "agent-3") == Actor("agent-3", PrincipalKind.AGENT)
    with pytest.raises(ConfigError, match="FLEET_PRINCIPAL"):
        principals.acting(None, "ann", "a b")
