"""A real PostgreSQL server on this machine, for tests: Debian's, on loopback, with nothing in it that is missed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.waiting import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

PASSWORD = "not a secret: it is for tests"
PREFIX = "fleet-postgres-"
"""What folders of servers are called, with the process behind it that started one."""
HBA = """\
local all postgres trust
host all guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
"""Who may connect how: `guarded` with a password, and anybody else as they like."""


def programs() -> Path | None:
    """The folder with PostgreSQL's own programs, of the newest version; None if it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Server:
    """A server with a database `fleet` of the role `fleet`. Use it in `with`: it is removed with everything in it."""

    def __init__(self, *settings: str, certificate: Path | None = None) -> None:
        """`certificate` is the folder of one that `certificate` has made."""
        found = programs()
        assert found is not None, "PostgreSQL is not installed: make setup installs it"
        self._programs = found
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            self._remove_if_left(left)
        self.home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._data = self.home / "data"
        self.port = free_port()
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.home, "postgres", "postgres")
        self._call("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8")
        (self._data / "pg_hba.conf").write_text(HBA)
        if certificate is not None:
            for name, part in (("server.crt", "cert.pem"), ("server.key", "key.pem")):
                shutil.copyfile(certificate / part, self._data / name)
                (self._data / name).chmod(0o600)
                shutil.chown(self._data / name, self._data.owner(), self._data.group())
        usual = (
            f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.home}", "fsync=off",
            "password_encryption=scram-sha-256", "log_lock_waits=on", "shared_buffers=16MB", "max_connections=60",
        )  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            for setting in (*usual, *settings):
                key, _, value = setting.partition("=")
                file.write(f"{key} = '{value}'\n")

    def __enter__(self) -> Server:
        try:
            self.start()
            self.run("CREATE ROLE fleet LOGIN", database="postgres")
            self.run(f"CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'", database="postgres")
            self.run("CREATE DATABASE fleet OWNER fleet", database="postgres")
            self.run("GRANT fleet TO guarded", database="postgres")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.pid is not None:
            self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def _remove_if_left(self, home: Path) -> None:
        """Remove the server of a test that was killed."""
        owner = home.name.removeprefix(PREFIX).partition("-")[0]
        if not Path(f"/proc/{owner}").exists():
            self.home, self._data = home, home / "data"
            for pid in self._processes() if self.pid is not None else ():
                _signal(pid, signal.SIGCONT)  # it may have been paused
            self.__exit__()

    @property
    def url(self) -> str:
        """What `[fleet] state` says."""
        return self.url_of()

    def url_of(self, database: str = "fleet", user: str = "fleet") -> str:
        """The same for another database, or another user."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The server's first process; None while it does not run."""
        file = self._data / "postmaster.pid"
        pid = int(file.read_text().split("\n")[0]) if file.exists() else None
        return pid if pid is not None and Path(f"/proc/{pid}").exists() else None

    def start(self) -> None:
        """It answers then."""
        self._call("pg_ctl", "start", "-w", "-l", str(self.home / "log"))

    def stop(self) -> None:
        """Everybody is cut off, as by a power cut, and nobody listens: dying children keep the port a moment longer."""
        self._call("pg_ctl", "stop", "-w", "-m", "immediate")
        until(self._is_gone, what="a port that nobody listens on")

    def _is_gone(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All of its processes stand still, while inside: it accepts connections, and answers nobody."""
        processes = self._processes()
        for pid in processes:
            _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                _signal(pid, signal.SIGCONT)

    def _processes(self) -> list[int]:
        assert self.pid is not None
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def connect(self, database: str = "fleet") -> psycopg.Connection[Any]:
        """A connection as the one who may do everything."""
        import psycopg

        address = {"host": str(self.home), "port": self.port, "user": "postgres", "dbname": database}
        return psycopg.connect(**address, autocommit=True)  # type: ignore[arg-type]

    def run(self, statement: str, database: str = "fleet", **values: object) -> list[tuple[Any, ...]]:
        """What a statement says."""
        with self.connect(database) as connection:
            done = connection.execute(statement.encode(), values or None)
            return done.fetchall() if done.description else []

    def clear(self) -> None:
        """Nothing is remembered of any fleet."""
        with self.connect() as connection:
            for (name,) in connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'fleet%'"
            ).fetchall():
                connection.execute(f'DROP SCHEMA "{name}" CASCADE'.encode())

    def _call(self, program: str, *arguments: str) -> str:
        argv = [str(self._programs / program), "-D", str(self._data), *arguments]
        if os.geteuid() == 0:
            argv = ["runuser", "-u", "postgres", "--", *argv]
        done = subprocess.run(argv, cwd="/", stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0, f"{argv}: {done.stdout}"
        return done.stdout


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def certificate(folder: Path, name: str) -> Path:
    """A certificate that is valid for an hour for a computer of this name, and its key: `cert.pem` and `key.pem`."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder.mkdir()
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(private)
    return folder
