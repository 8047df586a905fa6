"""Let the `--json` output of commands that carry out runs end with `run_finished`, though there was no run."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import click

from fleet.errors import INTERRUPTED, ConfigError, FleetError


class Reporting(click.Command):
    """A command that carries out a run. With `--json`, scripts wait for the last event of that, whatever happens."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        as_json = "--json" in itertools.takewhile(lambda word: word != "--", args) and not extra
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            if as_json:
                end_without_run(ConfigError(error.format_message()), error.exit_code)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        as_json = bool(ctx.params.get("as_json"))
        try:
            return super().invoke(ctx)
        except (click.exceptions.Abort, KeyboardInterrupt):
            if as_json:
                end_without_run(FleetError("interrupted"), INTERRUPTED)
            raise
        except click.ClickException as error:
            if as_json:
                end_without_run(ConfigError(error.format_message()), error.exit_code)
            raise
        except FleetError as error:
            if as_json:
                end_without_run(error, error.exit_code)
            raise


def end_without_run(error: FleetError | None = None, code: int = 0) -> None:
    """Write the event that ends each run to stdout: there was none."""
    from fleet.events import Envelopes, RunFinished
    from fleet.model import RunId
    from fleet.output.jsonl import JsonLines

    failure = error.failure() if error is not None else None
    finished = RunFinished(run=RunId(""), exit_code=code, error=failure, hosts=())
    JsonLines(sys.stdout)(Envelopes(RunId(""), "").wrap(finished))
