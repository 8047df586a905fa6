"""Many hosts that cost little: SSH servers in other processes, which answer what the host program would.

`python -m tests.bench.simulate COUNT CLOSURE AUTHORIZED_KEYS` is one of these processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncssh

from fleet.host.obstacles import PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROCESSES = 2
BACKLOG = 64


@dataclass(frozen=True)
class Simulated:
    """A host: where it listens on 127.0.0.1, and what it shows."""

    port: int
    host_key: str


@contextlib.contextmanager
def simulated(count: int, closure: str, key: Path) -> Iterator[list[Simulated]]:
    """So many hosts that stand on the closure, and let the key in; gone afterwards."""
    shares = [count // PROCESSES + (number < count % PROCESSES) for number in range(PROCESSES)]
    argv = [sys.executable, "-m", "tests.bench.simulate"]
    processes = [
        subprocess.Popen([*argv, str(share), closure, f"{key}.pub"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
        "booted": closure,
        "boot_default": closure,
        "version": "26.05",
        **parts,
        "nix_free": str(40 << 30),
        "boot_free": str(400 << 20),
        "live": closure,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


async def serve(count: int, closure: str, authorized: str) -> None:
    """The hosts answer until stdin ends; the first line on stdout tells where they are."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    answer = facts(closure).encode()

    async def session(process: asyncssh.SSHServerProcess[bytes]) -> None:
        words = shlex.split(process.command or "")
        if words[:2] == ["exec", "sh"]:  # the command comes on stdin
            words = shlex.split((await process.stdin.readline()).decode())
        if words[-1] == "facts":  # of a program that it has kept
            process.stdout.write(answer)
        process.exit(0 if words[-1] in ("facts", "true") else 1)

    options = await asyncssh.SSHServerConnectionOptions.construct(
        server_host_keys=[host_key],
        authorized_client_keys=authorized,
        process_factory=session,
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
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
