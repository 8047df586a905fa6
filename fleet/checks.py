"""One attempt at one declared check. When to ask again, and what a failure means, is for others to say."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, assert_never
from urllib.parse import urlsplit

from fleet.errors import CommandFailedError
from fleet.events import plain_text
from fleet.inventory.values import host_and_port
from fleet.machine import Command

if TYPE_CHECKING:
    from fleet.inventory import Check
    from fleet.machine import Machine

LONGEST_BODY = 1 << 20
LONGEST_OUTPUT = 64 << 10
"""Bytes that are kept of what a command writes, which may write without end."""
_LONGEST_ANSWER = 200
_LIVE = ("active", "reloading", "refreshing")

Verdict = tuple[bool, str]
"""Whether the check passed, and why in a few words."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one attempt at a check gave."""

    check: str
    passed: bool
    said: str
    """One short line for people."""
    seconds: float


async def ask(check: Check, *, host: Machine, controller: Machine) -> Answer:
    """The check was tried once, within its timeout.

    A check that fails is an answer; only a machine that cannot be asked raises (`UnreachableError`,
    `AuthenticationError`).
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    passed, said = await _verdict(check, host, controller if check.from_ == "controller" else host)
    line = " ".join(plain_text(said.replace("\n", " ")).split())
    return Answer(check=check.name, passed=passed, said=line[:_LONGEST_ANSWER], seconds=clock() - begun)


async def _verdict(check: Check, host: Machine, caller: Machine) -> Verdict:
    try:
        match check.kind:
            case "unit":
                return await _ask_unit(check, host)
            case "command":
                return await _ask_command(check, host)
            case "tcp":
                return await _ask_tcp(check, caller)
            case "http":
                return await _ask_http(check, caller)
            case "gpu":
                return await _ask_gpu(check, host)
            case _:
                assert_never(check.kind)
    except CommandFailedError as error:
        return False, error.message
    except OSError as error:
        return False, _reason(error, check.timeout)


async def _ask_unit(check: Check, host: Machine) -> Verdict:
    argv = ("systemctl", "show", "--property=LoadState,ActiveState,SubState", "--", check.unit or "")
    output = await host.run(Command(argv=argv, timeout=check.timeout))
    state = dict(line.split("=", 1) for line in output.stdout.splitlines() if "=" in line)
    if output.status != 0 or "ActiveState" not in state:
        return False, _last_line(output.stderr, output.stdout) or f"systemctl: exit status {output.status}"
    if state.get("LoadState") == "not-found":
        return False, "there is no such unit"
    said = f"{state['ActiveState']} ({state.get('SubState', '?')})"
    return state["ActiveState"] in _LIVE, said


async def _ask_command(check: Check, host: Machine) -> Verdict:
    output = await host.run(Command(argv=("sh", "-c", check.command or ""), timeout=check.timeout, keep=LONGEST_OUTPUT))
    if output.status == 0:
        return True, _last_line(output.stdout, output.stderr) or "exit status 0"
    line = _last_line(output.stderr, output.stdout)
    return False, f"exit status {output.status}" + (f": {line}" if line else "")


# Where NixOS has the tool and the library; the library's file is named after the version that userspace speaks.
_GPU_SCRIPT = r"""
PATH=$PATH:/run/current-system/sw/bin
sed -n 's/^NVRM version:/module=&/p' /proc/driver/nvidia/version 2>/dev/null
for library in /run/opengl-driver/lib/libnvidia-ml.so.1 /usr/lib/*/libnvidia-ml.so.1; do
    [ ! -e "$library" ] || { echo "library=$(readlink -f "$library")"; break; }
done
command -v nvidia-smi >/dev/null || { echo "nvidia-smi is not there" >&2; exit 127; }
nvidia-smi --query-gpu=driver_version,name --format=csv,noheader
"""
_VERSION = r"[0-9]+(?:\.[0-9]+)+"


async def _ask_gpu(check: Check, host: Machine) -> Verdict:
    output = await host.run(Command(argv=("sh", "-c", _GPU_SCRIPT), timeout=check.timeout))
    module = _found(rf"^module=.*?Kernel Module.*?\s({_VERSION})\s", output.stdout)
    # The library's own words are the fallback: nvidia-smi says them exactly when the two differ.
    library = _found(rf"^library=.*\.so\.({_VERSION})$", output.stdout)
    spoken = library or _found(rf"NVML library version:\s*({_VERSION})", output.stdout + output.stderr)
    if (library and module and library != module) or "version mismatch" in (output.stdout + output.stderr):
        return False, f"needs reboot: the kernel module is {module or 'another'}, userspace is {spoken or 'newer'}"
    gpus = [line for line in output.stdout.splitlines() if line.strip() and "=" not in line.split(",")[0]]
    if output.status != 0:
        return False, _last_line(output.stderr, "\n".join(gpus)) or f"nvidia-smi: exit status {output.status}"
    return _judge_gpus(check, gpus)


def _judge_gpus(check: Check, gpus: list[str]) -> Verdict:
    drivers = {line.split(",")[0].strip() for line in gpus}
    if not gpus:
        return False, "nvidia-smi lists no GPU"
    if broken := sorted(driver for driver in drivers if re.fullmatch(_VERSION, driver) is None):
        return False, f"nvidia-smi: {broken[0]}"
    got = f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}, driver {', '.join(sorted(drivers))}"
    if check.count is not None and len(gpus) != check.count:
        return False, f"{got}; wanted {check.count}"
    wanted = check.min_driver
    if wanted is not None and any(_numbers(driver) < _numbers(wanted) for driver in drivers):
        return False, f"{got}; wanted driver {wanted} or later"
    return True, got


def _found(pattern: str, text: str) -> str:
    """What the group of the pattern matches, or nothing."""
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _last_line(*texts: str) -> str:
    """The last line that is not blank, of the first text that has one."""
    return next((text.strip().splitlines()[-1] for text in texts if text.strip()), "")


async def _ask_tcp(check: Check, caller: Machine) -> Verdict:
    host, port = host_and_port(check.tcp)
    connection = await caller.dial(host, port or 0, timeout=check.timeout)
    connection.close()
    return True, "connected"


async def _ask_http(check: Check, caller: Machine) -> Verdict:
    clock = asyncio.get_running_loop().time
    deadline = clock() + check.timeout
    url = urlsplit(check.http or "")
    port = url.port or (443 if url.scheme == "https" else 80)
    connection = await caller.dial(url.hostname or "", port, timeout=check.timeout)
    # TLS takes the connection over; only a second handle can end a thread that waits for the network.
    with connection, connection.dup() as handle, ThreadPoolExecutor(1, "check") as pool:
        # Its own thread: in the shared pool, slow services would use up the time of healthy ones.
        exchange = asyncio.get_running_loop().run_in_executor(pool, _exchange, check, connection)
        try:
            await asyncio.wait({exchange}, timeout=max(0.0, deadline - clock()))
            late = not exchange.done()
        finally:
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)
            await asyncio.wait({exchange})
    return (False, _late(check.timeout)) if late else exchange.result()


def _exchange(check: Check, connection: socket.socket) -> Verdict:
    """One request and its answer, in a thread."""
    connection.settimeout(check.timeout)
    try:
        with contextlib.closing(_Connection(check, connection)) as http:
            url = urlsplit(check.http or "")
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            http.request(check.method, target, headers=_headers(check))
            with http.getresponse() as response:
                return _judge(check, response)
    except OSError as error:
        return False, _reason(error, check.timeout)
    except (HTTPException, ValueError) as error:
        return False, f"no proper HTTP answer: {str(error) or type(error).__name__}"


class _Connection(HTTPConnection):
    """An HTTP connection over a socket that somebody else has connected."""

    def __init__(self, check: Check, connection: socket.socket) -> None:
        url = urlsplit(check.http or "")
        self.default_port = 443 if url.scheme == "https" else 80
        self._dialled = connection
        self._tls = url.scheme == "https"
        self._verify = check.verify_tls
        super().__init__(url.hostname or "", url.port or self.default_port)

    def connect(self) -> None:
        """The socket speaks TLS where it should. Called by `request`, instead of connecting."""
        self.sock = self._dialled
        if self._tls:
            self.sock = trusting(verify=self._verify).wrap_socket(self._dialled, server_hostname=self.host)


@functools.cache
def trusting(*, verify: bool) -> ssl.SSLContext:
    """What TLS believes: the system's certificates and the right name, or anything. Kept: reading them is slow."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _headers(check: Check) -> dict[str, str]:
    return {"User-Agent": "fleet", "Accept": "*/*", "Connection": "close", **check.headers}


def _judge(check: Check, response: HTTPResponse) -> Verdict:
    got = f"{response.status} {response.reason}".strip()
    if response.status not in check.status:
        return False, f"{got}, wanted {' or '.join(map(str, check.status))}"
    if check.body is None:
        return True, got
    body = response.read(LONGEST_BODY).decode(errors="replace")
    if re.search(check.body, body) is None:
        return False, f"{got}, but its body does not match {check.body!r}"
    return True, f"{got}, its body matches"


def _late(timeout: float) -> str:
    return f"no answer within {timeout:g}s"


def _reason(error: OSError, timeout: float) -> str:
    match error:
        case TimeoutError():
            return _late(timeout)
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError():
            return "the connection was closed without an answer"
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}"
    return error.strerror or str(error) or type(error).__name__
