"""fleet.toml: what it means, and what people are told about a wrong one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import ConfigError
from fleet.inventory import BuildOn, Check, Inventory, Kind, LinkSpeed, Offline, Sudo, load, parse
from fleet.inventory.amounts import rate, seconds
from fleet.inventory.edit import set_host_keys
from fleet.inventory.origins import attribute, flake
from fleet.inventory.schema import Host
from fleet.inventory.values import addresses, host_key
from fleet.model import HostName

DATA = Path(__file__).parent.parent / "data" / "inventory"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEdy1O4RrRfvmFzGMLzwmP1bs5JEaGBSjPw3YFTCXq7V"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q"


def inventory(text: str, path: Path = Path("/etc/home/fleet.toml")) -> Inventory:
    return parse(path, text)


def host(text: str = "", *, before: str = "") -> Host:
    return inventory(f"{before}\n[hosts.web]\n{text}").hosts[HostName("web")]


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(Path("fleet.toml"), text)
    return [line.removeprefix("fleet.toml: ") for line in caught.value.message.splitlines()]


@pytest.mark.parametrize("file", sorted(DATA.glob("*.toml")), ids=lambda file: file.stem)
def test_every_problem_of_a_broken_file_is_told_with_its_table_and_key(file: Path) -> None:
    expected = [line[10:] for line in file.read_text().splitlines() if line.startswith("# expect: ")]
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.message.splitlines() == [f"{file}: {problem}" for problem in expected]


def test_unknown_key_names_the_nearest_right_one() -> None:
    assert problems('[hosts.gpu-01]\nconfrim_timeout = "9s"') == [
        "[hosts.gpu-01] confrim_timeout: unknown key; did you mean confirm_timeout?"
    ]


def test_a_host_without_keys_has_the_documented_defaults() -> None:
    assert host() == Host.model_construct(
        name=HostName("web"),
        kind=Kind.SERVER,
        address=("web",),
        port=None,
        user=None,
        jump=None,
        sudo=Sudo.NONE,
        system="x86_64-linux",
        attr=("nixosConfigurations", "web", "config", "system", "build", "toplevel"),
        tags=(),
        host_key=None,
        identity_file=None,
        build_on=BuildOn.CONTROLLER,
        substitute=True,
        offline=Offline.FAIL,
        link=LinkSpeed.FAST,
        settle=5.0,
        confirm_timeout=60.0,
        activation_timeout=600.0,
        ignore_units=(),
        ignore_snippets=(),
        checks=(),
    )


def test_hosts_keep_the_order_of_the_file() -> None:
    assert list(inventory("[hosts.b]\n[hosts.a]\n[hosts.c]").hosts) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("text", "before", "offline"),
    [
        ("", "", Offline.FAIL),
        ('kind = "laptop"', "", Offline.DEFER),
        ('kind = "laptop"', '[defaults]\noffline = "fail"', Offline.FAIL),
        ('kind = "laptop"\noffline = "defer"', '[defaults]\noffline = "fail"', Offline.DEFER),
        ("", '[defaults]\nkind = "laptop"', Offline.DEFER),
        ('kind = "server"', '[defaults]\nkind = "laptop"', Offline.FAIL),
    ],
)
def test_a_key_of_the_host_wins_over_defaults_over_the_preset(text: str, before: str, offline: Offline) -> None:
    assert host(text, before=before).offline is offline


def test_a_pi_is_behind_a_slow_link() -> None:
    assert host('kind = "pi"').link is LinkSpeed.SLOW


@pytest.mark.parametrize(
    ("text", "sudo"),
    [("false", Sudo.NONE), ("true", Sudo.PASSWORDLESS), ('"password"', Sudo.PASSWORD)],
)
def test_sudo_is_one_of_three(text: str, sudo: Sudo) -> None:
    assert host(f"sudo = {text}").sudo is sudo


@pytest.mark.parametrize("wrong", ["0", "1", '"true"', "0.0"])
def test_a_number_is_no_answer_about_sudo(wrong: str) -> None:
    assert problems(f"[hosts.web]\nsudo = {wrong}") == [
        f'[hosts.web] sudo: found {wrong}, expected false, true or "password"'
    ]


def test_the_file_of_an_identity_is_relative_to_the_inventory() -> None:
    assert host('identity_file = "keys/id"').identity_file == Path("/etc/home/keys/id")
    assert host('identity_file = "~/id"').identity_file == Path.home() / "id"


def test_a_default_jump_does_not_send_the_bastion_through_itself() -> None:
    hosts = inventory('[defaults]\njump = "bastion"\n[hosts.bastion]\n[hosts.web]').hosts
    assert [each.jump for each in hosts.values()] == [None, "bastion"]


def test_an_empty_jump_undoes_the_default() -> None:
    assert host('jump = ""', before='[defaults]\njump = "me@out:22"').jump is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".", "/etc/home"),
        ("./nix", "/etc/home/nix"),
        ("../other?dir=x", "/etc/other?dir=x"),
        ("/srv/flake", "/srv/flake"),
        ("path:.", "path:/etc/home"),
        ("path:/srv/flake?dir=x", "path:/srv/flake?dir=x"),
        ("github:owner/repo", "github:owner/repo"),
        ("git+https://host/repo?ref=main", "git+https://host/repo?ref=main"),
    ],
)
def test_a_flake_means_the_same_from_every_folder(text: str, expected: str) -> None:
    assert flake(text, Path("/etc/home")) == expected


def test_a_folder_that_nix_cannot_name_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot read '#'"):
        flake(".", Path("/etc/a#b"))


def test_the_fleet_is_called_like_its_folder_unless_it_says_otherwise() -> None:
    assert inventory("[hosts.web]").name == "home"
    assert inventory('[fleet]\nname = "prod"\n[hosts.web]').name == "prod"
    with pytest.raises(ConfigError, match="name: is missing, and the folder's name"):
        inventory("[hosts.web]", Path("/etc/my home/fleet.toml"))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a",)),
        ("nixosConfigurations.web-1.config", ("nixosConfigurations", "web-1", "config")),
        ('hosts."web.lan".x', ("hosts", "web.lan", "x")),
        (r'a."q\"uote"', ("a", 'q"uote')),
    ],
)
def test_an_attribute_path_is_split_outside_of_quotes(text: str, parts: tuple[str, ...]) -> None:
    assert attribute(text, "web") == parts


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", 'a."b', "a b", "a;b", "a.$(x)"])
def test_half_an_attribute_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected an attribute path"):
        attribute(text, "web")


@pytest.mark.parametrize("text", ["10.0.0.1", "fe80::1%eth0", "::1", "web.lan", "web.lan.", "_x", "xn--bcher-kva.de"])
def test_names_and_both_kinds_of_ip_are_addresses(text: str) -> None:
    assert addresses(text) == (text,)


@pytest.mark.parametrize("text", ["", " ", "a b", "$(x)", "a;b", "fe80::1%a;b", "a/b", "a\n", "-a", "bücher.de"])
def test_what_a_shell_could_misread_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        addresses(text)


def test_a_whole_host_key_is_accepted_with_its_comment() -> None:
    assert host_key(f"{KEY} root@web") == f"{KEY} root@web"


@pytest.mark.parametrize("wrong", [KEY[:-4], KEY.replace("ssh-ed25519", "ssh-rsa"), KEY + "\nx", "ssh-ed25519 ????"])
def test_half_a_host_key_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        host_key(wrong)


def test_durations_have_units() -> None:
    assert [seconds(text) for text in ("500ms", "5s", "10m", "1h30m", "1.5s", "1m1s500ms")] == [
        0.5,
        5,
        600,
        5400,
        1.5,
        61.5,
    ]


@settings(max_examples=50)
@given(hours=st.integers(0, 99), minutes=st.integers(0, 99), whole=st.integers(0, 999))
def test_the_parts_of_a_duration_add_up(hours: int, minutes: int, whole: int) -> None:
    assert seconds(f"{hours}h{minutes}m{whole}s") == hours * 3600 + minutes * 60 + whole


@settings(max_examples=50)
@given(st.text("0123456789.hms ", max_size=6))
def test_any_other_text_is_no_duration_but_never_a_crash(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= seconds(text) <= 720 * 3600


def test_rates_have_units() -> None:
    texts = ("2MB/s", "500kB/s", "1.5MiB/s", "10Mbit/s", "1 Gbit/s", "1000B/s")
    assert [rate(text) for text in texts] == [2e6, 5e5, 1.5 * (1 << 20), 1.25e6, 1.25e8, 1e3]


@pytest.mark.parametrize(
    "wrong", ["2MB", "10mbit", "2Mb/s", "2 MB / s", "-1MB/s", "MB/s", "1e3B/s", "", 2_000_000, True]
)
def test_rate_without_a_clear_unit_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected a rate such as"):
        rate(wrong)


def test_rate_at_which_nothing_would_arrive_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1kB/s"):
        rate("0MB/s")


def checks(text: str) -> tuple[Check, ...]:
    return host(before="", text=f"checks = [{text}]").checks


def test_a_check_has_the_documented_defaults() -> None:
    (check,) = checks('{ http = "http://127.0.0.1:8000/health" }')
    assert (check.kind, check.name, check.from_) == ("http", "http://127.0.0.1:8000/health", "host")
    assert (check.within, check.interval, check.timeout) == (60, 1, 5)
    assert (check.method, check.status, check.body, check.headers) == ("GET", (200,), None, {})
    assert (check.verify_tls, check.tolerate_existing) == (True, False)


def test_a_check_is_called_after_what_it_asks() -> None:
    found = checks('{ tcp = "[::1]:22" }, { unit = "nginx.service" }, { command = "test -e\\n /x" }')
    assert [check.name for check in found] == ["tcp [::1]:22", "unit nginx.service", "command test -e /x"]


@pytest.mark.parametrize(
    "check",
    [
        "{ http = 'http://' }",
        "{ http = 'http://:80/' }",
        "{ http = 'http://x:0/' }",
        "{ http = 'http://x:99999/' }",
        "{ http = 'http://x/#top' }",
        "{ http = 'http://x/a b' }",
        "{ http = 'http://a_b;c/' }",
        "{ http = 'http://x/', headers = { 'a b' = '1' } }",
        "{ http = 'http://x/', headers = 'a' }",
        "{ tcp = '::1:80' }",
        "{ tcp = '[x]:80' }",
        "{ tcp = 'x:0' }",
        "{ unit = '--all' }",
        "{ unit = 'a b' }",
        "{ command = ' ' }",
        "{ command = 1 }",
        "{ unit = 'a', name = '' }",
        "{ unit = 'a', within = '0s' }",
    ],
)
def test_a_check_that_cannot_be_asked_is_refused(check: str) -> None:
    (problem,) = problems(f"[hosts.web]\nchecks = [{check}]")
    assert problem.startswith("[[hosts.web.checks]] 1")


def test_several_statuses_can_be_fine() -> None:
    assert checks('{ http = "http://x/", status = [200, 204] }')[0].status == (200, 204)


def test_checks_of_a_host_replace_those_of_defaults() -> None:
    defaults = '[defaults]\nchecks = [{ unit = "a.service" }]'
    assert [check.unit for check in host(before=defaults).checks] == ["a.service"]
    assert host("checks = []", before=defaults).checks == ()


def test_an_absent_file_points_to_fleet_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file") as caught:
        load(tmp_path / "fleet.toml")
    assert caught.value.hint == "fleet init writes one"


def test_a_folder_is_told_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load(tmp_path)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fleet.toml")
    with pytest.raises(ConfigError, match="is no regular file"):
        load(tmp_path / "fleet.toml")


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(" \n")
    with pytest.raises(ConfigError, match="is empty"):
        load(tmp_path / "fleet.toml")


def test_a_byte_that_is_not_utf8_is_found(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_bytes(b"[hosts.w]\n# \xff")
    with pytest.raises(ConfigError, match="not UTF-8: the byte at offset 12 is 0xff"):
        load(tmp_path / "fleet.toml")


def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    assert all(line.isprintable() for line in problems('[hosts.web]\n"\\u001b[31mred\\n" = 1\nuser = "\\u009b31m"'))


def test_deeply_nested_toml_is_an_error_and_not_a_crash() -> None:
    assert problems("x = " + "[" * 5000)[0].startswith("is not TOML: ")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[hosts.web]\n", "[hosts.web]\nLINE\n"),
        ("[hosts.web]", "[hosts.web]\nLINE\n"),
        (
            "# a\n[ hosts . 'web' ] # b\nport = 1 # c\n\n[hosts.db]\n",
            "# a\n[ hosts . 'web' ] # b\nLINE\nport = 1 # c\n\n[hosts.db]\n",
        ),
        (f'[hosts.web]\nhost_key   = "{OTHER_KEY}" # old\n', f'[hosts.web]\nhost_key   = "{KEY}" # old\n'),
        ("[hosts.web]\r\nport = 1\r\n", "[hosts.web]\r\nLINE\r\nport = 1\r\n"),
        (
            f'[defaults]\nhost_key = "{OTHER_KEY}"\n[hosts.web]\n',
            f'[defaults]\nhost_key = "{OTHER_KEY}"\n[hosts.web]\nLINE\n',
        ),
        (
            "[[hosts.web.checks]]\ncommand = '''\n[hosts.web]\nhost_key = \"x\"\n'''\n",
            "[[hosts.web.checks]]\ncommand = '''\n[hosts.web]\nhost_key = \"x\"\n'''\n\n[hosts.web]\nLINE\n",
        ),
    ],
)
def test_writing_a_host_key_changes_nothing_else(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_bytes(before.encode())
    file.chmod(0o640)
    set_host_keys(file, {HostName("web"): KEY})
    assert file.read_bytes().decode() == after.replace("LINE", f'host_key = "{KEY}"')
    assert file.stat().st_mode & 0o777 == 0o640
    assert load(file).hosts[HostName("web")].host_key == KEY
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("text", ["hosts.web = {}\n", "[hosts]\nweb = { port = 1 }\n", "[hosts]\nweb.port = 1\n"])
def test_a_table_that_cannot_take_a_line_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="cannot write host_key") as caught:
        set_host_keys(file, {HostName("web"): KEY})
    assert caught.value.hint == f'add it by hand: host_key = "{KEY}"'
    assert file.read_text() == text


def test_two_keys_written_at_once_are_both_kept(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text("[hosts.web]\n[hosts.db]\n")
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    writer = threading.Thread(target=set_host_keys, args=(file, {HostName("web"): KEY}))
    writer.start()
    writer.join(0.05)
    file.write_text(f'[hosts.web]\n[hosts.db]\nhost_key = "{OTHER_KEY}"\n')
    os.close(folder)
    writer.join()
    assert [host.host_key for host in load(file).hosts.values()] == [KEY, OTHER_KEY]


def test_all_keys_are_written_or_none(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text("[hosts.web]  # ours\n[hosts.db]\nport = 22\n")
    set_host_keys(file, {HostName("web"): KEY, HostName("db"): OTHER_KEY})
    written = f'[hosts.web]  # ours\nhost_key = "{KEY}"\n[hosts.db]\nhost_key = "{OTHER_KEY}"\nport = 22\n'
    assert file.read_text() == written
    with pytest.raises(ConfigError, match=r"no \[hosts.gone\]"):
        set_host_keys(file, {HostName("web"): OTHER_KEY, HostName("gone"): KEY})
    assert file.read_text() == written


def test_a_host_key_is_written_through_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "fleet.toml"
    real.write_text("[hosts.web]\n")
    link.symlink_to(real)
    set_host_keys(link, {HostName("web"): KEY})
    assert link.is_symlink()
    assert KEY in real.read_text()


def test_nothing_but_a_host_key_is_written(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text("[hosts.web]\n")
    with pytest.raises(ConfigError, match="host_key: found"):
        set_host_keys(file, {HostName("web"): 'x"\nsudo = true #'})
    with pytest.raises(ConfigError, match=r"there is no \[hosts.db\]"):
        set_host_keys(file, {HostName("db"): KEY})
    assert file.read_text() == "[hosts.web]\n"
