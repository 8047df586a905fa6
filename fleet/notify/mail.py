"""Send messages by e-mail, through a server that takes mail from us by SMTP (RFC 5321).

`EmailMessage` refuses headers with line breaks, and encodes what is not ASCII. The text is plain.
"""

from __future__ import annotations

import contextlib
import email.utils
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Any

from fleet.notify.line import Line, NotSentError, reason, talk
from fleet.notify.message import text_of
from fleet.notify.secret import secret
from fleet.text import shortened

if TYPE_CHECKING:
    import socket

    from fleet.inventory import Notify
    from fleet.notify.message import Message

MOST_SAID = 1 << 16
"""Bytes that a server may say in all."""


async def send(message: Message, notify: Notify) -> None:
    """Send the message to all its addresses. Raise `NotSentError` if the server does not take it for each of them."""
    password = secret(notify.password_file) if notify.password_file is not None else None
    mail = _mail(message, notify)
    await talk(lambda line: _deliver(line, notify, mail, password), timeout=notify.timeout)


def _mail(message: Message, notify: Notify) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = notify.from_
    mail["To"] = ", ".join(notify.email)
    mail["Subject"] = message.title
    mail["Date"] = email.utils.formatdate()
    mail["Message-ID"] = email.utils.make_msgid("fleet", domain=str(notify.from_).rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # nobody's holiday answers it (RFC 3834)
    mail.set_content(text_of(message), cte="quoted-printable")  # a server need not take eight bits
    return mail


class _BoundedFile:
    """What a server says, up to `MOST_SAID` bytes: smtplib reads the lines of an answer without an end."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = MOST_SAID

    def readline(self, most: int) -> bytes:
        """Return the next line. Raise `NotSentError` where the server says too much."""
        data: bytes = self._file.readline(most)
        self._left -= len(data)
        if self._left < 0:
            raise NotSentError("it says more than any mail server does")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Client(smtplib.SMTP):
    """A client of smtplib on a line, which reads no more than a server may say."""

    file: Any

    def __init__(self, line: Line, notify: Notify) -> None:
        """Connect, and begin TLS unless fleet.toml wants none."""
        self._line, self._context = line, ssl.create_default_context()
        self._begins_with_tls = notify.tls == "tls"
        host, port = notify.server
        try:
            super().__init__(host, port)
            if notify.tls == "starttls":
                self.starttls(context=self._context)  # raises where the server has none: there is no way on without
        except BaseException:
            self.close()
            raise

    def _get_socket(self, host: str, port: int, _timeout: object) -> socket.socket:
        stream = self._line.dial(host, port)
        return self._context.wrap_socket(stream, server_hostname=host) if self._begins_with_tls else stream

    def getreply(self) -> tuple[int, bytes]:
        """See smtplib."""
        if self.sock is not None and self.file is None:
            self.file = _BoundedFile(self.sock.makefile("rb"))
        return super().getreply()


def _deliver(line: Line, notify: Notify, mail: EmailMessage, password: str | None) -> None:
    try:
        client = _Client(line, notify)
        try:
            if password is not None:
                client.login(str(notify.user), password)
            refused = client.send_message(mail, from_addr=notify.from_, to_addrs=list(notify.email))
            with contextlib.suppress(smtplib.SMTPException, OSError):  # it has taken the mail
                client.quit()
        finally:
            client.close()
    except smtplib.SMTPException as error:  # which is an OSError too
        raise NotSentError(_words(error)) from error
    except OSError as error:
        raise NotSentError(reason(error)) from error
    if refused:
        raise NotSentError(f"it refused {', '.join(refused)}, and took the mail for the others")


def _words(error: smtplib.SMTPException) -> str:
    """Return what went wrong, in the words of the server if it has some."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refused the login ({error.smtp_code})"  # it may repeat what was sent
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answered {error.smtp_code} {_said(error.smtp_error)}".rstrip()
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        first, (status, said) = next(iter(error.recipients.items()))
        return f"it refused {first}: {status} {_said(said)}".rstrip()
    return str(error) or type(error).__name__


def _said(said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return shortened(" ".join(text.split()), 200)
