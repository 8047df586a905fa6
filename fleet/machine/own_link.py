"""The link to this very machine, and what of a proof is left of SSH here: a login to the local SSH server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from fleet.errors import AuthenticationError, CommandFailedError, UnreachableError
from fleet.machine import Command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from fleet.inventory import Host
    from fleet.machine import Bridge, OnAnswer, OnLine, Output, RemoteMachine, Stream, TcpStream
    from fleet.machine.own import OwnMachine

SERVERS = ("sshd.service", "sshd.socket", "ssh.service", "ssh.socket")
"""The units of SSH servers, as NixOS and Debian name them."""
NO_SERVER = "no SSH server listens here: its units and checks alone have proven the system"
NOT_LET_IN = (
    "the SSH server here has proven its host key and let nobody in ({refusal}): "
    "with a key of your own in authorized_keys a proof logs in, too"
)
TRUE_TIMEOUT = 20.0
"""Seconds in which a login has to run `true`."""
ASK_SYSTEMD = 30.0
"""Seconds in which systemd says what it knows of them. It refuses calls while it re-executes."""


class LogIn(Protocol):
    """Logs in to the SSH server of this machine."""

    def __call__(self, *, by_keys: bool) -> AbstractAsyncContextManager[RemoteMachine]:
        """Log in, and log out on the way out. Without `by_keys` no key is offered, so that nobody is let in.

        Raises what `Connector.connect` raises. An `AuthenticationError` says whether the server has proven its key.
        """
        ...


class OwnLink:
    """A `Link` to this machine. There is no connection to lose; only a proof logs in.

    What a login here was before the switch is what it has to be afterwards. A login that was not possible before, since
    nobody here has a key for this machine, proves less, and no server proves nothing of the kind: `shortfall` says so.
    """

    is_here = True
    """See `Link.is_here`."""

    def __init__(self, host: Host, machine: OwnMachine, log_in: LogIn) -> None:
        self.host = host
        self._machine = machine
        self._log_in = log_in
        self._is_served: bool | None = None
        """Whether an SSH server answered here before the switch; None if nobody has looked."""
        self._lets_in: bool | None = None
        """Whether it has let us in; None if nobody has tried."""
        self._refusal = ""
        self._shortfall = ""

    @property
    def host_key(self) -> str:
        """See `RemoteMachine.host_key`."""
        return self._machine.host_key

    @property
    def shortfall(self) -> str:
        """See `Link.shortfall`."""
        return self._shortfall

    async def open(self, *, on_answer: OnAnswer | None = None) -> None:
        """See `Link.open`. There is nothing to connect."""
        if on_answer is not None:
            on_answer()

    async def run(self, command: Command, *, on_line: OnLine | None = None) -> Output:
        """See `Machine.run`."""
        return await self._machine.run(command, on_line=on_line)

    def dial(self, host: str, port: int, *, timeout: float) -> AbstractAsyncContextManager[TcpStream]:
        """See `Machine.dial`."""
        return self._machine.dial(host, port, timeout=timeout)

    def bridge(self, command: Command) -> AbstractAsyncContextManager[Bridge]:
        """See `RemoteMachine.bridge`."""
        return self._machine.bridge(command)

    def stream(self, command: Command) -> AbstractAsyncContextManager[Stream]:
        """See `RemoteMachine.stream`."""
        return self._machine.stream(command)

    async def rehearse(self) -> None:
        """See `Link.rehearse`. Raise `HostKeyError` if the server here does not have the key of fleet.toml.

        Raise what `Machine.run` raises if a login here does not become root, since then a proof could not look.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                machine = await self._enter_by_ssh(stack)
            except UnreachableError as error:  # one that is too busy now may let us in later
                self._is_served = not error.is_refused
                return
            self._is_served = True
            ran = await machine.run(Command(argv=("true",), timeout=TRUE_TIMEOUT))
            if ran.status != 0:
                message = f"a login to the SSH server here runs nothing: `true` ends with exit status {ran.status}"
                raise CommandFailedError(self.host.name, message, said=ran.stderr.splitlines()[-3:])

    @contextlib.asynccontextmanager
    async def fresh(self) -> AsyncIterator[RemoteMachine]:
        """See `Link.fresh`. What is opened is this machine itself where nobody could log in before either."""
        async with contextlib.AsyncExitStack() as stack:
            yield await self._enter(stack)

    async def close(self) -> None:
        """See `Link.close`. There is nothing to close."""

    async def _enter(self, stack: contextlib.AsyncExitStack) -> RemoteMachine:
        """Log in as far as that can be asked for, and return the machine that was logged in to, or else this one."""
        try:
            return await self._enter_by_ssh(stack)
        except UnreachableError as error:
            if not error.is_refused or (self._is_served is not False and await self._has_server()):
                raise
            self._shortfall = NO_SERVER
            return self._machine

    async def _enter_by_ssh(self, stack: contextlib.AsyncExitStack) -> RemoteMachine:
        """Log in, or let the server prove its key where no key of ours was of use before."""
        if self._lets_in is not False:
            try:
                machine = await stack.enter_async_context(self._log_in(by_keys=True))
            except AuthenticationError as error:
                if self._lets_in:
                    raise
                self._refusal = error.message
                if error.has_proven_key:
                    return self._not_let_in()
            else:
                self._lets_in, self._shortfall = True, ""
                return machine
        # Refusals count against whoever comes again and again (PerSourcePenalties), so no key is offered now.
        try:
            return await stack.enter_async_context(self._log_in(by_keys=False))
        except AuthenticationError as error:
            if not error.has_proven_key:
                raise
            return self._not_let_in()

    def _not_let_in(self) -> RemoteMachine:
        self._lets_in, self._shortfall = False, NOT_LET_IN.format(refusal=self._refusal)
        return self._machine

    async def _has_server(self) -> bool:
        """Whether the system that runs is meant to have an SSH server. Raise `HostError` if systemd does not say."""
        argv = ("systemctl", "show", "--property=LoadState,UnitFileState,ActiveState", "--", *SERVERS)
        said = await self._machine.run(Command(argv=argv, root=False, timeout=ASK_SYSTEMD))
        if said.status != 0:
            raise CommandFailedError(
                self.host.name,
                "systemd does not say whether there is an SSH server",
                said=said.stderr.splitlines()[-3:],
            )
        units = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in said.stdout.split("\n\n")]
        return any(
            unit.get("LoadState") == "loaded"
            and (unit.get("ActiveState") != "inactive" or unit.get("UnitFileState") != "disabled")
            for unit in units
        )
