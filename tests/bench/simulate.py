"""Many hosts that cost little: SSH servers in other processes, which answer what the host program would.

`python -m tests.bench.simulate COUNT RUNNING NEW AUTHORIZED_KEYS LOG` is one of these processes: its hosts run one
closure, have another one too, and switch to it at once and well. Each remembers what has switched it, as hosts do.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import resource
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from fleet.host.obstacles import PARTS
from fleet.store import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROCESSES = 2
VERBS = ("facts", "root", "unroot", "begin", "attach", "look", "watch", "show", "word")
AFTERWARDS = "8-0badcafe"
"""The serial of a host that was switched."""
BACKLOG = 64


@dataclass(frozen=True)
class Simulated:
    """A host: where it listens on 127.0.0.1, and what it shows."""

    port: int
    host_key: str


@contextlib.contextmanager
def simulated(
    count: int, closure: str, key: Path, *, new: str = "", log: Path | None = None
) -> Iterator[list[Simulated]]:
    """So many hosts that stand on the closure, can switch to `new`, and let the key in; gone afterwards.

    Each switch is a line of the log.
    """
    shares = [count // PROCESSES + (number < count % PROCESSES) for number in range(PROCESSES)]
    argv = [sys.executable, "-m", "tests.bench.simulate"]
    more = [closure, new, f"{key}.pub", str(log or "")]
    processes = [
        subprocess.Popen([*argv, str(share), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for share in shares
        if share
    ]
    try:
        hosts = []
        for process in processes:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            hosts += [Simulated(port, told["host_key"]) for port in told["ports"]]
        yield hosts
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def facts(closure: str) -> str:
    """What the host program says of a host that runs, keeps and boots the closure, where nothing is open."""
    parts = {f"{when}_{part}": f"/nix/store/{part}" for when in ("running", "booted") for part in PARTS}
    lines = {
        "machine": "x86_64",
        "nix": "nix-store (Nix) 2.31.2",
        "store_writable": "yes",
        "running": closure,
        "profile": closure,
        "generation": "system-41-link",
        "link": "system-41-link@1700000000.000000000",
        "serial": "7-0badcafe",
        "booted": closure,
        "boot_default": closure,
        "version": "26.05",
        **parts,
        "nix_free": str(40 << 30),
        "boot_free": str(400 << 20),
        "live": closure,
    }
    return _lines(**lines)


class Sessions:
    """One host: what it runs, and what it answers in each session: the host program, which it has kept, and Nix."""

    def __init__(self, closure: str, new: str, log: Path | None = None) -> None:
        """Each switch is a line of the log: its port and its run."""
        self._closure = closure
        self._new = new
        self._log = log
        self.port = 0
        self._run = ""
        """The run that has switched it."""
        self._part = ""
        self._is_open = False
        self._prover = 1

    def _said(self, verb: str) -> str:
        if not self._run:
            return _lines(state="unknown", running=self._closure)
        state = "switched" if self._is_open else "committed"
        if verb == "attach":
            self._prover += 1
            return _lines(prover=str(self._prover), state=state, running=self._new, status="0", closes_in="60")
        if verb == "word":
            accepted, self._is_open = "yes" if self._is_open else "no", False
            return _lines(accepted=accepted, state="committed", running=self._new, boot_entry=self._new)
        return _lines(state=state, running=self._new, status="0", closes_in="60", boot_entry=self._new)

    def _facts(self) -> str:
        if not self._run:
            return facts(self._closure)
        if self._is_open:
            told = {"run": self._run, "state": "switched", "new": self._new, "old": self._closure, "closes_in": "60"}
            return facts(self._new) + _lines(**{f"open_{key}": value for key, value in told.items()})
        told = {"run": self._run, "state": "committed", "new": self._new, "old": self._closure}
        told |= {"part": self._part, "serial": AFTERWARDS, "boot_entry": self._new}
        return facts(self._new) + _lines(serial=AFTERWARDS, **{f"last_{key}": value for key, value in told.items()})

    def _begin(self, order: str) -> str:
        """It begins once for each run, whoever asks, and for nobody else beside it."""
        lines = dict(line.split(" ", 1) for line in order.splitlines() if " " in line)
        if self._run == lines["run"] and self._is_open:
            return _lines(begun=self._run) + self._said("look")
        if self._run:
            return _lines(refused="ended" if self._run == lines["run"] else "stale", message="it has changed")
        part = order[order.index("fleet-part v1") : order.rindex("end\n")]
        self._run, self._part, self._is_open = lines["run"], hashlib.sha256(part.encode()).hexdigest(), True
        if self._log is not None:
            with self._log.open("a") as log:
                log.write(f"{self.port} {self._run}\n")
        return _lines(begun=self._run) + self._said("look")

    async def answer(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Do what the session is asked for, and end it."""
        words = shlex.split(process.command or "")
        if words[:2] == ["exec", "sh"]:  # the command comes on stdin
            if "fleet: ready" in words[-1]:
                process.stderr.write(b"fleet: ready\n")
            words = shlex.split((await process.stdin.readline()).decode())
        process.exit(await self._status(words, process))

    async def _status(self, words: Sequence[str], process: asyncssh.SSHServerProcess[bytes]) -> int:
        verb = next((word for word in words if word in VERBS), "")
        if verb == "begin":
            process.stdout.write(self._begin((await process.stdin.read()).decode()).encode())
        elif verb == "facts":
            process.stdout.write(self._facts().encode())
        elif verb in ("root", "unroot"):
            process.stdout.write(_lines(done="yes").encode())
        elif verb:
            process.stdout.write(self._said(verb).encode())
        elif words[-2:] == ["--serve", "--write"]:
            await self._serve(process)
        elif "--check-validity" in words:  # everything is there
            await process.stdin.read()
        else:
            return 0 if words[-1] == "true" else 1
        return 0

    @staticmethod
    async def _serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Say of every path that it is valid."""

        async def number() -> int:
            return int.from_bytes(await process.stdin.readexactly(8), "little")

        with contextlib.suppress(asyncio.IncompleteReadError):
            await process.stdin.readexactly(16)
            process.stdout.write(wire.number(wire.ANSWER) + wire.number(wire.VERSION))
            while await number() == wire.Request.QUERY_VALID_PATHS:
                await process.stdin.readexactly(16)
                paths = []
                for _ in range(await number()):
                    size = await number()
                    paths.append((await process.stdin.readexactly(size + -size % 8))[:size].decode())
                process.stdout.write(wire.texts(paths))


def _lines(**pairs: str) -> str:
    return "".join(f"{key}={value}\n" for key, value in pairs.items())


async def serve(count: int, closure: str, new: str, authorized: str, log: str) -> None:
    """The hosts answer until stdin ends; the first line on stdout tells where they are."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each client that has left before the last word
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    keys = asyncssh.read_authorized_keys(authorized)

    ports = []
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
            host = Sessions(closure, new, Path(log) if log else None)
            host.port = listening.getsockname()[1]
            ports.append(host.port)
            options = await asyncssh.SSHServerConnectionOptions.construct(
                server_host_keys=[host_key],
                authorized_client_keys=keys,
                process_factory=host.answer,
                encoding=None,
                allow_scp=False,
            )
            await stack.enter_async_context(await asyncssh.listen(sock=listening, options=options))
        key = host_key.export_public_key().decode().strip()
        print(json.dumps({"ports": ports, "host_key": key}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
