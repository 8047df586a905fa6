"""Check a service that speaks HTTP: one request and its answer, over a connection from the host or the controller."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

import h11

from fleet.checks.tls import TlsStream, trusting
from fleet.errors import HostError
from fleet.inventory.patterns import matches

if TYPE_CHECKING:
    from fleet.checks.command import Attempt
    from fleet.inventory import Check
    from fleet.machine import Machine, TcpStream

LONGEST_HEAD = 1 << 17
"""Bytes of an answer before its body, at most."""
LONGEST_BODY = 1 << 20
"""Bytes of a body that are looked at."""
LONGEST_LINE = 1 << 13
"""Bytes of the first line, at most."""
MOST_BEFORE = 1 << 18
"""Bytes before the final answer, at most: a server may send any number of preliminary ones (1xx)."""
_BLOCK = 1 << 14
"""Bytes that are read at once: few enough to be parsed in a moment, whatever they are."""
_SOON = 0.5
"""Seconds for which a server may go on with an answer that nobody reads any more."""
_PORTS = {"http": 80, "https": 443}
_WITH_BODY = ("POST", "PUT")
"""Methods whose requests say that they have no body, since servers would wait for one."""


async def ask_http(check: Check, caller: Machine) -> Attempt:
    """Return whether the answer is as the check wants it, and what it was.

    Raise `OSError` if there was no answer: `TimeoutError` if it did not come in time, `ssl.SSLError` if the other end
    is not who it should be.
    """
    url = urlsplit(check.http or "")
    host = url.hostname or ""
    async with (
        asyncio.timeout(check.timeout) as limit,
        caller.dial(host, url.port or _PORTS[url.scheme], timeout=check.timeout) as stream,
    ):
        exchange = _Exchange(await _over_tls(check, host, stream) if url.scheme == "https" else stream)
        try:
            await exchange.ask(_request(check, url))
            attempt = await _judged(check, exchange)
        except h11.LocalProtocolError as error:
            return False, f"no proper HTTP request: {error}"
        except h11.RemoteProtocolError as error:
            return False, f"no proper HTTP answer: {_plain(error)}"
        deadline = limit.when()
        limit.reschedule(None)  # the check has its answer: its timeout must not fail it any more
        await exchange.let_end(deadline)
        return attempt


async def _over_tls(check: Check, host: str, stream: TcpStream) -> TlsStream:
    tls = TlsStream(stream, trusting(verify=check.verify_tls), host)
    await tls.shake_hands()
    return tls


async def _judged(check: Check, exchange: _Exchange) -> Attempt:
    status, reason = await exchange.head()
    got = f"{status} {reason}".strip()
    if status not in check.status:
        return False, f"{got}, wanted {' or '.join(map(str, check.status))}"
    if check.body is None:
        return True, got
    body = (await exchange.body()).decode(errors="replace")
    if not matches(check.body, body):
        return False, f"{got}, but its body does not match {check.body!r}"
    return True, f"{got}, its body matches"


def _request(check: Check, url: SplitResult) -> h11.Request:
    """Return the request of the check. Its own headers replace the usual ones."""
    name = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname or ""
    port = "" if url.port in (None, _PORTS[url.scheme]) else f":{url.port}"
    usual = {
        "Host": f"{name}{port}",
        "User-Agent": "fleet",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **({"Content-Length": "0"} if check.method in _WITH_BODY else {}),
    }
    own = {key.lower() for key in check.headers}
    headers = {key: value for key, value in usual.items() if key.lower() not in own} | check.headers
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return h11.Request(
        method=check.method,
        target=target,
        headers=[(key.encode(), value.strip().encode("latin-1")) for key, value in headers.items()],
    )


class _Exchange:
    """One request and its answer on a stream."""

    def __init__(self, stream: TcpStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        self._is_chunked = False
        self._body = bytearray()

    async def ask(self, request: h11.Request) -> None:
        """Send the request."""
        await self._stream.write((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))

    async def head(self) -> tuple[int, str]:
        """Read up to the end of the head, and return the status and its reason.

        Raise `ConnectionResetError` if not one byte came.
        """
        received = bytearray()
        while True:
            match self._http.next_event():
                case h11.NEED_DATA:
                    data = await self._stream.read(_BLOCK)
                    received += data
                    _require_http(received, is_all=not data)
                    if len(received) > MOST_BEFORE:
                        raise h11.RemoteProtocolError(f"{MOST_BEFORE >> 10} KiB, and no answer yet")
                    # Some servers leave out the empty line, and close the connection instead.
                    self._http.receive_data(data or b"\r\n")
                case h11.Response() | h11.InformationalResponse(status_code=101) as head:  # 101: switching protocols
                    self._is_chunked = any(name == b"transfer-encoding" for name, _ in head.headers)
                    return head.status_code, head.reason.decode("latin-1")

    async def body(self) -> bytes:
        """Return what follows the head, or its first `LONGEST_BODY` bytes.

        If the connection ends too early, return what came until then. Within a chunked body that is an error.
        """
        while len(self._body) < LONGEST_BODY:
            match self._http.next_event():
                case h11.NEED_DATA:
                    data = await self._more()
                    if not data and not self._is_chunked:
                        break
                    self._http.receive_data(data)
                case h11.Data(data=data):
                    self._body += data
                case _:
                    break
        return bytes(self._body[:LONGEST_BODY])

    async def let_end(self, deadline: float | None) -> None:
        """Read the rest of the answer if it comes soon: a server that is cut off would complain in its log."""
        clock = asyncio.get_running_loop().time
        soon = clock() + _SOON
        with contextlib.suppress(OSError, h11.RemoteProtocolError, HostError):
            async with asyncio.timeout_at(soon if deadline is None else min(soon, deadline)):
                await self.body()

    async def _more(self) -> bytes:
        try:
            return await self._stream.read(_BLOCK)
        except ConnectionResetError:  # how a server ends that closes without reading the request
            return b""


def _require_http(received: bytearray, *, is_all: bool) -> None:
    """Raise as soon as the bytes cannot be HTTP: servers of other protocols greet first, and wait for an answer."""
    end = received.find(b"\n", 0, LONGEST_LINE)
    if is_all and not received:
        raise ConnectionResetError
    if not received.startswith(b"HTTP/") and (end >= 0 or is_all or len(received) > LONGEST_LINE):
        raise h11.RemoteProtocolError(received[: end if end >= 0 else LONGEST_LINE].decode(errors="replace"))
    if is_all and not received.endswith(b"\n"):
        raise h11.RemoteProtocolError("it ends in the middle of a line")


def _plain(error: h11.RemoteProtocolError) -> str:
    """Return the message without the type in which h11 shows the bytes."""
    return re.sub(r"bytearray\(b(.*)\)", r"\1", str(error)[:1000])
