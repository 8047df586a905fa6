"""What colmena and deploy-rs know of a host, in the words of fleet.toml."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.source import deployers, ssh_words
from fleet.source.adopt import MAKE_HIVE, first_fleet
from fleet.source.discover import Discovered

FOUND = {
    "evaluates": True, "system": "x86_64-linux", "isImage": False, "fqdn": None, "ports": [22], "administrators": [],
    "rootMayLogIn": False, "sudoNeedsPassword": True, "units": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "keys", "unread"),
    [
        (["-p", "2222", "-i", "~/.ssh/deploy"], {"port": 2222, "identity_file": "~/.ssh/deploy"}, []),
        (["-p2222", "-lann"], {"port": 2222, "user": "ann"}, []),
        (["-o", "Port=2222", "-oUser=ann"], {"port": 2222, "user": "ann"}, []),
        (["-o", "ProxyJump me@door:23"], {"jump": "me@door:23"}, []),
        (["-J", "door", "-o", "ConnectTimeout=9"], {"jump": "door", "connect_timeout": "9s"}, []),
        (["-A", "-oStrictHostKeyChecking=no"], {}, ["-A", "-o StrictHostKeyChecking=no"]),
        (["-p"], {}, ["-p"]),
        (["-o"], {}, ["-o "]),
        (["-p", "many"], {"port": "many"}, []),
        ([], {}, []),
    ],
)
def test_arguments_of_ssh_are_keys_or_told(words: list[str], keys: dict[str, Any], unread: list[str]) -> None:
    assert ssh_words.keys_of(words) == (keys, unread)


@pytest.mark.parametrize(
    ("deployment", "keys", "told"),
    [
        ({}, {"user": "root"}, []),
        (
            {"targetHost": "web.lan", "targetPort": 2222, "targetUser": "ann", "tags": ["a"], "buildOnTarget": True},
            {"address": "web.lan", "port": 2222, "user": "ann", "sudo": True, "tags": ["a"], "build_on": "target"},
            [],
        ),
        ({"targetUser": None}, {}, []),
        ({"targetHost": None}, {"user": "root"}, ["targetHost = null"]),
        ({"targetUser": "ann", "privilegeEscalationCommand": ["doas"]}, {"user": "ann"}, ["with doas"]),
        ({"keys": ["a", "b"]}, {"user": "root"}, ["uploads the keys a, b"]),
        ({"tags": ["far away", "near"]}, {"user": "root", "tags": ["near"]}, ["the tag far away"]),
        ({"sshOptions": ["-p", "23", "-A"]}, {"port": 23, "user": "root"}, ["-A belongs to ~/.ssh/config"]),
    ],
)
def test_colmena_s_options_are_keys_or_told(deployment: dict[str, Any], keys: dict[str, Any], told: list[str]) -> None:
    found, remarks = deployers.colmena(deployment)
    assert found == keys
    assert [words in remark for words, remark in zip(told, remarks, strict=True)] == [True] * len(told)


@pytest.mark.parametrize(
    ("node", "keys", "told"),
    [
        ({"hostname": "web.lan", "sshUser": "root"}, {"address": "web.lan", "user": "root"}, []),
        ({"sshUser": "ann"}, {"user": "ann", "sudo": True}, []),
        ({"sshUser": "ann", "interactiveSudo": True}, {"user": "ann", "sudo": "password"}, []),
        ({"sshUser": "ann", "sudo": "doas -u"}, {"user": "ann"}, ["with doas -u"]),
        ({}, {}, ["logs in as you"]),
        (
            {"sshUser": "root", "remoteBuild": True, "fastConnection": True, "confirmTimeout": 9},
            {"user": "root", "build_on": "target", "substitute": False, "confirm_timeout": "9s"},
            [],
        ),
        ({"sshUser": "root", "activationTimeout": 99}, {"user": "root", "activation_timeout": "99s"}, []),
        ({"sshUser": "root", "autoRollback": False}, {"user": "root"}, ["autoRollback = false"]),
        ({"sshUser": "root", "profiles": ["system", "home"]}, {"user": "root"}, ["leaves home alone"]),
    ],
)
def test_deploy_rs_s_options_are_keys_or_told(node: dict[str, Any], keys: dict[str, Any], told: list[str]) -> None:
    found, remarks = deployers.deploy_rs(node)
    assert found == keys
    assert [words in remark for words, remark in zip(told, remarks, strict=True)] == [True] * len(told)


def test_what_two_deployers_say_differently_is_told() -> None:
    found = Discovered(
        configurations={"web": FOUND},
        raw={"web": {"isReadable": True, "deployment": {"targetHost": "web.lan"}}},
        deploy={"web": {"hostname": "web.vpn", "sshUser": "root", "profiles": ["system"]}},
        has_configurations=True,
    )
    (host,) = first_fleet(found, is_file=False).hosts
    assert host.keys["address"] == "web.lan"
    assert "deploy-rs says address = web.vpn" in host.remarks


def test_the_system_of_a_node_is_the_hive_s_and_not_a_configuration_of_the_same_name() -> None:
    node = {"configuration": FOUND, "deployment": {}}
    found = Discovered(configurations={"web": FOUND}, nodes={"web": node}, hive="colmenaHive", has_configurations=True)
    (host,) = first_fleet(found, is_file=False).hosts
    assert host.keys["attr"] == "colmenaHive.nodes.{name}"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Discovered(broken={"web": "no disk"}), "does not evaluate: no disk"),
        (Discovered(configurations={"my host": FOUND}), "cannot be the name of a host"),
        (Discovered(raw={"web": {"isReadable": True, "deployment": {}}}), MAKE_HIVE),
        (Discovered(deploy={"web": {"profiles": ["home"]}}), "has no profile system"),
        (Discovered(deploy={"web": {"profiles": ["system"]}}), "deploy-rs's wrapper around a system"),
    ],
)
def test_what_cannot_be_written_has_a_reason(found: Discovered, reason: str) -> None:
    fleet = first_fleet(found, is_file=False)
    assert fleet.hosts == ()
    assert [reason in each for each in fleet.left_out.values()] == [True]


def test_images_are_ignored_unless_somebody_deploys_to_them() -> None:
    image = {**FOUND, "isImage": True}
    deploy = {"stick": {"hostname": "stick.lan", "sshUser": "root", "profiles": ["system"]}}
    found = Discovered(configurations={"iso": image, "stick": image, "web": FOUND}, deploy=deploy)
    fleet = first_fleet(found, is_file=False)
    assert (fleet.ignore, [host.name for host in fleet.hosts]) == (("iso",), ["stick", "web"])


def test_what_a_configuration_tells_is_only_suggested() -> None:
    found = {
        **FOUND,
        "fqdn": "web.example.org",
        "ports": [2222],
        "administrators": ["ann", "bob"],
        "units": ["x.service"],
    }
    (host,) = first_fleet(Discovered(configurations={"web": found}), is_file=False).hosts
    assert host.keys == {"system": "x86_64-linux", "port": 2222}
    assert host.suggestions == {
        "address": "web.example.org", "user": "ann", "sudo": "password", "checks": [{"unit": "x.service"}],
    }  # fmt: skip
