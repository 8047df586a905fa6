"""Many hosts that cost little: SSH servers in other processes, which answer what the host program would.

`python -m tests.bench.simulate COUNT RUNNING NEW AUTHORIZED_KEYS` is one of these processes: its hosts run one closure,
have another one too, and switch to it at once and well, each time anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncssh

from fleet.host.obstacles import PARTS
from fleet.store import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROCESSES = 2
BACKLOG = 64


@dataclass(frozen=True)
class Simulated:
    """A host: where it listens on 127.0.0.1, and what it shows."""

    port: int
    host_key: str


@contextlib.contextmanager
def simulated(count: int, closure: str, key: Path, *, new: str = "") -> Iterator[list[Simulated]]:
    """So many hosts that stand on the closure, can switch to `new`, and let the key in; gone afterwards."""
    shares = [count // PROCESSES + (number < count % PROCESSES) for number in range(PROCESSES)]
    argv = [sys.executable, "-m", "tests.bench.simulate"]
    processes = [
        subprocess.Popen([*argv, str(share), closure, new, f"{key}.pub"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
    """What a host answers in each session: the host program, which it has kept, and Nix."""

    def __init__(self, closure: str, new: str) -> None:
        switched = {"state": "switched", "running": new, "status": "0", "closes_in": "60"}
        self._answers = {
            "facts": facts(closure),
            "root": "",
            "begin": _lines(**switched),
            "look": _lines(**switched),
            "word": _lines(accepted="yes", state="committed", running=new, boot_entry=new),
        }

    async def answer(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        """Do what the session is asked for, and end it."""
        words = shlex.split(process.command or "")
        if words[:2] == ["exec", "sh"]:  # the command comes on stdin
            if "fleet: ready" in words[-1]:
                process.stderr.write(b"fleet: ready\n")
            words = shlex.split((await process.stdin.readline()).decode())
        process.exit(await self._status(words, process))

    async def _status(self, words: Sequence[str], process: asyncssh.SSHServerProcess[bytes]) -> int:
        verb = next((word for word in words if word in self._answers), "")
        if verb:
            if verb == "begin":
                order = (await process.stdin.read()).decode()
                (run,) = [line.removeprefix("run ") for line in order.splitlines() if line.startswith("run ")]
                process.stdout.write(_lines(begun=run).encode())
            process.stdout.write(self._answers[verb].encode())
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


async def serve(count: int, closure: str, new: str, authorized: str) -> None:
    """The hosts answer until stdin ends; the first line on stdout tells where they are."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    host_key = asyncssh.generate_private_key("ssh-ed25519")

    options = await asyncssh.SSHServerConnectionOptions.construct(
        server_host_keys=[host_key],
        authorized_client_keys=authorized,
        process_factory=Sessions(closure, new).answer,
        encoding=None,
        allow_scp=False,
    )
    ports = []
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
            ports.append(listening.getsockname()[1])
            await stack.enter_async_context(await asyncssh.listen(sock=listening, options=options))
        key = host_key.export_public_key().decode().strip()
        print(json.dumps({"ports": ports, "host_key": key}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
