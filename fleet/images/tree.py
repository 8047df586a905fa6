"""Write store paths as tar: the same bytes each time, whatever the times, owners and hard links of this store are.

What is written is held to the hash that the store has of the path, so that no damage gets into an image.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from typing import IO, TYPE_CHECKING, Any, cast

from fleet.errors import ConfigError
from fleet.store.wire import number, text

if TYPE_CHECKING:
    from fleet.store.wire import PathInfo

MTIME = 1
"""What Nix gives to the files of a store, in seconds since 1970."""
_BLOCK = 1 << 20


class Tar:
    """A tar file under way. Each entry belongs to root and has the time 1. Close it with `close`."""

    def __init__(self, sink: Any) -> None:
        """`sink` has `write` and `tell`."""
        # The format of GNU has names of any length and of any bytes, and nothing in it that changes.
        self._tar = tarfile.TarFile(
            fileobj=sink, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", copybufsize=_BLOCK
        )

    def close(self) -> None:
        """Write the end."""
        self._tar.close()

    def folder(self, name: str, mode: int = 0o755) -> None:
        """Add a folder."""
        self._add(name, tarfile.DIRTYPE, mode)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, tarfile.SYMTYPE, 0o777, target=target)

    def file(self, name: str, content: bytes) -> None:
        """Add a file with this content, which everybody may read."""
        self._add(name, tarfile.REGTYPE, 0o444, size=len(content), content=io.BytesIO(content))

    def store_path(self, info: PathInfo) -> None:
        """Add a path of this machine's store with all below it, in the order of a NAR.

        Raise `ConfigError` if its content is not what the store says that it is.
        """
        digest = hashlib.sha256(text("nix-archive-1"))
        try:
            self._node(os.fsencode(info.path), digest)
        except OSError as error:
            raise ConfigError(f"{info.path}: cannot be read: {error}") from error
        if digest.hexdigest() != info.nar_hash:
            raise ConfigError(
                f"{info.path} is damaged: it is not what this machine's store says that it is",
                hint=f"nix-store --repair-path {info.path}",
            )

    def _node(self, path: bytes, digest: hashlib._Hash) -> None:
        found, name = os.lstat(path), os.fsdecode(path).removeprefix("/")
        digest.update(text("(") + text("type"))
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(path)  # noqa: PTH115 - a Path would normalise it
            self.link(name, os.fsdecode(target))
            digest.update(text("symlink") + text("target") + text(target))
        elif stat.S_ISDIR(found.st_mode):
            self.folder(name, 0o555)
            digest.update(text("directory"))
            for entry in sorted(os.listdir(path)):  # noqa: PTH208 - names of any bytes
                digest.update(text("entry") + text("(") + text("name") + text(entry) + text("node"))
                self._node(path + b"/" + entry, digest)
                digest.update(text(")"))
        elif stat.S_ISREG(found.st_mode):
            self._regular(path, name, found, digest)
        else:
            raise ConfigError(f"{os.fsdecode(path)} is neither a file, a link nor a folder")
        digest.update(text(")"))

    def _regular(self, path: bytes, name: str, found: os.stat_result, digest: hashlib._Hash) -> None:
        is_program = bool(found.st_mode & stat.S_IXUSR)
        digest.update(text("regular") + (text("executable") + text("") if is_program else b""))
        digest.update(text("contents") + number(found.st_size))
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb", buffering=0) as file:
            content = cast("IO[bytes]", _Digested(file, digest))
            self._add(name, tarfile.REGTYPE, 0o555 if is_program else 0o444, size=found.st_size, content=content)
        digest.update(bytes(-found.st_size % 8))

    def _add(
        self, name: str, kind: bytes, mode: int, *, target: str = "", size: int = 0, content: IO[bytes] | None = None
    ) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.mtime, entry.size, entry.linkname = kind, mode, MTIME, size, target
        self._tar.addfile(entry, content)


class _Digested:
    """A file whose digest is taken of what is read of it."""

    def __init__(self, file: Any, digest: hashlib._Hash) -> None:
        self._file = file
        self._digest = digest

    def read(self, count: int) -> bytes:
        """Return so many bytes, fewer only at the end."""
        data = bytearray()
        while len(data) < count and (block := self._file.read(count - len(data))):
            data += block
        self._digest.update(data)
        return bytes(data)
