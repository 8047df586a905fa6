"""Send messages by HTTP: to any webhook, and to ntfy.

For ntfy the message is a JSON document too, and not the body of a request with titles in its header: see "Publish as
JSON" in docs.ntfy.sh/publish. So nothing that anybody has said can become a header.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fleet import __version__
from fleet.inventory import values
from fleet.inventory.telling import Occasion, may_carry_a_token
from fleet.notify.line import Line, NotSentError, reason, talk
from fleet.notify.message import text_of
from fleet.notify.secret import secret
from fleet.text import shortened

if TYPE_CHECKING:
    from pathlib import Path

    from fleet.inventory import Notify
    from fleet.notify.message import Message

LONGEST_BODY = 3500
"""Bytes of a text for ntfy, which takes 4096 and makes an attachment of a longer one."""
PRIORITIES = {Occasion.FINISHED: 3, Occasion.FAILED: 4, Occasion.NEEDS_HUMAN: 5}
"""Those of ntfy: 3 is the usual one, 5 the highest."""
TAGS = {Occasion.FINISHED: "white_check_mark", Occasion.FAILED: "x", Occasion.NEEDS_HUMAN: "rotating_light"}


async def send(message: Message, notify: Notify) -> None:
    """Post the message. Raise `NotSentError` unless the server has taken it (2xx). A redirect is not followed."""
    is_ntfy = notify.ntfy is not None or notify.ntfy_file is not None
    url = notify.webhook or notify.ntfy or _url(notify.webhook_file or notify.ntfy_file)
    token = secret(notify.token_file) if notify.token_file is not None else None
    if token is not None and not may_carry_a_token(url):
        raise NotSentError("the token would be sent without encryption; the address must begin with https")
    document = message.document
    if is_ntfy:
        url, _, topic = url.rstrip("/").rpartition("/")
        document = _for_ntfy(message, topic)
    body = json.dumps(document).encode("ascii")
    await talk(lambda line: _post(line, url, body, token), timeout=notify.timeout)


def _url(file: Path | None) -> str:
    """Return the address in a file. The error does not repeat it."""
    assert file is not None
    found = secret(file)
    try:
        return values.url(found)
    except ValueError:
        raise NotSentError(f"{file}: has no address of http or https, without a login in it") from None


def _for_ntfy(message: Message, topic: str) -> dict[str, Any]:
    text = text_of(message)
    while len(text.encode()) > LONGEST_BODY:
        text = text[: len(text) * 9 // 10]
    return {
        "topic": topic,
        "title": message.title,
        "message": text,
        "priority": PRIORITIES[message.occasion],
        "tags": [TAGS[message.occasion]],
    }


def _post(line: Line, url: str, body: bytes, token: str | None) -> None:
    """Send the body, and read no more of the answer than its head."""
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    headers = {"Content-Type": "application/json", "User-Agent": f"fleet/{__version__}"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(host, parts.port or (443 if is_tls else 80))
    if is_tls:
        connection.default_port = 443  # the header `Host` leaves it out then
    try:
        stream = line.dial(host, connection.port)
        connection.sock = ssl.create_default_context().wrap_socket(stream, server_hostname=host) if is_tls else stream
        connection.request("POST", target, body, headers)
        with connection.getresponse() as answer:
            status, said = answer.status, shortened(answer.reason, 100)
    except OSError as error:
        raise NotSentError(reason(error)) from error
    except http.client.HTTPException as error:
        raise NotSentError(f"its answer is no HTTP ({type(error).__name__})") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise NotSentError(f"it answered {status} {said}".rstrip())
