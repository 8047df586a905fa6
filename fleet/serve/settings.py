"""How the server is reached: the address that it listens at, and the names that people and programs call it by."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fleet.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PORT = 8420
LISTEN = f"127.0.0.1:{PORT}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the server listens, and what it is called. Use `settings`, which checks all of it."""

    address: str
    port: int
    url: str
    """What people type, without a slash at the end."""
    hosts: frozenset[str]
    """The values of the header `Host` that are ours."""
    origins: frozenset[str]
    """The values of the header `Origin` that are ours."""
    certificate: Path | None = None
    key: Path | None = None
    asks: bool = True
    """Whether hosts are asked what they are."""
    every: float = 60.0
    """Seconds between two looks at each host."""

    @property
    def is_encrypted(self) -> bool:
        """Whether browsers reach it over HTTPS."""
        return self.url.startswith("https:")


def settings(
    listen: str = LISTEN,
    *,
    url: str = "",
    certificate: Path | None = None,
    key: Path | None = None,
    asks: bool = True,
    every: float = 60.0,
) -> Settings:
    """Return the settings. Raise `ConfigError` for what is no address, and for what would send tokens in the clear."""
    address, port = _address(listen)
    if (certificate is None) != (key is None):
        raise ConfigError("--certificate and --key belong together", hint="give both, or neither")
    scheme = "https" if certificate is not None else "http"
    shown = f"[{address}]" if ":" in address else address
    base = _url(url) if url else f"{scheme}://{shown}:{port}"
    is_loopback = ipaddress.ip_address(address).is_loopback
    if not base.startswith("https:") and not (is_loopback and _is_loopback_name(urlsplit(base).hostname or "")):
        raise ConfigError(
            f"--listen {listen}: tokens would cross the network unencrypted",
            hint="give --certificate and --key; or listen on loopback behind a proxy that has them, and say --url https://…",
        )
    if not is_loopback and certificate is None:
        raise ConfigError(
            f"--listen {listen}: beyond loopback it needs --certificate and --key",
            hint="or leave it on loopback, with a proxy before it",
        )
    names = {urlsplit(base).netloc}
    if is_loopback and not url:
        names |= {f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"}
    schemes = base.partition(":")[0]
    return Settings(
        address=address,
        port=port,
        url=base,
        hosts=frozenset(names),
        origins=frozenset(f"{schemes}://{name}" for name in names),
        certificate=certificate,
        key=key,
        asks=asks,
        every=every,
    )


def _address(listen: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", listen)
    address = found[1] or found[2] if found is not None else ""
    port = int(found[3]) if found is not None else 0
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        parsed = None
    if parsed is None or not 0 < port <= 65535:
        hint = f"such as {LISTEN} or [::1]:{PORT}"
        raise ConfigError(f"--listen {listen}: is no address and port", hint=hint)
    return str(parsed), port


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        named, _ = parts.hostname, parts.port
    except ValueError:
        parts, named = urlsplit(""), None
    plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not named or not plain:
        raise ConfigError(f"--url {url}: is not the address of a server", hint="such as https://fleet.example.org")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _is_loopback_name(name: str) -> bool:
    try:
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
