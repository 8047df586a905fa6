"""OpenSSH's own server on a port of this machine, and its agent."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools import new_key, public_half
from tests.waiting import becomes, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ME = getpass.getuser()


def program(name: str) -> str:
    """The path of a program, also of one that only root has on its PATH."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is not installed: see .ci/setup"
    return found


@dataclass
class Sshd:
    """A running sshd, which logs to a file."""

    folder: Path
    port: int
    host_key: str

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self.folder / "log").read_text(errors="replace")

    def allow(self, *public: str) -> None:
        """Let these keys in, and no others."""
        (self.folder / "authorized_keys").write_text("".join(f"{line}\n" for line in public))


def keygen(file: Path, *, passphrase: str = "", kind: str = "ed25519") -> str:
    """Make a key; the public half."""
    return public_half(new_key(file, kind=kind, passphrase=passphrase))


@contextlib.asynccontextmanager
async def sshd(folder: Path, *lines: str) -> AsyncIterator[Sshd]:
    """It is up, with these lines in its configuration; nothing of it is left afterwards."""
    server = _configured(folder, *lines)
    process = await asyncio.create_subprocess_exec(
        program("sshd"), "-D", "-f", str(folder / "config"), "-E", str(folder / "log"), start_new_session=True
    )
    try:
        await becomes(lambda: process.returncode is not None or "Server listening" in server.log)
        assert process.returncode is None, server.log
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _configured(folder: Path, *lines: str) -> Sshd:
    folder.mkdir()
    server = Sshd(folder, free_port(), " ".join(keygen(folder / "host_key").split()[:2]))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server.allow()
    (folder / "log").touch()
    (folder / "config").write_text(
        "\n".join([
            *lines,
            f"Port {server.port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host_key", "PidFile none",
            f"AuthorizedKeysFile {folder}/authorized_keys", "StrictModes no", "UsePAM no",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no", "LogLevel VERBOSE", "",
        ])
    )  # fmt: skip
    return server


@contextlib.contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[str]:
    """An ssh-agent that holds these keys; the path of its socket."""
    path = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            while probe.connect_ex(str(path)) != 0:
                assert process.poll() is None
        for key in keys:
            subprocess.run(["ssh-add", "-q", key], env=os.environ | {"SSH_AUTH_SOCK": str(path)}, check=True)
        yield str(path)
    finally:
        process.kill()
        process.wait()
