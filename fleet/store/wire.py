"""The encoding of the serve protocol. Numbers are 8 bytes, least significant first; text is padded to 8 bytes.

Nothing here does any I/O. Nix 2.8 to 2.36 and Lix speak version 2.7; Nix 2.35 and later answer with 2.8, which changes
nothing that is used here.
"""

from __future__ import annotations

import enum
import functools
import graphlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

HELLO, ANSWER = 0x390C9DEB, 0x5452EECB
VERSION = 0x207
OLDEST = 0x205
"""2.5 is the first version that can add a path with its NAR (Nix 2.1, 2018)."""
LONGEST_TEXT, MOST_ITEMS, MOST_ANSWER = 1 << 20, 1 << 20, 64 << 20
"""A server that announces a longer text, list or answer is broken, and must not exhaust our memory."""
OVERHEAD = 100
"""Bytes that each text takes in memory besides its own."""
_NUMBER = struct.Struct("<Q")
_BASE32 = "0123456789abcdfghijklmnpqrsvwxyz"
_SHA256_BASE32, _SHA256_BASE16 = 52, 64


class Request(enum.IntEnum):
    """What a client asks for. The fields of the request follow."""

    QUERY_VALID_PATHS = 1
    QUERY_PATH_INFOS = 2
    DUMP_STORE_PATH = 3
    ADD_TO_STORE_NAR = 9


class ProtocolError(Exception):
    """The other side sent something that the protocol does not allow."""


class NoiseError(ProtocolError):
    """The other side is something else, or sends other output too, as a login shell that prints something."""


class EndOfStreamError(ProtocolError):
    """The other side ended in the middle."""


@dataclass(frozen=True, kw_only=True)
class PathInfo:
    """What a store knows about one of its paths."""

    path: str
    deriver: str = ""
    references: tuple[str, ...] = ()
    nar_hash: str
    """The SHA-256 of the NAR, in base 16."""
    nar_size: int
    """Bytes."""
    signatures: tuple[str, ...] = ()
    content_address: str = ""

    @functools.cached_property
    def added_size(self) -> int:
        """How many bytes adding the path takes."""
        return len(add_to_store_nar(self)) + self.nar_size


def number(value: int) -> bytes:
    """Encode a number."""
    return _NUMBER.pack(value)


def text(value: str | bytes) -> bytes:
    """Encode a text."""
    data = value.encode() if isinstance(value, str) else value
    return _NUMBER.pack(len(data)) + data + bytes(-len(data) % 8)


def texts(values: Sequence[str]) -> bytes:
    """Encode a list or a set of texts."""
    return _NUMBER.pack(len(values)) + b"".join(map(text, values))


def hello() -> bytes:
    """Return what a client sends first."""
    return number(HELLO) + number(VERSION)


def query_valid_paths(paths: Sequence[str], *, lock: bool, substitute: bool) -> bytes:
    """Ask which of the paths are valid. With `lock` they are rooted for as long as the server lives."""
    return number(Request.QUERY_VALID_PATHS) + number(lock) + number(substitute) + texts(paths)


def query_path_infos(paths: Sequence[str]) -> bytes:
    """Ask what the store knows about the paths."""
    return number(Request.QUERY_PATH_INFOS) + texts(paths)


def dump_store_path(path: str) -> bytes:
    """Ask for the NAR of a path, which comes without its length."""
    return number(Request.DUMP_STORE_PATH) + text(path)


def add_to_store_nar(info: PathInfo) -> bytes:
    """Add a path. Its NAR must follow, of exactly the size that the info says; the answer is the number 1."""
    unregistered = not_ultimate = number(0)  # the far store sets the time, and trusts no claim that it was built there
    return b"".join(
        (
            number(Request.ADD_TO_STORE_NAR),
            text(info.path),
            text(info.deriver),
            text(info.nar_hash),
            texts(info.references),
            unregistered,
            number(info.nar_size),
            not_ultimate,
            texts(info.signatures),
            text(info.content_address),
        )
    )


class Decoder:
    """Reads values with `read(count)`, which returns at least one byte, or none at the end."""

    def __init__(self, read: Callable[[int], Awaitable[bytes]]) -> None:
        self._read = read
        self._ahead = bytearray()
        self._left = MOST_ANSWER
        """Bytes that the rest of the answer may have."""

    async def number(self) -> int:
        """Read the next number."""
        return int(_NUMBER.unpack(await self._exactly(8))[0])

    async def text(self, most: int = LONGEST_TEXT) -> str:
        """Read the next text, of at most so many bytes."""
        size = await self.number()
        if size > min(LONGEST_TEXT, most):
            raise ProtocolError(f"a text of {size} bytes is announced")
        self._left -= size + OVERHEAD
        if self._left < 0:
            raise ProtocolError(f"an answer of more than {MOST_ANSWER >> 20} MiB is coming")
        padded = await self._exactly(size + -size % 8)
        if any(padded[size:]):
            raise ProtocolError("a text is not padded with zeros")
        return padded[:size].decode(errors="replace")

    async def texts(self) -> tuple[str, ...]:
        """Read the next list of texts."""
        count = await self.number()
        if count > MOST_ITEMS:
            raise ProtocolError(f"a list of {count} items is announced")
        return tuple([await self.text() for _ in range(count)])

    async def subset(self, asked: Collection[str]) -> set[str]:
        """Read the answer to `query_valid_paths`: those of the paths that are valid, and nothing else."""
        self._left = MOST_ANSWER
        known, longest = frozenset(asked), max((len(path.encode()) for path in asked), default=0)
        count = await self.number()
        if count > len(known):
            raise ProtocolError(f"{count} paths are announced, of {len(known)} that were asked about")
        found = {await self.text(longest) for _ in range(count)}
        if not found <= known:
            raise ProtocolError("it tells of paths that nobody asked about")
        return found

    async def version(self) -> int:
        """Read the server's answer to `hello`. Raise `ProtocolError` if it is not a version that fleet speaks."""
        if await self.number() != ANSWER:
            raise NoiseError("what answers is not nix-store --serve")
        version = await self.number()
        if version >> 8 != VERSION >> 8 or version < OLDEST:
            raise ProtocolError(f"it speaks version {version >> 8}.{version & 0xFF}, fleet speaks 2.5 to 2.7")
        return version

    async def path_infos(self) -> dict[str, PathInfo]:
        """Read the answer to `query_path_infos`: the paths that the store has."""
        self._left = MOST_ANSWER
        found: dict[str, PathInfo] = {}
        while path := await self.text():
            if len(found) >= MOST_ITEMS:
                raise ProtocolError("an endless list of paths is coming")
            deriver = await self.text()
            references = await self.texts()
            await self.number()  # download size
            size = await self.number()
            digest, address, signatures = await self.text(), await self.text(), await self.texts()
            found[path] = PathInfo(
                path=path,
                deriver=deriver,
                references=references,
                nar_hash=base16(digest),
                nar_size=size,
                signatures=signatures,
                content_address=address,
            )
        return found

    async def _exactly(self, count: int) -> bytes:
        while len(self._ahead) < count:
            block = await self._read(max(1 << 16, count - len(self._ahead)))
            if not block:
                raise EndOfStreamError("it ended in the middle")
            self._ahead += block
        taken = bytes(self._ahead[:count])
        del self._ahead[:count]
        return taken


def base16(digest: str) -> str:
    """Return a SHA-256 in base 16, given `sha256:` and its base 32 or base 16.

    Raise `ProtocolError` for anything else.
    """
    value = digest.removeprefix("sha256:")
    if len(value) == _SHA256_BASE16 and not set(value) - set("0123456789abcdef"):
        return value
    if len(value) != _SHA256_BASE32 or set(value) - set(_BASE32):
        raise ProtocolError(f"{digest!r} is not a SHA-256 in base 32")
    total = 0
    for character in value:  # Nix writes the last five bits first
        total = total << 5 | _BASE32.index(character)
    try:
        return total.to_bytes(32, "little").hex()
    except OverflowError as error:
        raise ProtocolError(f"{digest!r} has more than 256 bits") from error


def in_order(infos: Iterable[PathInfo]) -> list[PathInfo]:
    """Sort the infos so that each comes after those it refers to: a store takes no path before its references."""
    known = {info.path: info for info in infos}
    graph = {path: [other for other in info.references if other != path] for path, info in known.items()}
    try:
        return [known[path] for path in graphlib.TopologicalSorter(graph).static_order() if path in known]
    except graphlib.CycleError as error:
        raise ProtocolError(f"store paths refer to each other: {' '.join(error.args[1])}") from error
