"""`fleet drift` on lab hosts: what somebody changes by hand is found, each change once, and nothing else is."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.driver import Stage, new_version, running, wait_until, web
from tests.containers.files import shell
from tests.contract.test_drift_look import FUNCTIONS

if TYPE_CHECKING:
    from fleet.lab import Lab, LabHost
    from tests.containers.conftest import MakeLab

PLANTED = {
    "/nix/var/nix/profiles/system": ("system", "nix-env -p /nix/var/nix/profiles/system --set $first"),
    "/run/booted-system": (
        "reboot",
        """
        mkdir -p /var/tmp/booted && ln -sf /etc/hosts /var/tmp/booted/kernel
        ln -sfn /var/tmp/booted /run/booted-system
        """,
    ),
    "$hello": ("store", "chmod u+w $hello && echo '# more' >>$hello/bin/hello && touch -d @1 $hello/bin/hello"),
    "/home/deploy/.cargo/bin": ("packages", "mkdir -p ~deploy/.cargo/bin && touch ~deploy/.cargo/bin/rg"),
    "/home/operator/.local/lib/python3.13/site-packages": (
        "packages",
        """
        mkdir -p ~operator/.local/bin ~operator/.local/lib/python3.13/site-packages/evil-1.0.dist-info
        touch ~operator/.local/bin/evil  # a command of the same package
        """,
    ),
    "/etc/agent.conf": ("files", "echo x >/etc/agent.conf"),
    "/etc/systemd/system/agent.service": (
        "files",
        """
        printf '%s\\n' '[Service]' 'ExecStart=/usr/bin/busybox nc -ll -p 5555 -e cat' \\
            '[Install]' WantedBy=multi-user.target >/etc/systemd/system/agent.service
        systemctl daemon-reload
        systemctl enable --quiet --now agent
        """,
    ),
    "/run/systemd/transient/tick.timer": ("access", "systemd-run --quiet --unit=tick --on-calendar=hourly true"),
    "user:mallory": ("access", "useradd --create-home --groups sudo mallory"),
    "ssh_key:root:$key": ("access", "cat /var/tmp/key.pub >>/root/.ssh/authorized_keys"),
}
"""Ten changes of all classes: what each is found by, its class, and how it is made."""

MORE = {
    "/home/deploy/.rustup": ("packages", "mkdir -p ~deploy/.rustup/toolchains/stable"),
    "/home/deploy/.npm-global/lib/node_modules": (
        "packages",
        "mkdir -p ~deploy/.npm-global/lib/node_modules/typescript",
    ),
    "/nix/var/nix/profiles/per-user/root/profile": ("packages", "nix-env --quiet --install $tool"),
    "/usr/local/bin/tool": ("packages", "install -m 755 /dev/null /usr/local/bin/tool"),
    "/etc/motd.lab": ("files", "rm /etc/motd.lab"),
    "/etc/systemd/system/ssh.service.d/override.conf": (
        "files",
        "mkdir -p /etc/systemd/system/ssh.service.d && echo '[Unit]' >/etc/systemd/system/ssh.service.d/override.conf",
    ),
    "/run/systemd/transient/stray.service": ("files", "systemd-run --quiet --unit=stray sleep inf"),
    "/home/deploy/.config/systemd/user/agent.service": (
        "files",
        "mkdir -p ~deploy/.config/systemd/user && touch ~deploy/.config/systemd/user/agent.service",
    ),
    "listener:tcp:4444:busybox": (
        "access",
        "cd / && setsid busybox nc -ll -p 4444 -e cat >/dev/null 2>&1 </dev/null &",
    ),
    "/var/spool/cron/crontabs/root": (
        "access",
        "mkdir -p /var/spool/cron/crontabs && touch /var/spool/cron/crontabs/root",
    ),
    "group:sudo:operator": ("access", "usermod --append --groups sudo operator"),
    "/etc/sudoers.d/agent": (
        "access",
        "echo 'deploy ALL=(ALL) ALL' >/etc/sudoers.d/agent && chmod 440 /etc/sudoers.d/agent",
    ),
}
"""Further kinds."""


NIXOS = """
files."etc/os-release" = "ID=nixos\\n";
files."etc/copied" = "a\\n";
files."etc/copied.mode" = "0440\\n";
files."etc/sysusers.d/00-nixos.conf" = "u root 0 - /root\\nu! deploy 1000 - /home/deploy\\n";
"""
"""What makes a lab system one that declares the whole host, and two of its accounts."""


def lab_key(host: LabHost) -> str:
    return shell(host, "ssh-keygen -lf /root/.ssh/authorized_keys | cut -d ' ' -f 2 | head -n 1")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab("debian", "nixos")


def plant(host: LabHost, changes: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Make the changes. Returns the class of each by what it is found by."""
    about = """
        first=$(readlink -f /nix/var/nix/profiles/system-1-link)
        hello=$(readlink -f /run/current-system/sw/bin/hello) hello=${hello%/bin/*}
        [ -e /var/tmp/key ] || ssh-keygen -q -t ed25519 -N '' -f /var/tmp/key
        key=$(ssh-keygen -lf /var/tmp/key.pub | cut -d ' ' -f 2)
        mkdir -p /var/tmp/tool/bin && touch /var/tmp/tool/bin/tool
        tool=$(nix-store --add /var/tmp/tool)
    """
    scripts = [
        about,
        *(script for _, script in changes.values()),
        "chown -R deploy: ~deploy; chown -R operator: ~operator",
    ]
    shell(host, "\n".join(map(textwrap.dedent, scripts)))
    names = shell(host, "\n".join([textwrap.dedent(about), *(f'echo "{name}"' for name in changes)])).splitlines()
    return {name: drift for name, (drift, _) in zip(names, changes.values(), strict=True)}


def found(stage: Stage, name: str, *arguments: str, code: int | None = None) -> dict[str, Any]:
    """What `fleet drift` says of the host, as JSON."""
    host: dict[str, Any] = stage.document("drift", name, *arguments, code=code)["hosts"][0]
    assert host["error"] is None
    return host


def classes(document: dict[str, Any]) -> dict[str, str]:
    """The class of each finding by its id; no id comes twice."""
    ids = [one["id"] for one in document["findings"]]
    assert len(ids) == len(set(ids))
    return {one["id"]: one["class"] for one in document["findings"]}


def everything(host: LabHost) -> str:
    """Names, times and sizes of all that is on the disks of a host, but for what every login and every query writes.

    The two files beside Nix's database are how SQLite lets its readers know of each other.
    """
    places = "/etc /home /root /opt /usr /nix /var /boot /run/systemd/system /run/systemd/transient"
    others = "-path /var/log -prune -o -name 'db.sqlite-???' -prune"
    listed = f"find {places} -xdev {others} -o ! -type d -printf '%p %C@ %s %i\\n' | LC_ALL=C sort"
    return shell(host, f"{listed} | sha256sum; sha256sum /nix/var/nix/db/db.sqlite")


def deploy(stage: Stage, name: str, *, more: str = "") -> None:
    stage.write(name, web(new_version(), more=f'packages.hello = "1"; files."etc/motd.lab" = "hello\\n"; {more}'))
    assert stage.deploy(name).code == 0


def test_a_host_that_nobody_touched_has_no_drift_and_is_not_touched(stage: Stage) -> None:
    host = stage.host("debian")
    stage.toml({"debian": {}})
    found(stage, "debian", code=0)
    before = everything(host)
    seen = found(stage, "debian", code=0)
    assert (seen["findings"], seen["nixos"], seen["baseline"]) == ([], False, None)
    assert seen["verified"] == seen["store_paths"] > 0
    assert "no baseline" in seen["notes"][0]
    assert everything(host) == before


def test_ten_changes_are_ten_findings_and_deployments_are_none(stage: Stage) -> None:
    host = stage.host("debian")
    stage.toml({"debian": {}})
    deploy(stage, "debian")
    seen = found(stage, "debian", code=0)
    assert (seen["findings"], seen["notes"]) == ([], [])
    assert seen["baseline"] is not None
    secret = {"command": ["printf", "x"], "storage": "disk", "path": "/etc/lab-secret"}
    others = {
        "token": {"command": ["printf", "x"]},
        "app": {**secret, "path": "/opt/lab-app/conf/token"},
        "credential": {"command": ["printf", "x"], "path": "/run/systemd/system/web.service.d/token"},
    }
    stage.toml({"debian": {"secrets": {"kept": secret, **others}}})
    deploy(stage, "debian", more='services.more.http = { port = 8081; }; files."etc/more" = "x";')
    assert shell(host, "cat /etc/lab-secret") == "x"
    assert found(stage, "debian", code=0)["findings"] == []

    planted = plant(host, PLANTED)
    seen = found(stage, "debian", code=1)
    assert classes(seen) == planted
    assert all(one["cause"] and one["fix"] and one["path"] for one in seen["findings"])
    assert all(one["owner"] and one["at"] for one in seen["findings"] if one["class"] not in ("system", "reboot"))
    by_class = {one["id"]: one for one in seen["findings"]}
    assert running(host) in by_class["/nix/var/nix/profiles/system"]["message"]
    assert by_class["/home/deploy/.cargo/bin"]["owner"] == "deploy"
    assert "port 5555" in by_class["/etc/systemd/system/agent.service"]["message"]
    assert stage.fleet("drift", "debian").stdout.splitlines()[0].startswith("debian: 10 findings")

    accepted = found(stage, "debian", "--accept", code=1)
    fixed = {name: drift for name, drift in planted.items() if drift in ("system", "reboot", "store")}
    assert classes(accepted) == fixed
    assert len(accepted["accepted"]) == 7
    entry = stage.document("ledger", "show", "-n", "1")["entries"][-1]
    # All that is no drift any more: what came with one of the seven, too.
    assert (entry["kind"], entry["host"], entry["count"]) == ("drift_accepted", "debian", 12)
    assert classes(found(stage, "debian", code=1)) == fixed


def test_each_other_kind_is_found_and_what_is_ignored_is_not(stage: Stage) -> None:
    host = stage.host("debian")
    stage.toml({"debian": {}})
    deploy(stage, "debian")
    found(stage, "debian", "--accept", code=None)
    before = classes(found(stage, "debian"))
    planted = plant(host, MORE)
    seen = classes(found(stage, "debian", code=1))
    assert {name: drift for name, drift in seen.items() if name not in before} == planted
    stage.toml({"debian": {}}, ignore_drift=["/home/deploy/.*", "listener:*", "/usr/local/bin/*", *before])
    left = {name for name in planted if not name.startswith(("/home/deploy/.", "listener:", "/usr/local/bin/"))}
    assert set(classes(found(stage, "debian", code=1))) == left


def test_names_are_data_and_users_links_lead_root_nowhere(stage: Stage) -> None:
    host = stage.host("debian")
    stage.toml({"debian": {}})
    found(stage, "debian", "--accept", code=None)
    before = classes(found(stage, "debian"))
    shell(
        host,
        r"""
        mkdir -p /root/secret/bin /root/secret/keys && touch /root/secret/bin/hidden
        cp /var/tmp/key.pub /root/secret/keys/authorized_keys2
        su operator -s /bin/sh -c '
            mkdir -p ~/.deno/bin && cd ~/.deno/bin
            touch "$(printf "a\\nb\\033[31m")" "$(printf "x\\nin\\tentry\\ndone\\thomes\\nend\\n")" "$(printf "\\377")"
            ln -s /root/secret ~/.cargo; ln -s /root/secret/bin ~/bin
            ln -sf /root/secret/keys/authorized_keys2 ~/.ssh/authorized_keys2
            mkfifo ~/.deno/bin/fifo'
        touch "$(printf '/etc/a\nfile\tb')"
        """,
    )
    run = stage.fleet("drift", "debian")
    assert run.code == 1
    assert "\033" not in run.stdout
    assert "hidden" not in run.stdout
    seen = found(stage, "debian", code=1)
    names = {name: drift for name, drift in classes(seen).items() if name not in before}
    assert names == {"/home/operator/.deno/bin": "packages", "/etc/a\\nfile\\tb": "files"}
    assert seen["notes"] == []
    message = next(one["message"] for one in seen["findings"] if one["id"].endswith("/.deno/bin"))
    assert "a\\nb\\x1b[31m" in message
    shell(host, r"rm -rf ~operator/.deno ~operator/.cargo ~operator/bin ~operator/.ssh/authorized_keys2 /etc/a*file*")


def test_of_nixos_the_closure_declares_all_and_a_commit_accepts_nothing(stage: Stage) -> None:
    host = stage.host("nixos")
    stage.toml({"nixos": {}}, ignore_drift=["/etc/alternatives/*", "/etc/ssl/*"])
    deploy(stage, "nixos", more=NIXOS)
    # As activation of NixOS copies what has a mode.
    shell(host, "cp --remove-destination $(readlink -f /etc/copied) /etc/copied && rm /etc/copied.mode")
    seen = found(stage, "nixos", code=1)
    assert seen["nixos"]
    assert {"/etc/sudoers.d/lab", "/etc/os-release", "/etc/ssh/sshd_config.d/lab.conf"} < set(classes(seen))
    assert {"user:operator", "ssh_key:root:" + lab_key(host)} < set(classes(seen))
    assert not {"user:root", "user:deploy", "/etc/copied", "/etc/machine-id", "/etc/passwd"} & set(classes(seen))
    assert "/etc/motd.lab" not in classes(seen)
    assert not any(name.startswith("listener:tcp:8080") for name in classes(seen))

    assert found(stage, "nixos", "--accept", code=0)["findings"] == []
    assert found(stage, "nixos", code=0)["findings"] == []
    planted = plant(host, {**PLANTED, "/etc/copied": ("files", "echo more >>/etc/copied")})
    assert classes(found(stage, "nixos", code=1)) == planted


@pytest.mark.long
def test_baseline_outlives_a_power_cut_of_the_host(stage: Stage) -> None:
    host = stage.host("nixos")
    stage.toml({"nixos": {}})
    found(stage, "nixos", "--accept", code=None)
    before = classes(found(stage, "nixos"))
    host.power_off()
    host.power_on()
    after = classes(found(stage, "nixos"))
    assert set(after) - set(before) <= {"/run/booted-system"}


def test_nobody_is_told_to_have_become_root_who_has_not(stage: Stage) -> None:
    """Programs of users may be called sudo or sshd, and write to the journal what these write."""
    host = stage.host("debian")
    says = "runuser -u operator -- /tmp/lab/{} -t {} -- '{}'"
    forged = [
        says.format("sudo", "sudo", "ann : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/true"),
        says.format("sshd", "sshd[7]", "Accepted publickey for root from 10.9.8.7 port 1 ssh2"),
        "runuser -u operator -- sudo -n true || :",  # refused
    ]
    shell(
        host,
        "mkdir -p /tmp/lab; cp /usr/bin/logger /tmp/lab/sudo; cp /usr/bin/logger /tmp/lab/sshd; chmod -R a+rX /tmp/lab",
    )
    ask = f"journalctl --sync; {FUNCTIONS}\nset -fu; LC_ALL=C; actors | grep ^actor | cut -f 3-"
    shell(host, "; ".join(forged))
    assert not {"sudo\tann", "sudo\toperator", "ssh\t10.9.8.7"} & set(shell(host, ask).splitlines())
    shell(
        host, "echo 'operator ALL=(ALL) NOPASSWD: /usr/bin/id' >/etc/sudoers.d/operator; runuser -u operator -- sudo id"
    )
    shell(host, "rm -r /etc/sudoers.d/operator /tmp/lab")
    wait_until(lambda: shell(host, ask).splitlines().count("sudo\toperator") == 1, "what was so is told")
