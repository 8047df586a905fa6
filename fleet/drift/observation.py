"""Read what the scripts say of a host. It may be anything: what is no line of theirs is left out, and said so."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from fleet.drift.observed import Entry, Holder, Home, Key, Observation, Socket
from fleet.text import plain_text, valid_unicode, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONGEST = 1024
"""Characters of a name that are kept. No path that the kernel opens in one go has more than four times as many."""
_NAME = re.compile(r'"((?:[^"\\]|\\.)*+)"(?: -> "((?:[^"\\]|\\.)*+)")?')
_ESCAPE = re.compile(r"\\([0-7]{3}|.)")
_LETTERS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}


def observation(answer: str) -> Observation:
    """Return what an answer of the script says."""
    seen = Observation()
    package = ""
    for line in answer.split("\n"):  # and at nothing else: a name may hold any other separator
        kind, _, rest = line.partition("\t")
        if kind == "package":
            package = rest.partition("\t")[0]
        if kind == "conffile":
            seen.conffiles[_short(rest)] = package
        elif kind == "in":
            _of_home(seen, rest)
        elif line:
            _of_host(seen, kind, rest.split("\t"))
    return seen


def _of_host(seen: Observation, kind: str, fields: list[str]) -> None:
    """Take a line that root has written."""
    read = _READERS.get(kind)
    if read is None:
        seen.unread += 1
        return
    try:
        read(seen, fields)
    except (ValueError, IndexError):
        seen.unread += 1


def _of_home(seen: Observation, rest: str) -> None:
    """Take a line that the owner of the newest home may have written: nonsense there is only the owner's loss."""
    if not seen.homes:
        return
    home = seen.homes[-1]
    kind, _, rest = rest.partition("\t")
    with contextlib.suppress(ValueError):
        if kind == "entry":
            home.entries.append(entry(rest.split("\t")))
        elif kind == "keys":
            _, at, name = rest.split("\t", 2)
            home.key_file = _names(name)[0], whole_number(at)
        elif kind == "key":
            _, fingerprint, *words = rest.split(" ")
            if re.fullmatch(r"(SHA256|MD5):[\w+/=:]{1,100}", fingerprint):
                file, changed = home.key_file
                home.keys.append(Key(fingerprint=fingerprint, words=_short(" ".join(words)), file=file, at=changed))


def entry(fields: Sequence[str]) -> Entry:
    """Return the file that the fields of a line tell of. Raise `ValueError` if they do not."""
    mode, uid, size, at, device, *quoted = fields
    path, target = _names("\t".join(quoted))
    return Entry(
        path=path.replace("/./", "/").replace("//", "/"),
        mode=int(mode[:8], 16),
        uid=whole_number(uid),
        size=whole_number(size),
        at=whole_number(at),
        device=device,
        target=target,
    )


def _names(quoted: str) -> tuple[str, str]:
    """Return a name that is quoted as C does it, and where it leads, both fit for people."""
    found = _NAME.fullmatch(quoted)
    if found is None:
        raise ValueError(f"no name: {quoted[:80]!r}")
    return _plain(found[1]), _plain(found[2] or "")


def _plain(escaped: str) -> str:
    """Return the name with its letters, and with what is not printable escaped as it was."""

    def byte(match: re.Match[str]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 255 if len(code) == 3 else _LETTERS.get(code, ord(code) & 255)])

    raw, last = b"", 0
    for match in _ESCAPE.finditer(escaped[: 4 * LONGEST]):
        raw += escaped[last : match.start()].encode() + byte(match)
        last = match.end()
    raw += escaped[last : 4 * LONGEST].encode()
    text = raw.decode("utf-8", "surrogateescape")
    shown = (char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode() for char in text)
    return "".join(shown)[:LONGEST]


def _short(text: str) -> str:
    return valid_unicode(plain_text(text))[:LONGEST]


def _done(seen: Observation, fields: list[str]) -> None:
    seen.done.add(fields[0])


def _system(seen: Observation, fields: list[str]) -> None:
    seen.system, seen.switched = _short(fields[0]), whole_number(fields[1])


def _clock(seen: Observation, fields: list[str]) -> None:
    seen.now, seen.uptime = whole_number(fields[0]), whole_number(fields[1])


def _sum(seen: Observation, fields: list[str]) -> None:
    digest, path = "\t".join(fields).split("  ", 1)
    if re.fullmatch("[0-9a-f]{64}", digest):  # one that begins with a backslash has a name that is escaped in it
        seen.sums[_short(path).replace("//", "/")] = digest


def _user(seen: Observation, fields: list[str]) -> None:
    name, uid, gid, home, shell = fields[0].split(":")
    seen.users[_short(name)] = (whole_number(uid), _short(gid), _short(home), _short(shell))


def _password(seen: Observation, fields: list[str]) -> None:
    seen.passwords[_short(fields[0])] = f"{fields[1][:10]} {fields[2][:10]}"


def _group(seen: Observation, fields: list[str]) -> None:
    name, _, members = fields[0].split(":")
    seen.groups[_short(name)] = tuple(_short(member) for member in members.split(",") if member)


def _package(seen: Observation, fields: list[str]) -> None:
    seen.packages[_short(fields[0])] = whole_number(fields[1])


def _dynamic(seen: Observation, fields: list[str]) -> None:
    seen.dynamic = whole_number(fields[0]) or seen.dynamic


def _listener(seen: Observation, fields: list[str]) -> None:
    inode, table, address, port, uid = fields
    seen.sockets.append(
        Socket(inode=inode, table=table[:4], address=address[:32], port=int(port[:4], 16), uid=whole_number(uid))
    )


def _holder(seen: Observation, fields: list[str]) -> None:
    inode, pid, began, group, name = fields[0].strip("[]"), fields[1], fields[2], fields[3], fields[4]
    found = Holder(pid=whole_number(pid), began=whole_number(began), group=_short(group), name=_short(name)[:32])
    seen.holders.setdefault(inode, found)


def _socket(seen: Observation, fields: list[str]) -> None:
    seen.ports[0] = _short(fields[0])


def _port(seen: Observation, fields: list[str]) -> None:
    seen.ports.setdefault(whole_number(fields[0]), seen.ports.get(0, ""))


def _home(seen: Observation, fields: list[str]) -> None:
    name, uid, folder = fields
    seen.homes.append(Home(user=_short(name), uid=whole_number(uid), folder=_short(folder)))


def _actor(seen: Observation, fields: list[str]) -> None:
    seen.actors.append((whole_number(fields[0]), fields[1][:4], _short(fields[2])[:64]))


def _nixos(seen: Observation, _: list[str]) -> None:
    seen.is_nixos = True


def _end(seen: Observation, _: list[str]) -> None:
    seen.is_complete = True


def _etc(seen: Observation, fields: list[str]) -> None:
    seen.etc = entry(fields)


def _from(seen: Observation, fields: list[str]) -> None:
    seen.origin = _short(fields[0])[:64]


_READERS: dict[str, Callable[[Observation, list[str]], None]] = {
    "done": _done,
    "system": _system,
    "nixos": _nixos,
    "clock": _clock,
    "ours": lambda seen, fields: seen.own_units.add(_short(fields[0])),
    "differs": lambda seen, fields: seen.differs.append(_short(fields[0])),
    "copy": lambda seen, fields: seen.copies.add(_short(fields[0])),
    "etc": _etc,
    "file": lambda seen, fields: seen.files.append(entry(fields)),
    "sum": _sum,
    "secret": lambda seen, fields: seen.secrets.add(_short(fields[0])),
    "unit": lambda seen, fields: seen.units.append(entry(fields)),
    "crontab": lambda seen, fields: seen.crontabs.append(entry(fields)),
    "user": _user,
    "password": _password,
    "group": _group,
    "account": lambda seen, fields: seen.accounts.add(_short(fields[0])),
    "package": _package,
    "dynamic": _dynamic,
    "listener": _listener,
    "holder": _holder,
    "socket": _socket,
    "port": _port,
    "home": _home,
    "from": _from,
    "agent": lambda seen, fields: seen.agents.add(_short(fields[0])),
    "actor": _actor,
    "end": _end,
}
"""What each kind of line does, but for those in homes and of conffiles."""
