"""The queue of procrastinate: the only file that knows it. A job says which share of which run may be taken.

Rows say what is true, and a job only wakes somebody: one that was lost is made again, and of two for one share the
second finds it taken. So nothing is lost with the queue, and another version of procrastinate makes it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import logging
from typing import TYPE_CHECKING, Any

import procrastinate
import psycopg
from procrastinate import exceptions
from procrastinate.schema import SchemaManager
from psycopg import sql

from fleet.errors import StateError
from fleet.model import HostName, RunId
from fleet.state import workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from fleet.state.session import Session
    from fleet.state.shares import Share

    Handler = Callable[[RunId, HostName], Awaitable[None]]

TASK = "fleet:share"
POLL = 5.0
"""Seconds between two looks for jobs, should a notification get lost."""
POOL = 4
"""Connections that a worker uses for jobs at most, beside the one on which it is notified."""
SILENT = 30
"""Seconds without a heartbeat after which a worker of the queue counts as lost."""

# It logs the arguments and the traceback of whatever fails. What people should know, fleet says itself.
for _name in ("procrastinate", "psycopg.pool"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


def queue_of(site: str) -> str:
    """Return the name of the queue of a site; the hosts of no site have one too."""
    return f"site/{site}"


class Jobs:
    """The jobs of one fleet, in a schema of their own."""

    def __init__(self, schema: str) -> None:
        """`schema` is that of the fleet."""
        name = f"{schema}_queue"
        self.schema = name if len(name) < 64 else f"fleet_{hashlib.sha256(schema.encode()).hexdigest()[:40]}_queue"
        self._path = f"{sql.Identifier(schema).as_string()},{sql.Identifier(self.schema).as_string()}"
        self._version = importlib.metadata.version("procrastinate")
        self._is_there = False

    def join(self, session: Session) -> None:
        """Let a transaction that writes reach the tables of the queue, which are there afterwards.

        Raise `StateError` if another version of procrastinate has made them and workers live that need it.
        """
        session.execute(f"SET LOCAL search_path TO {self._path}")
        if self._is_there:
            return
        found = session.execute("SELECT value FROM meta WHERE \"key\" = 'queue'").fetchone()
        version = str(found[0]) if found is not None else ""
        if version != self._version:
            if version and workers.has_living(session):
                why = f"workers live with procrastinate {version}, and this machine has {self._version}"
                raise StateError(f"the queue is that of another version: {why}", hint="stop them first, or install it")
            self._make(session)
        self._is_there = True

    def _make(self, session: Session) -> None:
        name = sql.Identifier(self.schema).as_string()
        session.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")
        session.execute(f"CREATE SCHEMA {name}; SET LOCAL search_path TO {name}")
        session.execute(SchemaManager.get_schema())
        session.execute(f"SET LOCAL search_path TO {self._path}")
        session.execute("DELETE FROM meta WHERE \"key\" = 'queue'")
        session.execute("INSERT INTO meta (\"key\", value) VALUES ('queue', :version)", {"version": self._version})

    def add(self, session: Session, run: RunId, of: Sequence[Share]) -> None:
        """Add a job for each of these shares, within the transaction."""
        sites: dict[str, list[Share]] = {}
        for share in of:
            sites.setdefault(share.site, []).append(share)
        app = _app()
        for site, those in sites.items():
            task = app.configure_task(TASK, queue=queue_of(site), connection=session.connection)
            with _errors_of_psycopg():
                task.batch_defer(*(dict[str, Any](run=run, host=share.host) for share in those))

    def remove_stalled(self, session: Session) -> None:
        """Remove the jobs of workers that are not heard of any more."""
        session.execute(
            "DELETE FROM procrastinate_jobs WHERE status = 'doing' AND (worker_id IS NULL OR worker_id IN"
            f" (SELECT id FROM procrastinate_workers WHERE last_heartbeat < now() - interval '{SILENT} seconds'))"
        )

    def without(self, session: Session, run: RunId, of: Sequence[Share]) -> list[Share]:
        """Return those of the shares that no job is there for."""
        found = session.execute(
            "SELECT args ->> 'host' FROM procrastinate_jobs WHERE args ->> 'run' = :run", {"run": run}
        )
        there = {host for (host,) in found}
        return [share for share in of if share.host not in there]

    async def work(self, arguments: Mapping[str, Any], handler: Handler, *, site: str, places: int, name: str) -> None:
        """Call `handler` for each job of a site, at most so many at a time, until this is cancelled.

        Then nothing new is taken, and this returns when the others have ended. Raise `StateError` if the database was
        lost; nothing new was taken since, and those that were under way have ended.
        """
        kwargs = {key: value for key, value in arguments.items() if key != "autocommit"}
        kwargs["options"] = f"-c search_path={self._path}"
        asyncio.get_running_loop().set_exception_handler(_without_jobs_of_others)
        connector = procrastinate.PsycopgConnector(kwargs=kwargs, min_size=1, max_size=POOL, timeout=10.0)
        app = _app(connector, handler)
        try:
            async with app.open_async():
                await app.run_worker_async(
                    queues=[queue_of(site)],
                    name=name,
                    concurrency=places,
                    fetch_job_polling_interval=POLL,
                    stalled_worker_timeout=SILENT,
                    delete_jobs="always",
                    install_signal_handlers=False,
                )
        except (exceptions.ConnectorException, psycopg.Error) as error:
            raise StateError(f"the queue cannot be reached: {error.__cause__ or error}") from error


def _without_jobs_of_others(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of a job that has ended and that others have removed, since they had not heard of this worker."""
    if not isinstance(context.get("exception"), exceptions.ConnectorException):
        loop.default_exception_handler(context)


def _app(connector: Any = None, handler: Handler | None = None) -> procrastinate.App:
    """Return the program of procrastinate, which has one task. Without a handler it only adds jobs."""
    app = procrastinate.App(connector=connector or procrastinate.SyncPsycopgConnector())

    @app.task(name=TASK)
    async def share(run: str, host: str) -> None:
        if handler is not None:
            await handler(RunId(run), HostName(host))

    return app


@contextlib.contextmanager
def _errors_of_psycopg() -> Iterator[None]:
    """Raise the errors of the database as they are, while inside."""
    try:
        yield
    except exceptions.ConnectorException as error:
        if isinstance(error.__cause__, psycopg.Error):
            raise error.__cause__ from error
        raise
