"""The address of the database that keeps the state: taken apart once, without a password, safe beyond this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.errors import ConfigError
from fleet.inventory import parse
from fleet.inventory.databases import database
from fleet.model import DatabaseAddress

if TYPE_CHECKING:
    from pathlib import Path

FAR = "sslmode=verify-full"


@pytest.mark.parametrize(
    ("url", "hosts", "shown"),
    [
        ("postgresql://ann@127.0.0.1/fleet", (("127.0.0.1", None),), "postgresql://ann@127.0.0.1/fleet"),
        ("postgresql://localhost:5433/fleet", (("localhost", 5433),), "postgresql://localhost:5433/fleet"),
        ("postgresql://[::1]:5433/fleet", (("::1", 5433),), "postgresql://[::1]:5433/fleet"),
        ("postgresql:///fleet", (), "postgresql:///fleet"),
        ("postgresql:///fleet?host=/run/postgresql", (("/run/postgresql", None),), "postgresql:///fleet"),
        (f"postgresql://db.example.org/fleet?{FAR}", (("db.example.org", None),), "postgresql://db.example.org/fleet"),
        (f"postgresql://a:1,b/fleet?{FAR}", (("a", 1), ("b", None)), "postgresql://a:1,b/fleet"),
    ],
)
def test_address_is_taken_apart_and_shown_again(
    tmp_path: Path, url: str, hosts: tuple[tuple[str, int | None], ...], shown: str
) -> None:
    found = database(url, tmp_path)
    assert (found.hosts, found.database, str(found)) == (hosts, "fleet", shown)


def test_options_are_those_of_libpq_and_files_are_beside_fleet_toml(tmp_path: Path) -> None:
    url = (
        f"postgresql://a%40b@db/my%20fleet?{FAR}&sslrootcert=ca.pem&passfile=/etc/pass&target_session_attrs=read-write"
    )
    assert database(url, tmp_path) == DatabaseAddress(
        hosts=(("db", None),),
        database="my fleet",
        user="a@b",
        options={
            "sslmode": "verify-full", "sslrootcert": f"{tmp_path}/ca.pem", "passfile": "/etc/pass",
            "target_session_attrs": "read-write",
        },
    )  # fmt: skip
    assert database(f"postgresql://db/x?{FAR}&sslrootcert=system", tmp_path).options["sslrootcert"] == "system"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hunter2@db.example.org/fleet?sslmode=verify-full",
        "postgresql://ann:hunter2@127.0.0.1/fleet",
        "postgresql://:hunter2@127.0.0.1/fleet",
        "postgresql://ann:@127.0.0.1/fleet",
        "postgresql://127.0.0.1/fleet?password=hunter2",
        "postgresql://127.0.0.1/fleet?sslkey=/k&sslpassword=hunter2",
        "postgresql://ann:hunter2?x@127.0.0.1/fleet",
        "postgres://ann:hunter2@127.0.0.1/fleet",
        "mysql://ann:hunter2@127.0.0.1/fleet",
        "postgresql://ann%3Ahunter2@127.0.0.1/fle\\u0001et",
    ],
)
def test_password_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(tmp_path / "fleet.toml", f'[fleet]\nexpression = "x.nix"\nstate = "{url}"\n[hosts.a]\n')
    assert "fleet.toml: [fleet] state: " in caught.value.message
    assert "hunter2" not in str(caught.value.message) + caught.value.hint
    if "mysql" not in url and "%3A" not in url and "?x" not in url:
        assert "password file" in caught.value.message


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://db/fleet", "add sslmode=verify-full"),
        ("postgresql://db/fleet?sslmode=require", "add sslmode=verify-full"),
        ("postgresql://127.0.0.1,db/fleet", "db is another machine"),
        ("postgresql://10.0.0.1/fleet?sslmode=verify-ca", "10.0.0.1 is another machine"),
        ("postgresql://localhost.example.org/fleet", "is another machine"),
        ("postgresql://[::ffff:10.0.0.1]/fleet", "is another machine"),
        ("postgresql://127.0.0.1/fleet?host=db", "for the folder of a Unix socket"),
        ("postgresql:///fleet?host=db", "for the folder of a Unix socket"),
        ("postgresql:///fleet?hostaddr=10.0.0.1", "unknown parameter hostaddr"),
        ("postgresql:///fleet?service=x", "unknown parameter service"),
        ("postgresql:///fleet?options=-cx=y", "unknown parameter options"),
        ("postgresql:///fleet?ssl_mode=require", "did you mean sslmode"),
        ("postgresql:///fleet?sslmode=strict", "sslmode is one of"),
        ("postgresql:///fleet?sslmode=require&sslmode=disable", "stands there twice"),
        ("postgresql:///fleet?sslmode", "has no value"),
        ("postgresql://localhost/fle%et", "not followed by two digits"),
        ("postgresql://localhost/fle%00et", "not printable"),
        ("postgresql://localhost/fle%ffet", "not printable"),
        ("postgresql://localhost/", "expected a URL"),
        ("postgresql://localhost", "expected a URL"),
        ("sqlite:///x", "expected a URL"),
        ("postgresql://a b/fleet", "expected"),
        ("postgresql://localhost/fleet#x", "expected a URL"),
        (7, "expected a URL"),
    ],
)
def test_address_that_cannot_be_used_is_refused_with_a_reason(tmp_path: Path, url: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        database(url, tmp_path)
