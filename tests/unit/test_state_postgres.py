"""What only PostgreSQL brings with it: how it is reached, other machines, and a connection that may break anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from fleet.errors import ConfigError, StateError
from fleet.inventory.databases import database
from fleet.ledger import Kind
from fleet.ledger.chain import read_chain
from fleet.model import HostName, Outcome, RunId, Verb
from fleet.state import Asked, Entered, State, clock, leases
from fleet.state import open_state as open_at
from fleet.state import postgres as module
from fleet.state.postgres import PostgresDatabase
from tests.postgres import PASSWORD, Server, certificate
from tests.unit.ledgers import entry
from tests.unit.state_builders import (
    RUN,
    SWITCH,
    WEB,
    ended,
    finished,
    folder_of_today,
    open_state,
    python,
    record,
    recorded,
    result,
    run_id,
    said,
    started,
    wrapped,
)
from tests.unit.test_state_folders import HOLD
from tests.unit.test_state_store import delivery
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.usefixtures("kept"), pytest.mark.parametrize("kept", ["postgresql"], indirect=True)]
APPROVAL = entry(Kind.APPROVAL, plan="a" * 64)


def at(url: str, folder: Path) -> State:
    return open_at(folder, database(url, folder))


def schema_of(folder: Path) -> str:
    return f"fleet_{folder.name}"


# How it is reached


def password_file(folder: Path, server: Server, mode: int = 0o600) -> Path:
    file = folder / "passwords"
    file.write_text(f"*:{server.port}:fleet:guarded:{PASSWORD.replace(':', chr(92) + ':')}\n")
    file.chmod(mode)
    return file


def guarded(server: Server, file: Path) -> str:
    return f"{server.url_of(user='guarded')}?passfile={file}"


def test_password_is_read_from_a_file(tmp_path: Path, postgres: Server) -> None:
    state = at(guarded(postgres, password_file(tmp_path, postgres)), tmp_path)
    recorded(state, started())
    assert [run.id for run in state.runs()] == [RUN]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_password_file_that_others_can_read_is_refused_before_anything_is_sent(
    tmp_path: Path, postgres: Server, mode: int
) -> None:
    file = password_file(tmp_path, postgres, mode)
    with pytest.raises(StateError, match="others can read the passwords") as caught:
        at(guarded(postgres, file), tmp_path).runs()
    assert (str(file) in caught.value.message, "chmod 600" in caught.value.hint) == (True, True)


def test_password_file_of_somebody_else_is_refused(tmp_path: Path, postgres: Server) -> None:
    file = password_file(tmp_path, postgres)
    try:
        os.chown(file, 12345, -1)
    except PermissionError:
        pytest.skip("only root can give files away")
    with pytest.raises(StateError, match="others can read the passwords"):
        at(guarded(postgres, file), tmp_path).runs()


def test_usual_password_file_is_looked_at_too(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(password_file(tmp_path, postgres, 0o644)))
    with pytest.raises(StateError, match="others can read the passwords"):
        at(postgres.url, tmp_path).runs()


def test_password_that_is_wrong_or_missing_is_said_with_the_file(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    with pytest.raises(StateError, match="no such password file"):
        at(guarded(postgres, tmp_path / "missing"), tmp_path).runs()
    file = tmp_path / "wrong"
    file.write_text("*:*:*:*:wrong\n")
    file.chmod(0o600)
    for own, text in ((file, "password authentication failed"), (tmp_path / "empty", "no password supplied")):
        if not own.exists():
            own.touch(0o600)
        with pytest.raises(StateError, match=text) as caught:
            at(guarded(postgres, own), tmp_path).runs()
        assert "HOST:PORT:DATABASE:USER:PASSWORD" in caught.value.hint
        assert "wrong" not in caught.value.message.replace(str(file), "")


def test_variables_of_other_programs_lead_nobody_elsewhere(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        for name, value in {"PGHOSTADDR": "127.0.0.9", "PGHOST": "127.0.0.9", "PGPORT": "1", "PGDATABASE": "x"}.items():
            patch.setenv(name, value)
        assert at(postgres.url, tmp_path).runs() == []
        assert at(f"postgresql://fleet@localhost:{postgres.port}/fleet", tmp_path).runs() == []
        with pytest.raises(StateError, match="socket"):
            at("postgresql:///fleet", tmp_path).runs()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path, Path]]:
    """A server with a certificate for this machine's name, that certificate, and one of somebody else."""
    folder = tmp_path_factory.mktemp("tls")
    own, other = (certificate(folder / name, socket.gethostname()) for name in ("own", "other"))
    with Server("ssl=on", certificate=own) as server:
        yield server, own / "cert.pem", other / "cert.pem"


def test_server_beyond_this_machine_must_have_the_right_certificate(
    tmp_path: Path, tls: tuple[Server, Path, Path]
) -> None:
    server, own, other = tls
    far = f"postgresql://fleet@{socket.gethostname()}:{server.port}/fleet?sslmode=verify-full&sslrootcert="
    recorded(at(f"{far}{own}", tmp_path), started())
    assert at(f"{far}{own}", tmp_path).runs()[0].id == RUN
    with pytest.raises(StateError, match="certificate verify failed"):
        at(f"{far}{other}", tmp_path).runs()


def test_server_without_tls_is_not_spoken_to_beyond_this_machine(
    tmp_path: Path, postgres: Server, tls: tuple[Server, Path, Path]
) -> None:
    far = f"postgresql://fleet@{socket.gethostname()}:{postgres.port}/fleet?sslmode=verify-full&sslrootcert={tls[1]}"
    with pytest.raises(StateError, match="does not support SSL"):
        at(far, tmp_path).runs()


# What it is and is not


def test_database_in_another_encoding_is_refused(tmp_path: Path, postgres: Server) -> None:
    postgres.run("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0 OWNER fleet")
    try:
        with pytest.raises(StateError, match="its encoding is LATIN1"):
            at(postgres.url_of("latin"), tmp_path).runs()
    finally:
        postgres.run("DROP DATABASE latin")


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DELETE FROM {}.meta", "of which version"),
        ("UPDATE {}.meta SET value = '99' WHERE \"key\" = 'version'", r"a newer fleet has made it \(version 99"),
        ("DROP TABLE {}.meta", "none of them is fleet's"),
    ],
)
def test_database_that_cannot_be_used_is_named_with_a_reason(
    tmp_path: Path, postgres: Server, statement: str, why: str
) -> None:
    recorded(open_state(tmp_path), started())
    postgres.run(statement.replace("{}", f'"{schema_of(tmp_path)}"'))
    for use in (lambda: open_state(tmp_path).runs(), lambda: open_state(tmp_path).keep_plan("1f", "x", expires=2e9)):
        with pytest.raises(StateError, match=why) as caught:
            use()
        assert postgres.url in caught.value.message


def test_user_who_may_make_no_schema_can_be_given_one(tmp_path: Path, postgres: Server) -> None:
    postgres.run("CREATE ROLE lowly LOGIN")
    postgres.run("GRANT lowly TO fleet")
    name = schema_of(tmp_path)
    lowly = postgres.url_of(user="lowly")
    try:
        with pytest.raises(StateError, match="permission denied") as caught:
            at(lowly, tmp_path).runs()
        assert "docs/state.md" in caught.value.hint
        postgres.run(f'CREATE SCHEMA "{name}" AUTHORIZATION lowly')
        recorded(at(lowly, tmp_path), started())
    finally:
        postgres.run(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')
        postgres.run("DROP ROLE lowly")


def test_fleets_share_a_database_and_see_nothing_of_each_other(tmp_path: Path) -> None:
    names = ["home", "work", "x" * 200, "x" * 201]
    for number, name in enumerate(names):
        recorded(open_state(tmp_path / name), started(run=run_id(number)), run=run_id(number))
    assert [[run.id for run in open_state(tmp_path / name).runs()] for name in names] == [
        [run_id(number)] for number in range(len(names))
    ]


def test_order_is_that_of_bytes_whatever_the_language_of_the_database(tmp_path: Path, postgres: Server) -> None:
    postgres.run(
        "CREATE DATABASE english ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'"
        " TEMPLATE template0 OWNER fleet"
    )
    state, hosts = at(postgres.url_of("english"), tmp_path), [HostName(name) for name in ("B-1", "a-1", "A-1", "b-1")]
    try:
        state.want([delivery(host, "r1") for host in hosts])
        assert [one.host for one in state.deliveries()] == sorted(hosts)
        state.no_longer_want(hosts, before=RunId("R2"))  # which comes before r1
        assert len(state.deliveries()) == len(hosts)
    finally:
        del state
        postgres.run("DROP DATABASE english WITH (FORCE)")


def test_what_is_told_is_on_the_disk_though_the_server_would_rather_wait(tmp_path: Path, postgres: Server) -> None:
    postgres.run("ALTER ROLE fleet SET synchronous_commit = off")
    try:
        with PostgresDatabase(database(postgres.url, tmp_path), tmp_path.name).writing() as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        postgres.run("ALTER ROLE fleet RESET synchronous_commit")


def test_zero_byte_is_no_reason_to_lose_what_was_told(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state.ask(RUN, Asked.PAUSE, by="ann\0")
    found = state.asked(RUN)
    assert found is not None
    assert found.by == "ann\ufffd"


# A connection that breaks


def test_server_that_was_started_again_is_found_by_the_next_question(tmp_path: Path, postgres: Server) -> None:
    state = open_state(tmp_path)
    recorded(state, started())
    postgres.stop()
    try:
        with pytest.raises(StateError, match="Connection refused") as caught:
            state.runs()
    finally:
        postgres.start()
    assert "ends by itself" in caught.value.hint
    assert [run.id for run in state.runs()] == [RUN]
    state.ledger.enter(APPROVAL)
    postgres.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'fleet'")
    state.ledger.enter(APPROVAL)
    assert len(state.ledger.read().lines) == 3


async def test_write_whose_answer_is_lost_is_not_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, execute, lost = open_state(tmp_path), module._Connection.execute, list[str]()

    def lose_the_answer(connection: Any, statement: Any, *rest: Any) -> object:
        answer = execute(connection, statement, *rest)
        if statement == "COMMIT" and len(lost) < 4:
            lost.append("COMMIT")
            raise psycopg.OperationalError("the connection is lost")
        return answer

    entered = Entered("desk", Verb.DEPLOY)
    entered.begin({WEB})
    told = [started(), SWITCH, ended(Outcome.KEPT), finished(result(Outcome.KEPT))]
    state.ledger.enter(entry(Kind.BEGIN, run=RUN, hosts=(WEB,)))
    with state.hold(RUN), state.recorder(RUN, entered=entered) as recorder:
        monkeypatch.setattr(module._Connection, "execute", lose_the_answer)
        for envelope in wrapped(*told):
            recorder.record(envelope)
            await recorder.flush()
    assert len(lost) == 4
    assert state.events(RUN) == wrapped(*told)
    chain = read_chain(state.ledger.read().lines)
    assert (len(chain.hashes), chain.wrong, chain.begun) == (4, None, {})


def test_transaction_in_which_something_failed_is_not_taken_for_one_that_was_done(
    tmp_path: Path, postgres: Server
) -> None:
    def write() -> None:
        with PostgresDatabase(database(postgres.url, tmp_path), tmp_path.name).writing() as connection:
            connection.execute("INSERT INTO meta VALUES ('a', 'b')")
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT 1/0")

    with pytest.raises(StateError, match="takes back all of it"):
        write()


STOP_AMID = """
import os, signal, sys; from pathlib import Path
from fleet.state import postgres
from fleet.inventory.databases import database
from tests.unit.state_builders import address
postgres.IDLE = 1
with postgres.PostgresDatabase(address(), sys.argv[1]).writing():
    print("writing", flush=True)
    sys.stdin.readline()
print("written", flush=True)
"""


def test_machine_that_sleeps_amid_a_write_keeps_nobody_waiting_for_long(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    with python(STOP_AMID, tmp_path.name) as other:
        assert said(other) == "writing"
        other.send_signal(signal.SIGSTOP)
        state.ledger.enter(APPROVAL)
        other.send_signal(signal.SIGCONT)
        assert other.stdin is not None
        other.stdin.write("\n")
        other.stdin.flush()
        assert said(other) == ""  # it was told, and has written nothing
    assert len(state.ledger.read().lines) == 2


def test_lock_that_is_not_let_go_is_said_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 1)
    monkeypatch.setattr(module, "IDLE", 60)
    with python(STOP_AMID.replace("IDLE = 1", "IDLE = 60"), tmp_path.name) as other:
        assert said(other) == "writing"
        with pytest.raises(StateError, match="another process has kept it locked for 1 seconds"):
            open_state(tmp_path).ledger.enter(APPROVAL)


# Other machines


def machines(tmp_path: Path) -> tuple[State, State]:
    """The same fleet on two machines."""
    return open_state(tmp_path / "here" / "home"), open_state(tmp_path / "there" / "home")


def test_every_machine_sees_what_any_has_done(tmp_path: Path) -> None:
    here, there = machines(tmp_path)
    recorded(here, started(), SWITCH, plan="1f3c")
    here.keep_plan("1f3c", "text", expires=2e9)
    assert (there.runs(), there.plan("1f"), there.events(RUN)) == (here.runs(), "text", wrapped(started(), SWITCH))
    there.ask(RUN, Asked.ABORT, by="bob")
    request = here.asked(RUN)
    assert request is not None
    assert request.by == "bob"
    heads = [state.ledger.enter(APPROVAL) for state in (here, there)]
    assert [head.size for head in heads] == [2, 3]


def test_run_of_another_machine_is_under_way_until_that_lets_it_go(tmp_path: Path) -> None:
    here, there = machines(tmp_path)
    with here.hold(RUN):
        assert there.is_under_way(RUN)
        assert there.under_way([run_id(1), RUN]) == {RUN}
        with pytest.raises(ConfigError, match=f"still under way on {socket.gethostname()}"), there.hold(RUN):
            pass
    assert not there.is_under_way(RUN)
    with there.hold(RUN):
        assert here.is_under_way(RUN)


def test_run_of_a_process_that_died_is_free_at_once_on_its_machine_and_soon_on_others(
    tmp_path: Path, postgres: Server
) -> None:
    here, there = machines(tmp_path)
    with python(HOLD, tmp_path / "there" / "home", RUN) as other:
        assert said(other) == "held"
        assert here.is_under_way(RUN)
        other.kill()
        other.wait()
    assert not there.is_under_way(RUN)
    assert here.is_under_way(RUN)  # nobody can know yet
    with pytest.raises(ConfigError, match="still under way"), here.hold(RUN):
        pass
    with there.hold(RUN):
        pass
    with here.hold(RUN):
        pass
    postgres.run("UPDATE fleet_home.leases SET ends = 0")


def test_lease_is_over_by_the_clock_of_the_database(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = machines(tmp_path)
    monkeypatch.setattr(clock, "LIVES", clock.LIVES.replace(clock.BACK, "0"))
    with python(HOLD, tmp_path / "there" / "home", RUN) as other:
        assert said(other) == "held"
        other.kill()
        other.wait()
    assert here.is_under_way(RUN)
    (left,) = postgres.run("SELECT ends - extract(epoch FROM clock_timestamp()) FROM fleet_home.leases")
    assert 0 < left[0] <= clock.LASTS
    postgres.run("UPDATE fleet_home.leases SET ends = ends - %(lasts)s", lasts=clock.LASTS)
    assert not here.is_under_way(RUN)
    with here.hold(RUN):
        assert there.is_under_way(RUN)


def test_lease_that_nobody_could_renew_while_the_database_was_away_lives(tmp_path: Path, postgres: Server) -> None:
    here, there = machines(tmp_path)
    with here.hold(RUN):
        assert there.is_under_way(RUN)
        postgres.run("UPDATE fleet_home.leases SET ends = 0")  # as after an hour
        postgres.stop()
        postgres.start()
        assert there.is_under_way(RUN)


def test_lease_is_renewed(tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEWED", 0.1)
    here, _ = machines(tmp_path)
    with here.hold(RUN):
        (first,) = postgres.run("SELECT ends FROM fleet_home.leases")
        while postgres.run("SELECT ends FROM fleet_home.leases") <= [first]:
            pass


def test_run_that_another_machine_holds_is_not_tidied_away(tmp_path: Path) -> None:
    here, there = machines(tmp_path)
    runs = [run_id(number) for number in range(23)]
    for run in runs:
        recorded(here, started(run=run), finished(run=run), run=run)
    with here.hold(runs[0]):
        assert there.tidy().runs == (runs[2], runs[1])
    assert there.tidy().runs == (runs[0],)


def test_run_that_another_machine_has_tidied_away_does_not_come_back(tmp_path: Path) -> None:
    here, there = machines(tmp_path)
    runs = [run_id(number) for number in range(22)]
    for run in runs:
        told = wrapped(started(run=run), finished(run=run), run=run)
        folder_of_today(here, *told)
        recorded(here, started(run=run), finished(run=run), run=run)
    assert there.tidy().runs == (runs[1], runs[0])
    assert [run.id for run in here.runs()] == runs[:1:-1]
    assert here.run(runs[0]) is None
    here.tidy()
    assert not here.folder(runs[0]).exists()


def test_roots_go_of_what_another_machine_has_forgotten_a_day_later(tmp_path: Path) -> None:
    here, there = machines(tmp_path)
    here.keep_plan("1a", "text", expires=1.0)
    here.keep_plan("2b", "text", expires=2e9)
    here.want([delivery(WEB, "r1", expires=1.0), delivery(HostName("db-1"), "r1")])
    roots = [here.delivery_root(host) for host in (WEB, HostName("db-1"))]
    for folder in (here.plan_folder("1a"), here.plan_folder("2b"), here.plan_folder("3c"), roots[0].parent):
        folder.mkdir(parents=True)
    for root in roots:
        root.symlink_to("/nix/store/x-1")
    there.tidy()
    here.tidy()
    assert here.plan_folder("1a").exists()
    for path in (here.plan_folder("1a"), here.plan_folder("2b"), *roots):
        os.utime(path, (1.0, 1.0), follow_symlinks=False)
    here.tidy()
    left = sorted(path.name for root in (roots[0].parent, here.plan_folder("x").parent) for path in root.iterdir())
    assert left == ["2b", "3c", "db-1"]


async def test_controller_whose_run_another_one_goes_on_with_writes_nothing_more(tmp_path: Path) -> None:
    here, there = machines(tmp_path)
    with here.recorder(RUN) as slept:
        for envelope in wrapped(started(), SWITCH):
            slept.record(envelope)
        await slept.flush()
        await record(there, started(verb="resume"), ended(Outcome.KEPT), after=2)
        slept.record(*wrapped(ended(Outcome.ROLLED_BACK, "unhealthy"), after=2))
        with pytest.raises(StateError, match="another process goes on with run"):
            await asyncio.wait_for(slept.flush(), timeout=20)  # at once: nothing will make it better
    assert [envelope.event for envelope in there.events(RUN)][2:] == [started(verb="resume"), ended(Outcome.KEPT)]


# Words that were kept for later


KILLED = """
import asyncio, os, signal, sys; from pathlib import Path
from fleet.events import encode
from fleet.model import Outcome, Verb
from fleet.state import Entered
from tests.unit.state_builders import *

async def main(folder):
    state, told = open_state(folder), wrapped(started(), SWITCH, ended(Outcome.KEPT), finished(result(Outcome.KEPT)))
    entered = Entered("desk", Verb.DEPLOY)
    entered.begin({WEB})
    with state.hold(RUN) as home, state.recorder(RUN, plan="1f3c", entered=entered) as recorder:
        for number, envelope in enumerate(told):
            with (home / "events.jsonl").open("a") as file:
                file.write(encode(envelope) + "\\n")
            recorder.record(envelope)
            if number == 0:
                await recorder.flush()
                print("flushed", flush=True)
                sys.stdin.readline()
        while not (home / "behind").exists():
            pass
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_process_that_is_killed_while_the_database_is_away_has_told_all_on_its_machine(
    tmp_path: Path, postgres: Server
) -> None:
    here, there = machines(tmp_path)
    here.ledger.enter(entry(Kind.BEGIN, run=RUN, hosts=(WEB,)))
    with python(KILLED, tmp_path / "here" / "home") as other:
        assert said(other) == "flushed"
        postgres.stop()
        try:
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()
            other.wait()
        finally:
            postgres.start()
    (run,) = here.runs()
    assert (run.exit_code, run.plan, run.is_open) == (0, "1f3c", False)
    assert there.runs() == [run]
    chain = read_chain(there.ledger.read().lines)
    assert (len(chain.hashes), chain.wrong, chain.begun) == (4, None, {})
    assert here.runs() == [run]


def test_words_that_were_kept_for_later_do_not_contradict_whoever_has_gone_on_since(
    tmp_path: Path, postgres: Server
) -> None:
    here, there = machines(tmp_path)
    told = wrapped(started(), SWITCH, *[ended(Outcome.ROLLED_BACK, "unhealthy")] * 2, finished(exit_code=1))
    recorded(here, started(), SWITCH)
    folder_of_today(here, *told)
    (here.folder(RUN) / "behind").write_text("")
    recorded(there, started(verb="resume"), ended(Outcome.KEPT), after=2)
    for state in (here, there):
        assert [envelope.event for envelope in state.events(RUN)][2:] == [started(verb="resume"), ended(Outcome.KEPT)]
    assert not (here.folder(RUN) / "behind").exists()


def test_one_thread_of_a_process_waits_for_the_lock_at_a_time(tmp_path: Path, postgres: Server) -> None:
    """A server gives it to each that waits, also where the process is stopped, and waits for each of them."""
    one, other = (machine.ledger for machine in machines(tmp_path))
    one.enter(entry(Kind.APPROVAL, plan="a" * 64))
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    threads = [threading.Thread(target=other.enter, args=(entry(Kind.APPROVAL, plan="b" * 64),)) for _ in range(4)]
    with PostgresDatabase(database(postgres.url, tmp_path), "home").writing():
        for thread in threads:
            thread.start()
        until(lambda: postgres.run(waiting) == [(1,)])
        assert [postgres.run(waiting) for _ in range(20)] == [[(1,)]] * 20
    for thread in threads:
        thread.join(20)
    assert len(one.read().lines) == 6
