"""What `fleet serve` does not let through: other pages, other names, old links, guesses, floods, and foreign markup."""

from __future__ import annotations

import asyncio
import re
import time
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from starlette.exceptions import HTTPException

from fleet.events import HostFinished, RunFinished
from fleet.ledger import Kind
from fleet.library.seen import LastSeen
from fleet.model import Failure, FailureKind, HostName, HostResult, Outcome, RunId
from fleet.plans import Source
from fleet.policy import tokens
from fleet.serve import guard, live
from fleet.serve.app import POSTS, ROUTES, application
from fleet.serve.guard import HEADERS, Guard
from fleet.serve.limits import Bucket
from fleet.serve.settings import settings
from fleet.serve.visitors import LINK, SESSION, Visitors
from tests.unit import served
from tests.unit.builders import facts
from tests.unit.ledgers import OPENED, entry
from tests.unit.served import BASE, OURS, SECRET, browser, come_in, site_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet.serve.site import Site
    from tests.unit.served import Browser
    from tests.unit.world import World

TYPED = {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "accept": "text/html"}
EVIL = "https://evil.example"


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = served.fleet_of(tmp_path, 14)
    asyncio.run(served.with_past(made))
    return made


@pytest.fixture
def site(world: World) -> Site:
    return site_of(world)


@pytest.fixture
def outside(site: Site) -> Iterator[Browser]:
    """A browser that has not come in."""
    with browser(site) as someone:
        yield someone


@pytest.fixture
def inside(site: Site, outside: Browser) -> Browser:
    """A browser that has come in."""
    come_in(outside, site)
    return outside


def every_path(world: World) -> list[str]:
    """Each page that there is of this fleet."""
    digest = world.state.plans()[0].digest
    values = {"name": "web-01", "run": served.ENDED, "digest": digest, "version": "x"}
    return [
        path.format(**values) for path, _ in ROUTES if path not in ("/live", "/metrics", "/static/{version}/{name}")
    ]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8420", "127.0.0.1", "127.0.0.1:8421", "localhost.:8420", ""]
)
def test_a_server_answers_to_its_own_names_alone(inside: Browser, host: str) -> None:
    answer = inside.get("/", headers={**TYPED, "host": host})
    assert answer.status_code == 421
    assert "web-01" not in answer.text


def test_its_names_are_those_of_loopback(inside: Browser) -> None:
    for host in ("localhost:8420", "127.0.0.1:8420", "[::1]:8420", "LOCALHOST:8420"):
        assert inside.get("/enter", headers={**TYPED, "host": host}).status_code == 200


@pytest.mark.parametrize(
    "said",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8420"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": BASE},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": EVIL},
        {},
    ],
)
@pytest.mark.parametrize("path", [path.format(name="web-01") for path, _ in POSTS])
def test_no_other_page_posts_with_somebodys_cookie(inside: Browser, path: str, said: dict[str, str]) -> None:
    assert inside.post(path, headers=said).status_code == 403
    assert inside.get("/", headers=TYPED, follow_redirects=False).status_code == 200


def test_no_other_page_lets_somebody_in(outside: Browser, site: Site) -> None:
    word = site.visitors.new_link()
    answer = outside.post("/enter", data={"token": word}, headers={"origin": EVIL, "sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("site_said", ["cross-site", "same-site"])
@pytest.mark.parametrize(
    ("mode", "target"), [("no-cors", "image"), ("cors", "empty"), ("no-cors", "script"), ("navigate", "iframe")]
)
def test_no_other_page_loads_anything_even_from_another_port(
    inside: Browser, site_said: str, mode: str, target: str
) -> None:
    said = {"sec-fetch-site": site_said, "sec-fetch-mode": mode, "sec-fetch-dest": target}
    assert inside.get("/", headers=said).status_code == 403


def test_a_link_elsewhere_may_lead_here(inside: Browser) -> None:
    assert inside.get("/", headers={**TYPED, "sec-fetch-site": "cross-site"}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(inside: Browser, method: str) -> None:
    assert inside.request(method, "/", headers=OURS).status_code == 405


def test_nobody_sees_anything_before_they_have_come_in(outside: Browser, world: World) -> None:
    for path in (*every_path(world), "/live", "/metrics"):
        shown = outside.get(path, headers=TYPED, follow_redirects=False)
        assert (shown.status_code, shown.headers["location"].partition("?")[0]) == (303, "/enter"), path
        plain = outside.get(path, follow_redirects=False)
        assert (plain.status_code, plain.headers["www-authenticate"]) == (401, "Bearer"), path
        part = outside.get(path, headers={**OURS, "hx-request": "true"}, follow_redirects=False)
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/enter"), path
    for path, _ in POSTS:
        assert outside.post(path.format(name="web-01"), headers=OURS, follow_redirects=False).status_code == 401


def test_the_cookie_is_for_this_server_and_no_script(outside: Browser, site: Site) -> None:
    answer = outside.get(f"/enter?link={site.visitors.new_link()}", headers=TYPED, follow_redirects=False)
    name, _, rest = answer.headers["set-cookie"].partition("=")
    assert name == "fleet-8420"
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in rest.split(";")}
    assert "domain" not in rest.lower()


def test_over_https_the_cookie_never_goes_anywhere_else(world: World) -> None:
    site = site_of(world, url="https://fleet.example.org")
    with browser(site) as someone:
        said = {**TYPED, "host": "fleet.example.org"}
        answer = someone.get(f"/enter?link={site.visitors.new_link()}", headers=said, follow_redirects=False)
    assert answer.headers["set-cookie"].startswith("__Host-fleet=")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert answer.headers["strict-transport-security"]


def test_a_link_lets_in_one_who_comes_in_time(outside: Browser, site: Site) -> None:
    word = site.visitors.new_link()
    fetched = outside.get(f"/enter?link={word}", headers={**TYPED, "sec-purpose": "prefetch;prerender"})
    assert fetched.status_code == outside.head(f"/enter?link={word}", headers=TYPED).status_code == 204
    assert outside.get("/", headers=TYPED, follow_redirects=False).status_code == 303
    assert outside.get(f"/enter?link={word}", headers=TYPED, follow_redirects=False).status_code == 303
    outside.cookies.clear()
    again = outside.get(f"/enter?link={word}", headers=TYPED, follow_redirects=False)
    assert again.status_code == 403
    assert "set-cookie" not in again.headers


def test_a_link_that_is_old_or_replaced_or_guessed_is_good_for_nothing() -> None:
    now = 1000.0
    visitors = Visitors("ann", lambda: None, clock=lambda: now)
    first, second = visitors.new_link(), visitors.new_link()
    assert visitors.by_link(first) is None
    now += LINK
    assert visitors.by_link(second) is None
    assert visitors.by_link("") is None
    word = visitors.new_link()
    cookie = visitors.by_link(word)
    assert cookie is not None
    assert visitors.session(cookie) is not None
    assert visitors.session(word) is None
    now += SESSION
    assert visitors.session(cookie) is None


def test_leaving_ends_the_session_for_every_copy_of_the_cookie(inside: Browser) -> None:
    kept = {**TYPED, "cookie": "; ".join(f"{name}={value}" for name, value in inside.cookies.items())}
    assert inside.get("/", headers=kept, follow_redirects=False).status_code == 200
    assert inside.post("/leave", headers=OURS, follow_redirects=False).status_code == 303
    assert inside.get("/", headers=kept, follow_redirects=False).status_code == 303


def with_token(world: World, *, seconds: float = 3600, kind: str = "person") -> str:
    """A token of ann."""
    token = tokens.new_token(int(time.time() + seconds))
    folder = world.file.parent
    (folder / "principals.toml").write_text(
        f'[principals.ann]\nkind = "{kind}"\ntokens = ["{tokens.digest_of(token)}"]\n'
    )
    return token


def test_a_token_lets_in_until_it_is_revoked_and_no_longer(world: World) -> None:
    token = with_token(world)
    site = site_of(world)
    with browser(site) as someone:
        bearer = {"authorization": f"Bearer {token}"}
        assert someone.get("/", headers=bearer).status_code == 200
        answer = someone.post("/enter", data={"token": token, "next": "/runs"}, headers=OURS, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
        assert someone.get("/", headers=TYPED, follow_redirects=False).status_code == 200
        (world.file.parent / "principals.toml").write_text('[principals.ann]\nkind = "person"\n')
        asyncio.run(site.source.refresh())
        assert someone.get("/", headers=TYPED, follow_redirects=False).status_code == 303
        assert someone.get("/", headers=bearer, follow_redirects=False).status_code == 401


@pytest.mark.parametrize("spoil", [lambda token: token[:-1], lambda token: token.upper(), lambda token: f"{token} "])
def test_a_token_that_is_almost_right_is_nobodys(world: World, spoil: Any) -> None:
    token = with_token(world)
    principals = world.fleet().principals()
    assert tokens.holder_of(token, principals, now=time.time()) is not None
    assert tokens.holder_of(spoil(token), principals, now=time.time()) is None


def test_nobody_makes_their_token_good_for_longer(world: World) -> None:
    token = with_token(world, seconds=10)
    principals = world.fleet().principals()
    later = time.time() + 20
    assert tokens.holder_of(token, principals, now=later) is None
    _, _, word = token.split("_", 2)
    assert tokens.holder_of(f"fleet_{int(later + 1000)}_{word}", principals, now=later) is None


def test_guesses_are_slowed_down_and_people_are_not(world: World) -> None:
    token = with_token(world)
    site = site_of(world)
    with browser(site) as someone:
        bearer = {"authorization": "Bearer guess"}
        codes = [someone.get("/", headers=bearer).status_code for _ in range(12)]
        assert (codes[:10], set(codes[10:])) == ([401] * 10, {429})
        posts = [
            someone.post("/enter", data={"token": "guess"}, headers=OURS, follow_redirects=False).status_code
            for _ in range(12)
        ]
        assert set(posts) == {429}
        assert someone.get("/", headers={"authorization": f"Bearer {token}"}).status_code == 200


@pytest.mark.parametrize(
    "onward", [EVIL, "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\r\nSet-Cookie: a=b"]
)
def test_coming_in_leads_nowhere_else(world: World, onward: str) -> None:
    token = with_token(world)
    with browser(site_of(world)) as someone:
        answer = someone.post("/enter", data={"token": token, "next": onward}, headers=OURS, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_bodies_are_bounded_however_they_come(inside: Browser) -> None:
    assert inside.post("/enter", content=b"x" * ((64 << 10) + 1), headers=OURS).status_code == 413
    pieces = (b"token=" + b"x" * 9000 for _ in range(100))
    form = {**OURS, "content-type": "application/x-www-form-urlencoded"}
    assert inside.post("/enter", content=pieces, headers=form).status_code == 413
    for length in ("-1", "1e9", "9" * 30, "0x10"):
        said = {**OURS, "content-length": length}
        assert inside.post("/leave", headers=said).status_code == 413
    many = {**OURS, "content-type": "multipart/form-data; boundary=b"}
    file = b'--b\r\nContent-Disposition: form-data; name="token"; filename="f"\r\n\r\nx\r\n--b--\r\n'
    assert inside.post("/enter", content=file, headers=many).status_code == 400


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SLOWEST", 0.02)

    async def app(_: Any, receive: Any, __: Any) -> None:
        await receive()

    async def never() -> Any:
        await asyncio.Event().wait()

    async def nowhere(_: Any) -> None:
        """Nobody reads it."""

    said = {"host": "127.0.0.1:8420", "origin": BASE}
    headers = [(name.encode(), value.encode()) for name, value in said.items()]
    scope = {"type": "http", "method": "POST", "path": "/enter", "headers": headers, "client": ("127.0.0.1", 1)}
    with pytest.raises(HTTPException) as refused:
        await Guard(app, settings())(scope, never, nowhere)
    assert refused.value.status_code == 408


def test_floods_are_refused(site: Site) -> None:
    app = application(site)
    app.requests = Bucket(burst=5, per_second=0.001)
    with served.Browser(app) as someone:
        answers = [someone.get("/enter", headers=TYPED) for _ in range(7)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert int(answers[-1].headers["retry-after"]) > 0


def test_every_answer_has_the_policy_that_pages_load_our_own_alone(
    inside: Browser, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug with a secret in it")

    answers = [
        inside.get(path, headers=TYPED) for path in (*every_path(world), "/enter", "/nowhere", "/static/x/style.css")
    ]
    answers += [inside.get("/", headers={**TYPED, "host": "evil"}), inside.request("PUT", "/", headers=OURS)]
    monkeypatch.setattr("fleet.serve.pages_hosts.matches", broken)
    bug = inside.get("/", headers=TYPED)
    assert bug.status_code == 500
    assert "Traceback" not in bug.text
    for answer in (*answers, bug):
        assert HEADERS.items() <= dict(answer.headers).items() | {
            (name, value) for name, value in HEADERS.items() if answer.headers.get(name) == value
        }, answer.url
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "*" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


class Elements(HTMLParser):
    """Finds what a page must not have: scripts and styles in it, and addresses that are not of this server."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.scripts = 0
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "style", "iframe", "object", "embed", "base"):
            self.scripts += tag == "script"
            self.wrong += [] if tag == "script" and (values.get("src") or "").startswith("/static/") else [tag]
        self._in_script = tag == "script"
        for name, value in attrs:
            if name.startswith(("on", "hx-on", "hx-vals", "hx-headers")) or name in ("style", "srcdoc"):
                self.wrong.append(f"{tag} {name}")
            if name in ("href", "src", "action", "hx-get", "hx-post") and not (value or "").startswith(("/", "#")):
                self.wrong.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.wrong.append("script with text")


def hostile(folder: Path) -> World:
    """A fleet in which everybody writes markup wherever they may."""
    bad = "\"><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202e' hx-get=https://evil.example"
    world = served.fleet_of(folder, 3)
    served.planned(
        world, ["web-01"], intent=bad, by=bad, source=Source(reference=bad, revision="1f3c9a0d", is_clean=True)
    )
    failure = Failure(kind=FailureKind.SWITCH, message=bad, ran=bad, said=(bad,), now=bad, hint=bad)
    ended = HostResult(host=HostName("web-01"), outcome=Outcome.FAILED, failure=failure, notes=(bad,))
    told = [
        (0.0, served.started(served.ENDED, ["web-01"])),
        (1.0, HostFinished(host=HostName("web-01"), result=ended)),
        (2.0, RunFinished(run=RunId(served.ENDED), exit_code=1, error=failure, hosts=(ended,))),
    ]
    asyncio.run(served.record(world, served.ENDED, served.envelopes(served.ENDED, bad, 1.0, told)))
    seen = facts(running=bad, failed_units=(bad,), generation=bad, booted_parts={"kernel": bad})
    record = LastSeen.of(seen, time.time()).record()
    world.state.remember_seen({HostName("web-01"): record}, known=list(world.inventory.hosts))
    world.state.ledger.enter(OPENED, entry(Kind.BEGIN, by=bad, run=bad, host=bad, why=bad))
    return world


def test_what_others_wrote_is_text_everywhere(tmp_path: Path) -> None:
    world = hostile(tmp_path)
    site = site_of(world)
    with browser(site) as someone:
        come_in(someone, site)
        shown = 0
        for path in (*every_path(world), "/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&show=%22%3E%3Cscript%3E"):
            answer = someone.get(path, headers=TYPED)
            elements = Elements()
            elements.feed(answer.text)
            assert elements.wrong == [], path
            assert elements.scripts == 2, path
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", answer.text), path
            shown += answer.text.count("&lt;script&gt;alert")
    assert shown > 10


def test_no_page_shows_a_secret_and_none_changes_a_host(inside: Browser, world: World) -> None:
    for path in every_path(world):
        assert SECRET not in inside.get(path, headers=TYPED).text, path
    assert world.began() == []
    assert sum(len(link.ran) for link in world.links.values()) == 0


def test_nothing_is_handed_out_but_what_pages_are_drawn_with(outside: Browser) -> None:
    for name in ("../app.py", "..%2fapp.py", "%2e%2e/settings.py", "SHA256SUMS", "htmx.LICENSE.txt", "/etc/passwd"):
        assert outside.get(f"/static/x/{name}", headers=TYPED, follow_redirects=False).status_code in (303, 401, 404)


def test_pages_that_listen_are_counted(inside: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_OF_ONE", 0)
    assert inside.get("/live", headers=OURS).status_code == 429
