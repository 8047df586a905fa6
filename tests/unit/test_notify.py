"""Those whom fleet.toml names are told how a run has ended; whoever cannot be told changes nothing."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.inventory import Occasion, parse
from fleet.model import Failure, FailureKind, HostName, HostResult, Outcome
from fleet.notify import send_to_all
from fleet.notify.message import MOST_HOSTS, Ended, Message, message_about, text_of
from tests.unit import receivers
from tests.unit.receivers import CERTIFICATE, hook, mailbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.inventory import Notify

EVIL = "503\r\nBcc: thief@example.org\r\n\r\n<script>\x1b[31m\u202e\x00 <!channel> ☃"


def notify(text: str) -> Notify:
    (one,) = parse(Path("/etc/home/fleet.toml"), f"[hosts.web]\n[[notify]]\n{text}").notify
    return one


def failure(message: str = EVIL) -> Failure:
    return Failure(kind=FailureKind.UNHEALTHY, message=message, now=f"runs {EVIL}", hint=EVIL)


def host(name: str, outcome: Outcome, message: str = "") -> HostResult:
    return HostResult(host=HostName(name), outcome=outcome, failure=failure(message) if message else None)


def ended(code: int, *hosts: HostResult, **more: Any) -> Ended:
    known: dict[str, Any] = {"fleet": "home", "run": "20261120T042211-3fa9c1d2", "command": "deploy", "by": "ann"}
    return Ended(**{**known, "origin": "desk", "exit_code": code, "finished": 1795946460.0, "hosts": hosts, **more})


FAILED = message_about(ended(1, host("web", Outcome.ROLLED_BACK, EVIL), host("db", Outcome.KEPT), intent=EVIL))


async def told(message: Message, *texts: str) -> tuple[str, ...]:
    return await send_to_all(message, [notify(text) for text in texts])


# --- what is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "hosts", "occasion", "title"),
    [
        (0, [host("a", Outcome.KEPT)], "finished", "fleet home: deploy finished: 1 kept"),
        (0, [], "finished", "fleet home: deploy finished: no hosts"),
        (1, [host("a", Outcome.KEPT), host("b", Outcome.ROLLED_BACK, "x")], "failed",
         "fleet home: deploy failed: 1 kept, 1 rolled back (b)"),
        (4, [host("a", Outcome.NEEDS_HUMAN, "x"), host("b", Outcome.ROLLED_BACK, "x")], "needs_human",
         "fleet home: deploy needs a human: 1 rolled back, 1 needs human (a)"),
        (130, [host("a", Outcome.SKIPPED, "x")], "failed", "fleet home: deploy failed: 1 skipped, interrupted (a)"),
        (5, [host("a", Outcome.FAILED, "x")], "failed", "fleet home: deploy failed: 1 failed (a)"),
    ],
)  # fmt: skip
def test_each_end_has_its_occasion_and_one_line(
    code: int, hosts: Sequence[HostResult], occasion: str, title: str
) -> None:
    message = message_about(ended(code, *hosts))
    assert (message.occasion, message.title) == (occasion, title)
    assert (message.document["event"], message.document["text"]) == (occasion, title)


def test_run_that_came_to_no_host_tells_why() -> None:
    error = Failure(kind=FailureKind.EVALUATION, message="attribute 'web' missing")
    message = message_about(ended(3, error=error))
    assert message.title == "fleet home: deploy failed: evaluation error"
    assert "error: attribute 'web' missing" in message.lines
    assert message.document["error"]["kind"] == "evaluation"


def test_what_others_said_is_never_in_the_title_and_never_a_line_of_its_own() -> None:
    assert FAILED.title == "fleet home: deploy failed: 1 kept, 1 rolled back (web)"
    text = text_of(FAILED)
    assert all(line.startswith(("intent: ", "web: ", "  now: ", "run ", "fleet runs ")) for line in text.splitlines())
    for hidden in ("\x1b", "\x00", "\u202e", "\r"):
        assert hidden not in text
        assert hidden not in json.dumps(FAILED.document, ensure_ascii=False)


def test_message_is_bounded_whatever_hosts_say() -> None:
    many = [host(f"host-{number}", Outcome.FAILED, "x" * 100_000) for number in range(10_000)]
    message = message_about(ended(1, *many))
    assert len(message.title) < 300
    assert len(text_of(message)) < 200_000
    assert len(json.dumps(message.document)) < 200_000
    assert len(message.document["hosts"]) == MOST_HOSTS
    assert message.document["more_hosts"] == 10_000 - MOST_HOSTS
    assert f"and {10_000 - MOST_HOSTS} more hosts" in message.lines


# --- by HTTP ---------------------------------------------------------------------------------------


async def test_webhook_gets_one_document() -> None:
    with hook() as server:
        assert await told(FAILED, f'webhook = "{server.url}"') == ()
    assert server.bodies == [FAILED.document]
    assert server.paths == ["/hook"]
    assert server.headers[0]["content-type"] == "application/json"
    assert "authorization" not in server.headers[0]


async def test_nobody_is_told_of_what_they_do_not_want_to_know() -> None:
    with hook() as server:
        assert await told(FAILED, f'webhook = "{server.url}"\non = ["finished", "needs_human"]') == ()
    assert server.bodies == []


async def test_ntfy_gets_its_own_document_and_no_header_of_ours(tmp_path: Path) -> None:
    token = secret_in(tmp_path, "tk_abc")
    human = message_about(ended(4, host("web", Outcome.NEEDS_HUMAN, "☃" * 9000)))
    with hook() as server:
        url = f"http://127.0.0.1:{server.port}/alerts"
        assert await told(human, f'ntfy = "{url}"\ntoken_file = "{token}"') == ()
    (body,) = server.bodies
    assert (body["topic"], body["title"], body["priority"]) == ("alerts", human.title, 5)
    assert 100 < len(body["message"].encode()) < 4096
    assert server.paths == ["/"]
    assert server.headers[0]["authorization"] == "Bearer tk_abc"
    assert "title" not in server.headers[0]


def secret_in(folder: Path, text: str, name: str = "secret", mode: int = 0o600) -> Path:
    file = folder / name
    file.write_text(text)
    file.chmod(mode)
    return file


async def test_address_may_be_in_a_file_and_is_never_said(tmp_path: Path) -> None:
    with hook() as server:
        file = secret_in(tmp_path, f"http://127.0.0.1:{server.port}/services/T0/s3cr3t?key=v\n")
        assert await told(FAILED, f'webhook_file = "{file}"') == ()
        assert server.paths == ["/services/T0/s3cr3t?key=v"]
        server.status = 403
        (trouble,) = await told(FAILED, f'webhook_file = "{file}"')
    assert trouble == "webhook was not told: it answered 403 Forbidden"


@pytest.mark.parametrize(
    ("text", "mode", "trouble"),
    [
        ("", 0o600, "must have one line"),
        ("a\nb\n", 0o600, "must have one line"),
        ("a\r\nX-Evil: b", 0o600, "must have one line"),
        ("ü", 0o600, "has characters that are not ASCII"),
        ("fine", 0o644, "everybody may read it"),
        ("x" * 5000, 0o600, "cannot be read: has more than 4 KiB"),
    ],
)
async def test_token_that_is_no_secret_line_is_not_sent(tmp_path: Path, text: str, mode: int, trouble: str) -> None:
    file = secret_in(tmp_path, text, mode=mode)
    with hook() as server:
        (said,) = await told(FAILED, f'webhook = "{server.url}"\ntoken_file = "{file}"')
    assert trouble in said
    assert server.bodies == []


async def test_token_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    (said,) = await told(FAILED, f'webhook = "http://127.0.0.1:1/"\ntoken_file = "{tmp_path}/none"')
    assert said == f"webhook 127.0.0.1 was not told: {tmp_path}/none: cannot be read: No such file or directory"


async def test_token_does_not_follow_an_address_without_encryption(tmp_path: Path) -> None:
    url, token = secret_in(tmp_path, "http://192.0.2.1/x", "url"), secret_in(tmp_path, "t", "token")
    (said,) = await told(FAILED, f'webhook_file = "{url}"\ntoken_file = "{token}"')
    assert said.endswith("the token would be sent without encryption; the address must begin with https")


async def test_redirect_is_not_followed(tmp_path: Path) -> None:
    with hook() as other, hook() as server:
        server.status, server.answer = 307, {"Location": other.url}
        token = secret_in(tmp_path, "t")
        (said,) = await told(FAILED, f'webhook = "{server.url}"\ntoken_file = "{token}"')
    assert said == "webhook 127.0.0.1 was not told: it answered 307 Temporary Redirect"
    assert other.bodies == []


async def test_https_is_only_with_a_server_that_proves_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with hook(tls=True) as server:
        (said,) = await told(FAILED, f'webhook = "https://localhost:{server.port}/"')
        assert "its certificate is refused: self" in said
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert await told(FAILED, f'webhook = "https://localhost:{server.port}/"') == ()
        (said,) = await told(FAILED, f'webhook = "https://127.0.0.1:{server.port}/"')
        assert "its certificate is refused: IP address mismatch" in said
    assert len(server.bodies) == 1


async def test_server_that_is_none_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert await told(FAILED, f'webhook = "http://127.0.0.1:{port}/"') == (
        "webhook 127.0.0.1 was not told: Connection refused",
    )

    def other(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"SSH-2.0-x\r\n")
        connection.recv(1 << 16)

    with receivers.serving(other) as port:
        assert await told(FAILED, f'webhook = "http://127.0.0.1:{port}/"') == (
            "webhook 127.0.0.1 was not told: its answer is no HTTP (BadStatusLine)",
        )


def dripping(connection: socket.socket, over: threading.Event, what: bytes = b"x") -> None:
    """Answer a byte now and then, for ever: no wait for one byte is long."""
    while not over.wait(0.02):
        connection.sendall(what)


@pytest.mark.parametrize("way", ["http", "https", "smtp"])
async def test_server_that_never_ends_its_answer_is_left_when_the_timeout_is_over(way: str) -> None:
    over = threading.Event()
    with receivers.serving(lambda connection: dripping(connection, over)) as port:
        text = f'webhook = "{way}://127.0.0.1:{port}/"'
        if way == "smtp":
            text = f'email = "a@b.org"\nfrom = "f@b.org"\nsmtp = "127.0.0.1:{port}"\ntls = "none"'
        if way == "https":  # a TLS record that is announced as long, and comes slowly
            over.set()
        began = time.monotonic()
        (said,) = await told(FAILED, f'{text}\ntimeout = "300ms"')
        over.set()
    assert time.monotonic() - began < 5
    assert "was not told: " in said
    if way != "https":
        assert said.endswith("no answer within 0.3 s")
    await no_thread_is_left()


async def no_thread_is_left() -> None:
    """Nobody waits for the threads that talk; they end by themselves when their line is cut."""
    for thread in threading.enumerate():
        if thread.name == "fleet-notify":
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()


async def test_one_who_cannot_be_told_keeps_no_other_from_it() -> None:
    silent = threading.Event()

    def say_nothing(_: socket.socket) -> None:
        silent.wait()

    with receivers.serving(say_nothing) as port, hook() as server:
        both = (f'webhook = "http://127.0.0.1:{port}/"\ntimeout = "300ms"', f'webhook = "{server.url}"')
        (said,) = await told(FAILED, *both)
        silent.set()
    assert "no answer within 0.3 s" in said
    assert server.bodies == [FAILED.document]


# --- by e-mail -------------------------------------------------------------------------------------


def mail_to(box: receivers.Mailbox, more: str = "", tls: str = "none") -> str:
    return (
        f'email = ["ops@example.org", "ann@example.org"]\nfrom = "fleet@example.org"\n'
        f'smtp = "localhost:{box.port}"\ntls = "{tls}"\n{more}'
    )


async def test_mail_arrives_and_nothing_that_was_said_is_a_header() -> None:
    with mailbox() as box:
        assert await told(FAILED, mail_to(box)) == ()
    (mail,) = box.mails
    assert box.envelopes == [("fleet@example.org", ["ops@example.org", "ann@example.org"])]
    assert mail["Subject"] == FAILED.title
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"]
    assert mail["Message-ID"].endswith("@example.org>")
    assert mail["Bcc"] is None
    assert not mail.is_multipart()
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().splitlines() == text_of(FAILED).splitlines()
    assert "☃" in mail.get_content()
    assert all(byte < 128 for byte in box.raw[0])
    assert not box.was_encrypted[0]


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # aiosmtpd does not know that it has TLS
@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_login_is_sent_over_tls_only_to_the_right_server(
    tls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = secret_in(tmp_path, "correct horse\n")
    login = f'user = "fleet"\npassword_file = "{file}"\n'
    with mailbox(tls=tls, password="correct horse") as box:
        (said,) = await told(FAILED, mail_to(box, login, tls))
        assert "its certificate is refused: self" in said
        assert (box.mails, box.logins) == ([], [])
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert await told(FAILED, mail_to(box, login, tls)) == ()
        assert len(box.mails) == 1
        assert box.was_encrypted == [True] or tls == "tls", "there the whole server has it"
        assert box.logins[-1] == ("fleet", "correct horse")
        secret_in(tmp_path, "wrong\n")
        (said,) = await told(FAILED, mail_to(box, login, tls))
    assert said == "e-mail to ops@example.org, ann@example.org was not told: it refused the login (535)"


async def test_server_without_starttls_gets_no_mail() -> None:
    with mailbox() as box:
        (said,) = await told(FAILED, mail_to(box, tls="starttls"))
    assert "STARTTLS extension not supported by server" in said
    assert box.mails == []


async def test_recipient_that_is_refused_is_told_in_the_words_of_the_server() -> None:
    with mailbox() as box:
        box.refuses = "ann@example.org"
        (said,) = await told(FAILED, mail_to(box))
        assert said.endswith("it refused ann@example.org, and took the mail for the others")
        assert box.envelopes == [("fleet@example.org", ["ops@example.org"])]
        one = f'email = "ann@example.org"\nfrom = "f@example.org"\nsmtp = "localhost:{box.port}"\ntls = "none"'
        (said,) = await told(FAILED, one)
    assert said.endswith("it refused ann@example.org: 550 no such mailbox")


async def test_server_that_says_too_much_is_left() -> None:
    def talkative(connection: socket.socket) -> None:
        while True:
            connection.sendall(b"220-" + b"x" * 1000 + b"\r\n")

    with receivers.serving(talkative) as port:
        text = f'email = "a@b.org"\nfrom = "f@b.org"\nsmtp = "127.0.0.1:{port}"\ntls = "none"'
        (said,) = await told(FAILED, text)
    assert said.endswith("it says more than any mail server does")


def test_every_occasion_can_be_wanted() -> None:
    assert notify('webhook = "https://a.org/x"\non = ["finished", "failed", "needs_human"]').on == tuple(Occasion)
