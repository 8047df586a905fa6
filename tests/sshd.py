"""An SSH server in this process, and a network that can fail: what tests need of both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncssh

from tests.waiting import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

Process = asyncssh.SSHServerProcess[bytes]
KEY = asyncssh.generate_private_key("ssh-ed25519")


def public(key: asyncssh.SSHKey) -> str:
    """The public half, as fleet.toml and known_hosts have it."""
    return key.export_public_key().decode().strip()


@dataclass
class Server:
    """A host that runs what it is asked to run, here."""

    key: asyncssh.SSHKey = KEY
    allow: asyncssh.SSHKey | None = None
    """The key that may log in; None lets everybody in."""
    sessions: int = 10
    """sshd's MaxSessions."""
    lingering: float = 0.0
    """Seconds for which a session counts that has ended, as sshd's do until all about it is cleaned up."""
    startups: int = 10
    """sshd's MaxStartups: connections that are not logged in yet."""
    path: str = ""
    """A folder before the others on PATH."""
    path_is: str = ""
    """The whole of PATH, where it is not ours."""
    shell: str = "sh"
    """The login shell of everybody."""
    port: int = 0
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """The command lines that came in."""
    complaints: bytearray = field(default_factory=bytearray)
    """What commands have written to stderr, as far as it was sent."""
    terminals: list[str] = field(default_factory=list)
    """The terminals that were asked for."""
    at_once: int = 0
    most_at_once: int = 0
    starting: set[asyncssh.SSHServer] = field(default_factory=set)
    _processes: set[Process] = field(default_factory=set)
    _children: set[asyncio.subprocess.Process] = field(default_factory=set)
    _is_stopped: bool = False
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def public(self) -> str:
        """Its host key."""
        return public(self.key)

    def handler(self) -> asyncssh.SSHServer:
        return _Handler(self)

    async def serve(self, process: Process) -> None:
        """One session."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.lines.append(process.command or "")
        if process.term_type is not None:
            self.terminals.append(process.term_type)
        self._processes.add(process)
        try:
            with contextlib.suppress(OSError, asyncssh.Error):
                await self._run(process)
        finally:
            self._processes.discard(process)
            await asyncio.sleep(self.lingering)
            self.at_once -= 1

    async def is_busy(self) -> None:
        """A command is at work."""
        await becomes(lambda: self._children)

    async def _run(self, process: Process) -> None:
        environment = os.environ | ({"PATH": f"{self.path}:{os.environ['PATH']}"} if self.path else {})
        environment |= {"PATH": self.path_is} if self.path_is else {}
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            self.shell, "-c", process.command or "", stdin=pipe, stdout=pipe, stderr=pipe,
            env=environment, start_new_session=True,
        )  # fmt: skip
        self._children.add(child)
        if self._is_stopped:  # while it was being started
            _kill(child)
        assert child.stdin is not None
        feeding = asyncio.create_task(_feed(process.stdin.read, child.stdin))
        self._tasks.add(feeding)
        feeding.add_done_callback(self._tasks.discard)
        assert child.stdout is not None
        assert child.stderr is not None
        await asyncio.gather(
            _empty(child.stdout.read, process.stdout), _empty(child.stderr.read, process.stderr, self.complaints)
        )
        status = await child.wait()
        feeding.cancel()
        self._children.discard(child)
        if status < 0:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            process.exit(status)

    def end_sessions(self) -> None:
        """All sessions end, and the connections stay."""
        for process in self._processes:
            process.channel.abort()

    def drop(self) -> None:
        """All connections end, the way a server ends them that is stopped."""
        for connection in self.connections:
            connection.abort()

    def leave(self) -> None:
        """All connections end with a proper goodbye, as if that were in order."""
        for connection in self.connections:
            connection.close()

    async def stop(self) -> None:
        """Nothing of it is left: no connection, no child, no task."""
        self.drop()
        self._is_stopped = True
        for child in self._children:
            _kill(child)
        await asyncio.gather(*(connection.wait_closed() for connection in self.connections))
        await asyncio.wait_for(asyncio.gather(*self._tasks, return_exceptions=True), 5)
        # With its connection a task may have been given up, and asyncio lets go of a child when all was read.
        ends = [end for child in self._children for end in _ends(child)]
        await asyncio.wait_for(asyncio.gather(*ends, return_exceptions=True), 5)


class _Handler(asyncssh.SSHServer):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.connections.append(conn)
        self._server.starting.add(self)
        if len(self._server.starting) > self._server.startups:
            conn.abort()

    def auth_completed(self) -> None:
        self._server.starting.discard(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._server.starting.discard(self)

    def begin_auth(self, username: str) -> bool:
        self._server.users.append(username)
        return self._server.allow is not None

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        return self._server.allow is not None and key.public_data == self._server.allow.public_data

    def session_requested(self) -> Any:
        if self._server.at_once >= self._server.sessions:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "open failed")
        self._server.at_once += 1
        self._server.most_at_once = max(self._server.at_once, self._server.most_at_once)
        assert self._connection is not None
        channel = self._connection.create_server_channel(encoding=None)
        return channel, asyncssh.SSHServerProcess(self._server.serve, None, 3, allow_scp=False)

    def connection_requested(self, *_: Any) -> bool:
        return True


def _kill(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _ends(child: asyncio.subprocess.Process) -> list[Awaitable[object]]:
    """What there is to wait for of a child that was killed."""
    assert child.stdout is not None
    assert child.stderr is not None
    return [child.stdout.read(), child.stderr.read(), child.wait()]


async def _feed(read: Callable[[int], Awaitable[bytes]], stdin: asyncio.StreamWriter) -> None:
    """A child has all that there was to read, or has read what it wanted."""
    await _copy(read, stdin)
    stdin.close()


async def _empty(
    read: Callable[[int], Awaitable[bytes]], writer: asyncssh.SSHWriter[bytes], record: bytearray | None = None
) -> None:
    """All that a child wrote has been read, also what nobody takes any more: asyncio does not let go of it before."""
    await _copy(read, writer, record)
    while await read(1 << 16):
        pass


async def _copy(read: Callable[[int], Awaitable[bytes]], writer: Any, record: bytearray | None = None) -> None:
    with contextlib.suppress(OSError, asyncssh.Error):
        while block := await read(1 << 16):
            writer.write(block)
            await writer.drain()
            if record is not None:
                record += block


@contextlib.asynccontextmanager
async def listening(server: Server, **options: Any) -> AsyncIterator[Server]:
    """The server is up, on a port of 127.0.0.1, with these options of asyncssh's; nothing of it is left afterwards."""
    acceptor = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[server.key], server_factory=server.handler, keepalive_interval=0, **options
    )
    server.port = acceptor.get_port()
    try:
        yield server
    finally:
        acceptor.close()
        await acceptor.wait_closed()
        await server.stop()


@contextlib.asynccontextmanager
async def connected(
    cipher: str, *, host_rekey_bytes: int = 1 << 30, **options: Any
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection to a server of its own, without what `Logins` makes sure of. The server wants new keys after it has
    sent so many bytes; the options are those of our side.
    """
    async with listening(Server(), rekey_bytes=host_rekey_bytes) as server:
        connection = await asyncssh.connect(
            "127.0.0.1", server.port, known_hosts=None, client_keys=None, config=[], username="root",
            encryption_algs=[cipher], **options,
        )  # fmt: skip
        async with connection:
            yield connection


@dataclass
class Network:
    """What lies between us and a server."""

    port: int
    _pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=list)
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _answers: asyncio.Event = field(default_factory=asyncio.Event)

    def silence(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        self._flows.clear()

    def hold_answers(self) -> None:
        """What the server says does not come through, until it may."""
        self._answers.clear()

    def release_answers(self) -> None:
        """What the server has said, and what it says, comes through."""
        self._answers.set()

    def cut(self) -> None:
        """The connections are closed in an orderly way."""
        for near, _ in self._pairs:
            near.close()

    def reset(self) -> None:
        """The connections are reset."""
        for near, _ in self._pairs:
            near.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near.transport.abort()


@contextlib.asynccontextmanager
async def network(to: int) -> AsyncIterator[Network]:
    """A network to this port of 127.0.0.1."""
    tasks: set[asyncio.Task[None]] = set()

    async def flow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *gates: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while block := await reader.read(1 << 16):
                for gate in gates:
                    await gate.wait()
                writer.write(block)
                await writer.drain()
        writer.close()

    async def accept(near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection("127.0.0.1", to)
        between._pairs.append((near, far))
        up = flow(near_reader, far, between._flows)
        down = flow(far_reader, near, between._flows, between._answers)
        for task in (asyncio.create_task(up), asyncio.create_task(down)):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    between = Network(server.sockets[0].getsockname()[1])
    between._flows.set()
    between._answers.set()
    try:
        yield between
    finally:
        server.close()
        ending = list(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for pair in between._pairs:
            for writer in pair:
                writer.transport.abort()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def silent_port() -> AsyncIterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def scripts(folder: Any, texts: Mapping[str, str]) -> str:
    """The folder, with these programs in it."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        file = folder / name
        file.write_text(f"#!/bin/sh\n{text}")
        file.chmod(0o755)
    return str(folder)
