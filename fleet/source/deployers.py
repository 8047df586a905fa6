"""Read what colmena and deploy-rs know of a host as keys of fleet.toml, and say what has no key."""

from __future__ import annotations

from typing import Any

from fleet.inventory.first import is_name
from fleet.source import ssh_words
from fleet.text import listed

Data = dict[str, Any]
Read = tuple[Data, list[str]]
"""Keys of a host, and remarks for people on what they cannot express."""
ROOT = "root"


def colmena(deployment: Data) -> Read:
    """Read the options `deployment` of a node. One that is missing has colmena's default."""
    keys, remarks = _ssh(deployment.get("sshOptions"), "colmena: sshOptions")
    if deployment.get("targetHost"):
        keys["address"] = deployment["targetHost"]
    elif "targetHost" in deployment:
        remarks.append('colmena: targetHost = null, it is deployed on the host itself: address = "local" does that')
    if deployment.get("targetPort"):
        keys["port"] = deployment["targetPort"]
    user = deployment.get("targetUser", ROOT)
    if user is not None:
        keys["user"] = user
    elevation = deployment.get("privilegeEscalationCommand") or ["sudo"]
    if user not in (None, ROOT):
        if elevation[0] == "sudo":
            keys["sudo"] = True
        else:
            remarks.append(f"colmena: becomes root with {elevation[0]}; fleet uses sudo, or logs in as root")
    tags = deployment.get("tags") or ()
    if fitting := [tag for tag in tags if is_name(tag)]:
        keys["tags"] = fitting
    remarks += [f"colmena: the tag {tag} is no word, as tags are here" for tag in tags if tag not in fitting]
    if deployment.get("buildOnTarget"):
        keys["build_on"] = "target"
    if secrets := deployment.get("keys"):
        remarks.append(f"colmena uploads the keys {listed(secrets)}; fleet does not: docs/adopting.md")
    return keys, remarks


def deploy_rs(node: Data) -> Read:
    """Read a node of `deploy.nodes`, with what it has from `deploy` and from its profile `system`."""
    keys, remarks = _ssh(node.get("sshOpts"), "deploy-rs: sshOpts")
    if node.get("hostname"):
        keys["address"] = node["hostname"]
    user = node.get("sshUser")
    if user:
        keys["user"] = user
    elif "user" not in keys:
        remarks.append("deploy-rs logs in as you; fleet as your SSH configuration says, else as root: write user")
    if keys.get("user", ROOT) != ROOT:
        sudo = node.get("sudo") or "sudo"
        if sudo.split()[0] == "sudo":
            keys["sudo"] = "password" if node.get("interactiveSudo") else True
        else:
            remarks.append(f"deploy-rs: becomes root with {sudo}; fleet uses sudo, or logs in as root")
    if node.get("remoteBuild"):
        keys["build_on"] = "target"
    if node.get("fastConnection"):
        keys["substitute"] = False
    for theirs, ours in (("confirmTimeout", "confirm_timeout"), ("activationTimeout", "activation_timeout")):
        if isinstance(node.get(theirs), int):
            keys[ours] = f"{node[theirs]}s"
    off = [name for name in ("autoRollback", "magicRollback") if node.get(name) is False]
    if off:
        remarks.append(f"deploy-rs: {listed(off)} = false; fleet always goes back from a system that is not healthy")
    others = [profile for profile in node.get("profiles") or () if profile != "system"]
    if others:
        remarks.append(f"deploy-rs: fleet deploys the profile system, and leaves {listed(others)} alone")
    return keys, remarks


def _ssh(words: Any, place: str) -> Read:
    keys, unread = ssh_words.keys_of(words or ())
    return keys, [f"{place}: {word} belongs to ~/.ssh/config, which fleet reads" for word in unread]
