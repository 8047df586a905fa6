"""The documentation is held to the code: commands, links, error kinds, events, files and versions."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

import fleet
from fleet import cli, errors, events, model, sandbox
from fleet.cli.parse import complaint
from fleet.errors import UnreachableError
from fleet.host.facts import LastTransaction
from fleet.host.garbage import Garbage
from fleet.host.history import PastTransaction
from fleet.host.program import source
from fleet.host.secrets import Compared
from fleet.host.tickets import Ticket
from fleet.inventory import parse
from fleet.inventory.mesh import Mesh, MeshHost
from fleet.ledger import Kind
from fleet.ledger.chain import Chain, How
from fleet.ledger.entries import OURS
from fleet.ledger.witnesses import hear
from fleet.library import doctor, documents, garbage_documents, ledger_documents, meshing, metrics, secret_documents
from fleet.library.changes import Changes
from fleet.library.garbage_here import GarbageHere
from fleet.library.ledgers import LedgerReport
from fleet.library.past import PastRun
from fleet.library.secrets import HostSecretStates
from fleet.library.seen import LastSeen
from fleet.machine import Output
from fleet.notify.message import trial
from fleet.plans import LeftOut
from fleet.source.commands import shown
from fleet.state import RunRecord, Tidied
from tests.unit import builders
from tests.waiting import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))
TEXT = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")


def without_blocks(text: str) -> str:
    return BLOCK.sub("", text)


COMMANDS = [
    pytest.param(command, id=f"{page}:{command}")
    for page, text in TEXT.items()
    for command in dict.fromkeys(command for _, command in shown(text, cli.COMMANDS))
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_shown_parses(command: str) -> None:
    assert complaint(command) is None


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 20
    assert "`fleet lab`" in TEXT["docs/commands.md"]


def test_the_page_of_commands_has_every_command() -> None:
    rows = re.findall(r"^\| `fleet (\w+)` \|", TEXT["docs/commands.md"], re.MULTILINE)
    assert rows == list(cli.COMMANDS)


def test_the_readme_is_read_in_one_go() -> None:
    assert len(TEXT["README.md"].encode()) < 10_000


def test_every_page_is_linked_from_the_readme_or_a_page_that_is() -> None:
    seen: set[str] = set()
    left = ["README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        paths = (link.partition("#")[0] for link in LINK.findall(without_blocks(TEXT[page])))
        targets = {os.path.normpath(Path(page).parent / path) for path in paths if path and "://" not in path}
        left += [target for target in targets if target in TEXT and target not in seen]
    decisions = {page for page in TEXT if page.startswith("docs/decisions/")}
    assert set(TEXT) - decisions == seen - decisions


def anchors(text: str) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXT)
def test_links_lead_somewhere(page: str) -> None:
    for link in LINK.findall(without_blocks(TEXT[page])):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{page}: {link}"


def subclasses(parent: type[Any]) -> Iterator[type[Any]]:
    yield parent
    for child in parent.__subclasses__():
        yield from subclasses(child)


def sources() -> Iterator[str]:
    """The text of every module."""
    yield from (path.read_text() for path in sorted(Path(fleet.__file__).parent.rglob("*.py")))


def test_every_kind_of_failure_is_given_by_somebody() -> None:
    given = {name for text in sources() for name in re.findall(r"\bFailureKind\.([A-Z_]+)\b", text)}
    assert given == {kind.name for kind in model.FailureKind}
    assert {kind.kind for kind in subclasses(errors.FleetError)} <= set(model.FailureKind)


def table(text: str, head: str) -> list[list[str]]:
    """The cells of the first table whose header begins with this cell, without the header."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {head} |"):
            next(lines)
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_kind_of_failure_is_documented() -> None:
    shown = [kind for row in table(TEXT["docs/outcomes.md"], "kind") for kind in words(row[0])]
    assert set(shown) == {kind.value for kind in model.FailureKind}
    assert len(shown) == len(set(shown))


def test_every_outcome_is_documented() -> None:
    assert [words(row[0])[0] for row in table(TEXT["docs/outcomes.md"], "outcome")] == [
        one.value for one in model.Outcome
    ]


def test_every_exit_code_is_documented() -> None:
    shown = [int(row[0]) for row in table(TEXT["docs/outcomes.md"], "exit code")]
    assert shown == [4, 130, 5, 3, 2, 1, 0]
    assert {kind.exit_code for kind in subclasses(errors.FleetError)} <= set(shown)


def section(text: str, heading: str) -> str:
    """From this heading to the next of the same level or higher."""
    level = heading.split(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def concrete_events(parent: type[events.Event] = events.Event) -> Iterator[type[events.Event]]:
    for child in parent.__subclasses__():
        if child is events.HostEvent:
            yield from concrete_events(child)
        else:
            yield child


@pytest.mark.parametrize("event", list(concrete_events()), ids=events.event_name)
def test_every_event_is_documented_with_its_fields(event: type[events.Event]) -> None:
    text = section(TEXT["docs/json.md"], f"### `{events.event_name(event)}`")
    shown = [words(row[0])[0] for row in table(text, "field")]
    assert shown == [field.name for field in dataclasses.fields(event)]


def test_no_event_is_documented_that_there_is_not() -> None:
    shown = re.findall(r"^### `(\w+)`$", TEXT["docs/json.md"], re.MULTILINE)
    assert set(shown) == {events.event_name(event) for event in concrete_events()}


def fields_of(thing: str) -> set[str]:
    return {word for row in table(TEXT["docs/json.md"], f"field of {thing}") for word in words(row[0])}


def test_what_every_line_has_is_documented() -> None:
    event = events.RunInterrupted()
    envelope = events.Envelope(run=model.RunId("r"), seq=1, at=1.0, by="ann", event=event)
    assert fields_of("a line") == set(events.envelope_json(envelope))


def test_results_and_failures_are_documented() -> None:
    failure = model.Failure(kind=model.FailureKind.PUSH, message="no")
    outcome = model.HostResult(host=model.HostName("a"), outcome=model.Outcome.FAILED, failure=failure)
    shown = events.event_json(events.HostFinished(host=outcome.host, result=outcome))["result"]
    assert fields_of("a result") == set(shown)
    assert fields_of("a failure") == set(shown["error"])


@pytest.mark.parametrize("verb", ["status", "health", "generations", "history", "drift"])
def test_documents_of_reading_commands_are_documented(verb: str, tmp_path: Path) -> None:
    inventory = tmp_path / "fleet.toml"
    inventory.write_text(f'[hosts.a]\naddress = "127.0.0.1"\nport = {free_port()}\nuser = "root"\n')
    done = CliRunner().invoke(cli.fleet, [verb, "--json", "--file", str(inventory)], standalone_mode=False)
    (host,) = json.loads(done.stdout)["hosts"]
    assert fields_of(f"`{verb}`") == set(host)


def test_documents_of_commands_and_past_runs_are_documented(tmp_path: Path) -> None:
    name = model.HostName("a")
    (host,) = documents.execute({name: Output(status=0)})["hosts"]
    (failed,) = documents.execute({name: UnreachableError(name, "gone")})["hosts"]
    assert fields_of("`exec`") == set(host) == set(failed)
    (found,) = garbage_documents.garbage({name: Garbage(keep=1)}, {})["hosts"]
    (locked,) = garbage_documents.garbage({name: UnreachableError(name, "gone")}, {})["hosts"]
    assert fields_of("`gc`") == set(found) == set(locked)
    assert fields_of("`gc --local`") == set(garbage_documents.garbage_here(GarbageHere(tidied=Tidied()), None))
    compared = Compared(changed=())
    (host,) = secret_documents.push({name: compared})["hosts"]
    (failed,) = secret_documents.push({name: UnreachableError(name, "gone")})["hosts"]
    assert fields_of("`secrets push`") == set(host) == set(failed)
    (host,) = secret_documents.status({name: HostSecretStates(states=(), left=())})["hosts"]
    (failed,) = secret_documents.status({name: UnreachableError(name, "gone")})["hosts"]
    assert fields_of("`secrets status`") == set(host) == set(failed)
    (host,) = sandbox.list_json({name: ()})["hosts"]
    (failed,) = sandbox.list_json({name: UnreachableError(name, "gone")})["hosts"]
    assert fields_of("`sandbox list`") == set(host) == set(failed)
    (host,) = sandbox.report_json({name: sandbox.SandboxReport(state="active", left=1, holds=True)}, "x")["hosts"]
    (failed,) = sandbox.report_json({name: UnreachableError(name, "gone")}, "x")["hosts"]
    assert fields_of("`sandbox up`") == set(host) == set(failed)
    entry = MeshHost(public_key=f"{'A' * 43}=", address="fd00::1")
    known = parse(tmp_path / "fleet.toml", "[hosts.a]")
    (host,) = meshing.document(known, Mesh(prefix="fd00::/64", hosts={name: entry}))["hosts"]
    assert fields_of("`mesh show`") == set(host)
    past = PastRun(record=RunRecord(id=model.RunId("r")), is_under_way=False, envelopes=(), folder=tmp_path)
    assert fields_of("a run") | fields_of("`runs show`") == set(documents.past_run(past))
    seen = LastSeen(at=0.0, running=model.Closure("")).shown
    assert set(seen) <= set(
        words(" ".join(cell for row in table(TEXT["docs/json.md"], "field of `status`") for cell in row))
    )
    for kind, document in (("`who`", documents.who), ("`changes`", _changes)):
        (host,) = document({name: UnreachableError(name, "gone")})["hosts"]
        assert fields_of(kind) == set(host)
    whose = words(" ".join(cell for row in table(TEXT["docs/json.md"], "field of `who`") for cell in row))
    assert {field.name for kind in (Ticket, LastTransaction) for field in dataclasses.fields(kind)} <= set(whose)
    told = {field.name for field in dataclasses.fields(PastTransaction)}
    assert told <= set(
        words(" ".join(cell for row in table(TEXT["docs/json.md"], "field of `history`") for cell in row))
    )


def test_documents_of_the_ledger_are_documented() -> None:
    assert fields_of("`ledger show`") == set(ledger_documents.shown([], most=1))
    report = LedgerReport(verdict=hear(Chain(), [], ()), begun=(), under_way=(), waiting=0, put_aside=(), not_asked={})
    assert fields_of("`ledger verify`") == set(ledger_documents.verified(report))
    page = TEXT["docs/ledger.md"]
    assert {word for row in table(page, "what every entry has") for word in words(row[0])} == set(OURS)
    assert [word for row in table(page, "kind") for word in words(row[0])] == sorted(Kind, key=_as_on_the_page)
    assert {word for row in table(page, "how") for word in words(row[0])} == set(How)


def _as_on_the_page(kind: Kind) -> int:
    return TEXT["docs/ledger.md"].index(f"| `{kind}` |")


def _changes(answers: Any) -> Any:
    return documents.changes(Changes(hosts=answers, cursor="c1."))


def test_what_a_webhook_gets_is_documented() -> None:
    text = TEXT["docs/notifications.md"]
    document = trial("home", "ann", "desk", 0.0).document
    assert {word for row in table(text, "field of a notification") for word in words(row[0])} == set(document)
    (shown,) = [json.loads(block) for label, block in BLOCK.findall(text) if label == "json"]
    assert set(shown) == set(document)


def test_every_metric_is_documented() -> None:
    assert [words(row[0])[0] for row in table(TEXT["docs/notifications.md"], "metric")] == list(metrics.HELP)


def test_documents_of_looks_at_this_machine_are_documented(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("fleet.toml").write_text('[hosts.a]\n[[notify]]\nwebhook = "http://127.0.0.1:1/x"\n')
    for verb, key in (("doctor", "findings"), ("notify", "notify")):
        done = CliRunner().invoke(cli.fleet, [verb, "--json"], standalone_mode=False)
        assert fields_of(f"`{verb}`") == set(json.loads(done.stdout)[key][0])


def test_everything_that_the_doctor_looks_at_is_documented() -> None:
    shown = [words(row[0])[0] for row in table(TEXT["docs/shell.md"], "what")]
    assert shown == [what for what, _ in doctor.LOOKS]


def test_documents_of_plans_are_documented() -> None:
    made = builders.plan(("a",))
    assert fields_of("`plan`") == set(documents.plan((), made, None))
    whole = documents.whole_plan(made)
    assert fields_of("`plan`") | fields_of("`show`") == set(whole)
    assert fields_of("`policy explain`") == set(documents.verdict(made, None))
    told = " ".join(cell for row in table(TEXT["docs/json.md"], "field of `show`") for cell in row)
    assert {*whole["source"], *vars(LeftOut(host=model.HostName("a"), outcome=model.Outcome.FAILED))} <= set(
        words(told)
    )


def test_the_files_of_a_transaction_are_documented() -> None:
    program = source()
    written = {name for verb in ("put", "put_new", "put_durably") for name in re.findall(rf"\b{verb} (\w+) ", program)}
    written |= set(re.findall(r" >>?([a-z]+)\b", program))
    order = re.findall(r'^ +(\w[\w |]+)\) put_new "\$key"', program, re.MULTILINE)
    assert order, "begin writes the keys of its order by their names"
    written |= {key for line in order for key in line.split(" | ")} | {".bell", ".turn-STATE"}
    assert "mkfifo .bell" in program
    assert '".turn-$state"' in program
    shown = {word for row in table(TEXT["docs/transaction.md"], "file in `/run/fleet/open`") for word in words(row[0])}
    assert shown == written


def test_the_states_of_a_transaction_are_documented() -> None:
    drawn = re.search(r"^#   (switching .*?)\n#\n", source(), re.MULTILINE | re.DOTALL)
    assert drawn
    states = set(re.findall(r"[a-z]{5,}", drawn[1])) - {"goal", "test"}
    assert {words(row[0])[0] for row in table(TEXT["docs/transaction.md"], "state")} == states


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\]", TEXT["CHANGELOG.md"], re.MULTILINE)
    assert versions[0] == fleet.__version__


def test_decisions_are_numbered_and_short() -> None:
    decisions = [page for page in TEXT if page.startswith("docs/decisions/")]
    for number, page in enumerate(decisions, 1):
        assert page.startswith(f"docs/decisions/{number:04}-")
        assert TEXT[page].startswith(f"# {number}. ")
        assert len(TEXT[page].splitlines()) <= 30, page


def test_every_command_of_the_lab_is_documented() -> None:
    lab = cli.fleet.get_command(click.Context(cli.fleet), "lab")
    assert isinstance(lab, click.Group)
    found = {command.split()[2] for _, command in shown(section(TEXT["docs/lab.md"], "## Commands"), cli.COMMANDS)}
    assert found == set(lab.commands)


TEMPLATE = Path(fleet.__file__).parent / "lab" / "template"


def test_everything_that_a_lab_host_may_say_is_documented() -> None:
    defaults = re.search(
        r"^  defaults = \{\n(.*?)^  \};", (TEMPLATE / "system.nix").read_text(), re.MULTILINE | re.DOTALL
    )
    assert defaults
    keys = re.findall(r"^    (\w+) =", defaults[1], re.MULTILINE)
    assert len(keys) > 10
    assert [key for key in keys if not re.search(rf"\b{key}\b", TEXT["docs/lab.md"])] == []


@pytest.mark.parametrize("name", TEXT)
def test_no_page_has_two_versions_of_a_line(name: str) -> None:
    """As a merge leaves them that nobody has finished."""
    assert re.findall(r"^(?:<{7}|>{7}) .*|^={7}$", TEXT[name], re.MULTILINE) == []
