"""Checks that are asked from where a host stands, through its SSH connection."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from fleet.checks import ask
from fleet.checks.tls import trusting
from fleet.errors import UnreachableError
from fleet.inventory import Check
from fleet.machine.local import LocalMachine
from tests.fakes import nothing_left
from tests.ssh.conftest import BOTH_WAYS
from tests.unit.test_checks import CERTIFICATE, Serve, http, saying, serving, silence, tls
from tests.waiting import becomes, free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from fleet.inventory import Host
    from fleet.machine.login import Logins
    from fleet.machine.ssh import SshMachine
    from fleet.model import CheckAnswer
    from tests.sshd import Server

pytestmark = BOTH_WAYS


@pytest.fixture
async def machine(logins: Logins, host: Host) -> AsyncIterator[SshMachine]:
    async with logins.connect(host) as machine:
        yield machine


async def asked(machine: SshMachine, **keys: Any) -> CheckAnswer:
    with nothing_left():
        check = Check.model_validate({"timeout": "5s", **keys})
        return await ask(check, host=machine, controller=LocalMachine())


@pytest.mark.parametrize("context", [None, tls()], ids=["http", "https"])
async def test_a_service_answers(machine: SshMachine, context: ssl.SSLContext | None) -> None:
    scheme = "https" if context else "http"
    async with serving(saying(http("200 OK", "ready " * 100_000)), context) as port:
        url = f"{scheme}://localhost:{port}/"
        found = await asked(machine, http=url, body="^(?:ready )+$", verify_tls=False)
        assert (found.passed, found.said) == (True, "200 OK, its body matches")
        found = await asked(machine, http=url, status=204, verify_tls=False)
        assert (found.passed, found.said) == (False, "200 OK, wanted 204")


async def test_a_certificate_is_looked_at_as_from_here(machine: SshMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(saying(http("200 OK")), tls()) as port:
        found = await asked(machine, http=f"https://localhost:{port}/")
        assert (found.passed, found.said[:9]) == (False, "TLS: self")
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        trusting.cache_clear()
        assert (await asked(machine, http=f"https://localhost:{port}/")).passed
        found = await asked(machine, http=f"https://127.0.0.1:{port}/")
        trusting.cache_clear()
    assert (found.passed, found.said[:24]) == (False, "TLS: IP address mismatch")


async def test_a_port_where_nobody_listens_fails_the_check(machine: SshMachine) -> None:
    for keys in ({"tcp": f"127.0.0.1:{free_port()}"}, {"http": f"http://127.0.0.1:{free_port()}/"}):
        found = await asked(machine, **keys)
        assert not found.passed
        assert "connect call failed" in found.said  # as this server has it; sshd's word is `connect failed`


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_silent_service_is_given_up_in_time_and_let_go(machine: SshMachine, scheme: str) -> None:
    open_connections: list[int] = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.append(1)
        await reader.read()  # what comes, to its end
        open_connections.remove(1)

    async with serving(count) as port:
        found = await asked(machine, http=f"{scheme}://127.0.0.1:{port}/", timeout="100ms")
        assert (found.passed, found.said) == (False, "no answer within 0.1s")
        assert found.seconds < 2
        await becomes(lambda: not open_connections)


@pytest.mark.parametrize("serve", [silence, saying("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")])
async def test_a_connection_that_is_lost_is_no_answer(machine: SshMachine, server: Server, serve: Serve) -> None:
    """One that is taken for a failed check would be tolerated, or would condemn a system."""
    begun = asyncio.Event()

    async def then_lost(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await serve(reader, writer)
        await writer.drain()
        server.drop()
        with contextlib.suppress(OSError):
            await reader.read()

    async with serving(then_lost) as port:
        task = asyncio.create_task(asked(machine, http=f"http://127.0.0.1:{port}/", body="x"))
        await begun.wait()
        if serve is silence:
            server.drop()
        with pytest.raises(UnreachableError):
            await task


async def test_a_service_that_hangs_up_has_not_answered(machine: SshMachine) -> None:
    async with serving(saying("")) as port:
        found = await asked(machine, http=f"http://127.0.0.1:{port}/")
    assert (found.passed, found.said) == (False, "the connection was closed without an answer")
