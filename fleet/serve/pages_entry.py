"""Come in and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, RedirectResponse, Response

from fleet.serve.door import ENTRY, cookie, cookie_name
from fleet.serve.guard import too_many
from fleet.serve.site import site_of
from fleet.serve.visitors import SESSION

if TYPE_CHECKING:
    from starlette.requests import Request

    from fleet.serve.site import Site


async def enter(request: Request) -> Response:
    """Let in whoever brings the word of a link or a token, and ask for one otherwise."""
    site = site_of(request)
    if request.method == "HEAD" or "prefetch" in request.headers.get("sec-purpose", ""):
        return Response(status_code=204)  # only a person spends a link
    if request.method == "GET" and "link" not in request.query_params:
        return _form(site, request)
    if request.method == "GET":
        made = site.visitors.by_link(request.query_params["link"][:200])
        wrong = "This link was used already, or is too old."
    else:
        async with request.form(max_files=0, max_fields=4) as form:
            token, onward = str(form.get("token", ""))[:200].strip(), str(form.get("next", ""))
        made = site.visitors.by_token(token) or site.visitors.by_link(token)
        wrong = "This token is nobody's, or is not good any more."
        if made is not None:
            return _with_cookie(site, RedirectResponse(_own_path(onward), 303), made)
    if made is None:
        wait = site.guesses.take(request.client.host if request.client else "")
        return too_many(wait) if wait else _form(site, request, wrong=wrong, status=403)
    return _with_cookie(site, RedirectResponse("/", 303), made)


async def leave(request: Request) -> Response:
    """End the session."""
    site = site_of(request)
    name = cookie_name(site.settings)
    site.visitors.leave(cookie(request.headers, name))
    answer = RedirectResponse(ENTRY, 303)
    answer.delete_cookie(name, secure=site.settings.is_encrypted, httponly=True, samesite="strict")
    return answer


async def static(request: Request) -> Response:
    """Hand out what pages are drawn with."""
    found = site_of(request).static.files.get(request.path_params["name"])
    if found is None:
        return PlainTextResponse("There is nothing here.", 404)
    body, kind = found
    return Response(body, media_type=kind, headers={"Cache-Control": "public, max-age=31536000, immutable"})


def _form(site: Site, request: Request, *, wrong: str = "", status: int = 200) -> Response:
    onward = _own_path(request.query_params.get("next", "/"))
    return site.renderer.page(
        request,
        "enter.html",
        status=status,
        fleet_name=site.fleet.inventory.name,
        visitor=None,
        trouble=(),
        wrong=wrong,
        onward=onward,
    )


def _own_path(path: str) -> str:
    """Return the path if it is one of this server; else that of the first page."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and len(path) < 500
    return path if is_own else "/"


def _with_cookie(site: Site, answer: Response, value: str) -> Response:
    answer.set_cookie(
        cookie_name(site.settings),
        value,
        max_age=int(SESSION),
        path="/",
        secure=site.settings.is_encrypted,
        httponly=True,
        samesite="strict",
    )
    return answer
