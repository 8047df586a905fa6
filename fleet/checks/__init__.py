"""Make one attempt at one declared check. Callers decide when to ask again, and what a failure means."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, assert_never

from fleet.checks.command import ask_command, ask_unit
from fleet.checks.gpu import ask_gpu
from fleet.errors import CommandFailedError
from fleet.events import plain_text
from fleet.inventory.values import host_and_port
from fleet.model import CheckAnswer

if TYPE_CHECKING:
    from fleet.checks.command import Attempt
    from fleet.inventory import Check
    from fleet.machine import Machine

_LONGEST_ANSWER = 200


async def ask(check: Check, *, host: Machine, controller: Machine) -> CheckAnswer:
    """Try the check once, within its timeout, and return its answer.

    A check that fails is an answer. Only a machine that cannot be asked raises, with `UnreachableError` or
    `AuthenticationError`.
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    passed, said = await _attempt(check, host, controller if check.from_ == "controller" else host)
    line = " ".join(plain_text(said.replace("\n", " ")).split())
    return CheckAnswer(check=check.name, passed=passed, said=line[:_LONGEST_ANSWER], seconds=clock() - begun)


async def _attempt(check: Check, host: Machine, caller: Machine) -> Attempt:
    try:
        match check.kind:
            case "unit":
                return await ask_unit(check, host)
            case "command":
                return await ask_command(check, host)
            case "gpu":
                return await ask_gpu(check, host)
            case "tcp":
                return await _ask_tcp(check, caller)
            case "http":
                from fleet.checks.http import ask_http  # imported here: takes 30 ms

                return await ask_http(check, caller)
            case _:
                assert_never(check.kind)
    except CommandFailedError as error:
        return False, error.message
    except OSError as error:
        return False, _reason(error, check.timeout)


async def _ask_tcp(check: Check, caller: Machine) -> Attempt:
    host, port = host_and_port(check.tcp)
    async with caller.dial(host, port or 0, timeout=check.timeout):
        return True, "connected"


def _reason(error: OSError, timeout: float) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {timeout:g}s"
        case ConnectionRefusedError():
            return "connection refused"
        case ConnectionResetError() | BrokenPipeError():
            return "the connection was closed without an answer"
        case ssl.SSLCertVerificationError():
            return f"TLS: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}"
    return error.strerror or str(error) or type(error).__name__
