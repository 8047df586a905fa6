"""Draw pages from templates. What they are given is text, no markup: it is escaped, without control characters."""

from __future__ import annotations

import functools
import hashlib
import time
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from fleet.output.format import change, counted, human_age, human_bytes, human_seconds, short_name, unprefixed
from fleet.text import local_time, plain_text, shortened, valid_unicode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""What is handed out of the folder `static`, by the ends of names."""


class Static:
    """The files that pages are drawn with. All of them are in memory."""

    def __init__(self) -> None:
        folder = files("fleet.serve") / "static"
        self.files: Mapping[str, tuple[bytes, str]] = {
            place.name: (place.read_bytes(), TYPES[end])
            for place in folder.iterdir()
            if (end := f".{place.name.rpartition('.')[2]}") in TYPES
        }

    def url(self, name: str) -> str:
        """Return where a file is. Another version of it is elsewhere, so browsers may keep it."""
        return f"/static/{hashlib.sha256(self.files[name][0]).hexdigest()[:12]}/{name}"


class Renderer:
    """Draws pages."""

    def __init__(self, static: Static) -> None:
        self._environment = Environment(
            loader=PackageLoader("fleet.serve", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_plain,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "ago": lambda moment: f"{human_age(time.time() - moment)} ago" if moment else "never",
            "moment": lambda moment: local_time(moment) if moment else "?",
            "clock": lambda moment: local_time(moment, "%H:%M:%S") if moment else "?",
            "iso": lambda moment: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment)) if moment else "",
            "bytes": human_bytes,
            "seconds": human_seconds,
            "counted": counted,
            "words": lambda text: str(text).replace("_", " "),
            "cut": shortened,
            "short": short_name,
            "change": change,
            "unprefixed": unprefixed,
        }
        self._environment.globals |= {"static": functools.cache(static.url)}

    def text(self, template: str, **values: Any) -> str:
        """Return the page as text."""
        return self._environment.get_template(template).render(**values)

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Return the page as an answer. Without the frame around it, if it is to replace what a page shows already."""
        is_part = "hx-request" in request.headers
        layout = "part.html" if is_part else "page.html"
        text = self.text(template, layout=layout, url=_own(request), request=request, now=time.time(), **values)
        return HTMLResponse(text, status, headers={"Vary": "HX-Request"})


def _own(request: Request) -> str:
    """Return the address of a page without the server."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _plain(value: Any) -> Any:
    """Return the value as it may be shown. What is markup already is what a template has made."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return valid_unicode(plain_text(value))
    return "" if value is None else value
