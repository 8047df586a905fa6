"""What one attempt at a check finds, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from fleet.checks import ask
from fleet.checks.command import LONGEST_OUTPUT
from fleet.checks.http import ask_http
from fleet.checks.tls import trusting
from fleet.errors import AuthenticationError, CommandFailedError, UnreachableError
from fleet.inventory import Check
from fleet.machine import Command, OnLine, Output, TcpStream
from fleet.machine.local import LocalMachine
from fleet.model import CheckAnswer, HostName

CERTIFICATE = Path(__file__).parent.parent / "data" / "localhost.pem"
"""Self-signed for localhost, with its key, valid until 2126."""


class Here:
    """A machine that dials from here, and has one answer for every command."""

    def __init__(self, output: Output | Exception | None = None) -> None:
        self.output = output
        self.ran: list[Command] = []

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:  # noqa: ARG002
        self.ran.append(command)
        if isinstance(self.output, Exception):
            raise self.output
        assert self.output is not None
        return self.output

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        if isinstance(self.output, Exception):
            raise self.output
        return LocalMachine().dial(host, port, timeout=timeout)


class Nowhere(Here):
    """A machine that nobody may ask."""

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:  # noqa: ARG002
        raise AssertionError


def check(**keys: Any) -> Check:
    return Check.model_validate({"timeout": "2s", **{key.rstrip("_"): value for key, value in keys.items()}})


async def answer(machine: Here, **keys: Any) -> tuple[bool, str]:
    found = await ask(check(**keys), host=machine, controller=Nowhere())
    return found.passed, found.said


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on this port of 127.0.0.1; each connection is closed when `serve` returns."""
    open_connections: set[asyncio.Task[Any] | None] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        async with server:
            yield server.sockets[0].getsockname()[1]
    finally:
        await asyncio.gather(*filter(None, open_connections))


def saying(text: str, requests: list[str] | None = None) -> Serve:
    """Answers a request with this."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if requests is not None:
            requests.append(request.decode())
        writer.write(text.encode())
        await writer.drain()

    return serve


def http(status: str, body: str = "") -> str:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}"


UPGRADE = {"headers": {"Upgrade": "x", "Connection": "upgrade"}}


async def asked(text: str, **keys: Any) -> tuple[bool, str]:
    async with serving(saying(text)) as port:
        return await answer(Here(), http=f"http://127.0.0.1:{port}/", **keys)


@pytest.mark.parametrize(
    ("text", "keys", "expected"),
    [
        (http("200 OK"), {}, (True, "200 OK")),
        (http("503 Service Unavailable"), {}, (False, "503 Service Unavailable, wanted 200")),
        (http("302 Found"), {"status": [200, 204]}, (False, "302 Found, wanted 200 or 204")),
        (http("204 No Content"), {"status": [200, 204]}, (True, "204 No Content")),
        (http("200 OK", "all ready"), {"body": "^all r"}, (True, "200 OK, its body matches")),
        (http("200 OK", "no"), {"body": "yes"}, (False, "200 OK, but its body does not match 'yes'")),
        (http("200 OK", "x" * 1_100_000 + "y"), {"body": "y"}, (False, "200 OK, but its body does not match 'y'")),
        ("SSH-2.0-OpenSSH\r\n", {}, (False, "no proper HTTP answer: SSH-2.0-OpenSSH")),
        ("", {}, (False, "the connection was closed without an answer")),
        (http("500 \x1b[31mred\x07"), {}, (False, "500 red, wanted 200")),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {"body": "a"}, None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", {"body": "a"}, None),
        ("HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n", {}, (False, "no proper HTTP answer: illegal header line: 'X Y: z'")),
        ("HTTP/1.1 200 OK\r\nContent-Len", {}, (False, "no proper HTTP answer: it ends in the middle of a line")),
        ("HTTP/1.1 200 OK\r\n", {}, (True, "200 OK")),
        ("HTTP/1.1 200\n\nready", {"body": "ready"}, (True, "200, its body matches")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nready", {"body": "ready"}, (True, "200 OK, its body matches")),
        ("HTTP/1.1 100 Continue\r\n\r\n" + http("200 OK"), {}, (True, "200 OK")),
        ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", {**UPGRADE, "status": 101}, (True, "101 Switching")),
        ("HTTP/1.1 200 OK\r\n" + "X: y\r\n" * 30_000, {}, (False, "no proper HTTP answer: Receive buffer too long")),
    ],
)
async def test_an_http_check_says_what_came(text: str, keys: dict[str, Any], expected: tuple[bool, str] | None) -> None:
    found = await asked(text, **keys)
    assert found == expected if expected else found[1].startswith("no proper HTTP answer")


async def test_the_request_is_the_one_that_was_declared() -> None:
    requests: list[str] = []
    async with serving(saying(http("200 OK"), requests)) as port:
        url = f"http://localhost:{port}/a%20b?c=d"
        assert (await answer(Here(), http=url, method="HEAD", headers={"X-Key": "1", "User-Agent": "me"}))[0]
    lines = requests[0].split("\r\n")
    assert lines[0] == "HEAD /a%20b?c=d HTTP/1.1"
    assert {f"Host: localhost:{port}", "X-Key: 1", "User-Agent: me"} < set(lines)


async def test_headers_that_are_declared_take_the_place_of_ours_whatever_their_case() -> None:
    requests: list[str] = []
    async with serving(saying(http("200 OK"), requests)) as port:
        headers = {"host": "app.example", "USER-AGENT": "me", "accept": " text/plain "}
        assert (await answer(Here(), http=f"http://127.0.0.1:{port}/", method="POST", headers=headers))[0]
    lines = requests[0].rstrip().split("\r\n")
    assert lines[0] == "POST / HTTP/1.1"
    own = {"accept: text/plain", "host: app.example", "USER-AGENT: me"}
    assert (set(lines[1:]), len(lines)) == (
        {*own, "Accept-Encoding: identity", "Connection: close", "Content-Length: 0"},
        7,
    )


@pytest.mark.parametrize(("body", "passed"), [("^x+$", True), ("y", False)])
async def test_of_a_body_without_end_the_beginning_is_looked_at(body: str, *, passed: bool) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * (1 << 16))
            await writer.drain()

    async with serving(endless) as port:
        found = await answer(Here(), http=f"http://127.0.0.1:{port}/", body=body, timeout="20s")
    assert found[0] is passed


@pytest.mark.parametrize("status", [200, 204])
async def test_a_service_may_say_what_nobody_looks_at(status: int) -> None:
    """As one that writes the head, and then has somebody else write the rest: it would find a broken pipe."""
    ends: list[bytes | None] = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"x" * 500_000)
        writer.write_eof()
        ends.append(None)
        ends[-1] = await reader.read()

    async with serving(slow) as port:
        await answer(Here(), http=f"http://127.0.0.1:{port}/", status=status)
    assert ends == [b""]  # nobody has reset the connection


async def test_a_service_that_goes_on_without_end_has_answered_all_the_same() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await dripping(reader, writer)

    async with serving(endless) as port:
        for timeout in ("20s", "300ms"):
            asking = check(http=f"http://127.0.0.1:{port}/", timeout=timeout)
            found = await ask(asking, host=Here(), controller=Nowhere())
            assert (found.passed, found.said) == (True, "200 OK")
            assert found.seconds < 5


async def test_an_answer_of_who_has_not_read_the_request_counts() -> None:
    async def hasty(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nready")

    async with serving(hasty) as port:
        assert await answer(Here(), http=f"http://127.0.0.1:{port}/", body="ready") == (
            True,
            "200 OK, its body matches",
        )


async def test_a_server_of_another_protocol_is_known_by_what_it_says_first() -> None:
    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()

    async with serving(hello) as port:
        found = await ask(check(http=f"http://127.0.0.1:{port}/", timeout="20s"), host=Here(), controller=Nowhere())
    assert (found.passed, found.said) == (False, "no proper HTTP answer: 220 mail.example ESMTP")
    assert found.seconds < 10


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"H")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("serve", [silence, dripping])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_silent_or_slow_service_ends_with_the_timeout_and_leaves_no_thread(serve: Serve, scheme: str) -> None:
    before = threading.active_count()
    async with serving(serve) as port:
        found = await ask(
            check(http=f"{scheme}://127.0.0.1:{port}/", timeout="60ms"), host=Here(), controller=Nowhere()
        )
    assert not found.passed
    assert found.said == "no answer within 0.06s" or (scheme == "https" and found.said.startswith("TLS: "))
    assert found.seconds < 1
    assert threading.active_count() == before


async def test_a_cancelled_check_leaves_no_thread() -> None:
    before = threading.active_count()
    async with serving(silence) as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await answer(Here(), http=f"http://127.0.0.1:{port}/", timeout="9s")
    assert threading.active_count() == before


async def test_forty_silent_services_do_not_use_up_the_time_of_a_healthy_one() -> None:
    async with serving(silence) as silent, serving(saying(http("200 OK"))) as healthy, asyncio.TaskGroup() as tasks:
        for _ in range(40):
            tasks.create_task(answer(Here(), http=f"http://127.0.0.1:{silent}/", timeout="200ms"))
        await asyncio.sleep(0.02)
        found = await ask(check(http=f"http://127.0.0.1:{healthy}/", timeout="150ms"), host=Here(), controller=Here())
        assert found.passed


def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_refused_unless_told_otherwise() -> None:
    async with serving(saying(http("200 OK")), tls()) as port:
        url = f"https://localhost:{port}/"
        passed, said = await answer(Here(), http=url)
        assert not passed
        assert said.startswith("TLS: self")
        assert await answer(Here(), http=url, verify_tls=False) == (True, "200 OK")


async def test_a_certificate_must_be_for_the_name_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    trusting.cache_clear()
    async with serving(saying(http("200 OK")), tls()) as port:
        assert await answer(Here(), http=f"https://localhost:{port}/") == (True, "200 OK")
        passed, said = await answer(Here(), http=f"https://127.0.0.1:{port}/")
    trusting.cache_clear()
    assert not passed
    assert said.startswith("TLS: IP address mismatch")


async def test_a_service_that_ends_its_answer_without_ending_tls_has_answered() -> None:
    """Many do. It is no more than any other end of a connection, and http has none that can be told from a cut."""

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nready")
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)

    async with serving(rude, tls()) as port:
        found = await answer(Here(), http=f"https://localhost:{port}/", verify_tls=False, body="^ready$")
    assert found == (True, "200 OK, its body matches")


async def test_a_service_that_hangs_up_amid_the_handshake_fails_the_check() -> None:
    async def leaving(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)

    async with serving(leaving) as port:
        found = await answer(Here(), http=f"https://localhost:{port}/", verify_tls=False)
    assert found == (False, "TLS: UNEXPECTED_EOF_WHILE_READING")


async def test_a_port_where_nobody_listens_refuses() -> None:
    async with serving(silence) as port:
        pass
    refused = (False, "connection refused")
    assert await answer(Here(), tcp=f"127.0.0.1:{port}") == refused
    assert await answer(Here(), http=f"http://127.0.0.1:{port}/") == refused


async def test_a_port_where_somebody_listens_passes() -> None:
    async with serving(silence) as port:
        assert await answer(Here(), tcp=f"127.0.0.1:{port}") == (True, "connected")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TimeoutError(), "no answer within 2s"),
        (OSError("administratively prohibited"), "administratively prohibited"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)
async def test_a_connection_that_cannot_be_made_is_a_failed_check(error: OSError, said: str) -> None:
    assert await answer(Here(error), tcp="web.lan:80") == (False, said)


@pytest.mark.parametrize("keys", [{"tcp": "127.0.0.1:{port}"}, {"http": "http://127.0.0.1:{port}/"}])
async def test_the_controller_asks_when_it_should(keys: dict[str, str]) -> None:
    async with serving(saying(http("200 OK"))) as port:
        mine = {key: value.format(port=port) for key, value in keys.items()}
        found = await ask(check(**mine, from_="controller"), host=Nowhere(), controller=Here())
    assert found.passed


def unit_state(load: str, active: str, sub: str) -> Output:
    return Output(status=0, stdout=f"LoadState={load}\nActiveState={active}\nSubState={sub}\n")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (unit_state("loaded", "active", "running"), (True, "active (running)")),
        (unit_state("loaded", "reloading", "reload"), (True, "reloading (reload)")),
        (unit_state("loaded", "activating", "auto-restart"), (False, "activating (auto-restart)")),
        (unit_state("loaded", "failed", "failed"), (False, "failed (failed)")),
        (unit_state("not-found", "inactive", "dead"), (False, "there is no such unit")),
        (Output(status=1, stderr="Failed to connect to bus"), (False, "Failed to connect to bus")),
        (Output(status=0), (False, "systemctl: exit status 0")),
    ],
)
async def test_a_unit_check_says_the_state_it_saw(output: Output, expected: tuple[bool, str]) -> None:
    assert await answer(Here(output), unit="nginx.service") == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (Output(status=0, stdout="one\ntwo\n\n"), (True, "two")),
        (Output(status=0), (True, "exit status 0")),
        (Output(status=3), (False, "exit status 3")),
        (Output(status=1, stdout="out\n", stderr="why\n"), (False, "exit status 1: why")),
        (Output(status=1, stdout="\x1b[31mred\x1b[0m\n"), (False, "exit status 1: red")),
    ],
)
async def test_a_command_check_says_the_last_line(output: Output, expected: tuple[bool, str]) -> None:
    machine = Here(output)
    assert await answer(machine, command="curl -f x | grep y") == expected
    assert machine.ran == [Command(argv=("sh", "-c", "curl -f x | grep y"), timeout=2.0, keep=LONGEST_OUTPUT)]


async def test_a_command_that_does_not_end_is_a_failed_check() -> None:
    late = CommandFailedError(HostName("web"), "did not end within 2s")
    assert await answer(Here(late), command="sleep 9") == (False, "did not end within 2s")


@pytest.mark.parametrize("kind", [UnreachableError, AuthenticationError])
async def test_a_machine_that_cannot_be_asked_is_no_answer(kind: type[UnreachableError | AuthenticationError]) -> None:
    with pytest.raises(kind):
        await answer(Here(kind(HostName("web"), "gone")), unit="nginx.service")


async def test_an_answer_is_one_short_line_with_its_time() -> None:
    found = await ask(check(command="x"), host=Here(Output(status=0, stdout="y" * 999)), controller=Nowhere())
    assert found == CheckAnswer(check="command x", passed=True, said="y" * 200, seconds=found.seconds)
    assert 0 <= found.seconds < 1


def gpu_host(
    *gpus: str, module: str = "570.86.15", library: str = "570.86.15", status: int = 0, stderr: str = ""
) -> Output:
    """What the script finds: the line of an open kernel module, the file that the library's link leads to, and GPUs."""
    lines = [f"module=NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {module}  Release Build"] * bool(module)
    lines += [f"library=/nix/store/x-nvidia-x11-{library}/lib/libnvidia-ml.so.{library}"] * bool(library)
    return Output(status=status, stdout="".join(f"{line}\n" for line in [*lines, *gpus]), stderr=stderr)


H200 = "570.86.15, NVIDIA H200"
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 575.51\n"


@pytest.mark.parametrize(
    ("output", "keys", "expected"),
    [
        (gpu_host(H200, H200), {"count": 2, "min_driver": "570.86"}, (True, "2 GPUs, driver 570.86.15")),
        (gpu_host(H200), {}, (True, "1 GPU, driver 570.86.15")),
        (gpu_host(H200, module="", library=""), {}, (True, "1 GPU, driver 570.86.15")),
        (gpu_host(H200), {"count": 2}, (False, "1 GPU, driver 570.86.15; wanted 2")),
        (gpu_host(H200, H200), {"count": 1}, (False, "2 GPUs, driver 570.86.15; wanted 1")),
        (gpu_host(H200), {"min_driver": "570.100"}, (False, "1 GPU, driver 570.86.15; wanted driver 570.100 or later")),
        (gpu_host(H200), {"min_driver": "99"}, (True, "1 GPU, driver 570.86.15")),
        (gpu_host(), {}, (False, "nvidia-smi lists no GPU")),
        (gpu_host("[Unknown Error], NVIDIA H200"), {}, (False, "nvidia-smi: [Unknown Error]")),
        (gpu_host(status=9, stderr="No devices were found\n"), {}, (False, "No devices were found")),
        (gpu_host(status=9), {}, (False, "nvidia-smi: exit status 9")),
        (
            gpu_host(H200, library="575.51.03"),
            {},
            (False, "needs reboot: the kernel module is 570.86.15, userspace is 575.51.03"),
        ),
        (
            gpu_host(MISMATCH.strip(), library="", status=18),
            {},
            (False, "needs reboot: the kernel module is 570.86.15, userspace is 575.51"),
        ),
        (
            gpu_host(module="", library="", status=18, stderr=MISMATCH),
            {},
            (False, "needs reboot: the kernel module is another, userspace is 575.51"),
        ),
    ],
)
async def test_a_gpu_check_says_what_there_is(output: Output, keys: dict[str, Any], expected: tuple[bool, str]) -> None:
    assert await answer(Here(output), gpu=True, **keys) == expected


async def test_the_proprietary_kernel_module_is_read_too() -> None:
    line = "module=NVRM version: NVIDIA UNIX x86_64 Kernel Module  565.57.01  Thu Oct 10 12:29:05 UTC 2024\n"
    stdout = line + "library=/run/opengl-driver/lib/libnvidia-ml.so.570.86.15\n" + H200
    passed, said = await answer(Here(Output(status=0, stdout=stdout)), gpu=True)
    assert (passed, said) == (False, "needs reboot: the kernel module is 565.57.01, userspace is 570.86.15")


class Endless:
    """A server that says the same for ever."""

    def __init__(self, said: bytes) -> None:
        self.said = said

    async def read(self, count: int) -> bytes:
        return (self.said * count)[:count]

    async def write(self, data: bytes | memoryview) -> None:
        pass


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n", b"HTTP/1.1 ", b"x"]
)
async def test_server_that_never_comes_to_its_answer_has_none(said: bytes) -> None:
    """Nothing could interrupt it: each block is there at once, so that no other task gets a turn."""

    class Server(Here):
        @contextlib.asynccontextmanager
        async def _stream(self) -> AsyncIterator[TcpStream]:
            yield Endless(said)

        def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:  # noqa: ARG002
            return self._stream()

    found = await ask_http(Check.model_validate({"name": "web", "http": "http://127.0.0.1/"}), Server())
    assert found[0] is False
    assert found[1].startswith("no proper HTTP answer")
