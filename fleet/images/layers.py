"""Say which paths of a closure are in which layer of its image."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fleet.images.packages import name_of
from fleet.store import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet.store.wire import PathInfo

MOST_LAYERS = 100
"""Docker takes 127 layers, overlayfs 128: an image made of this one has room for its own."""
_SHARED = 16
"""How many layers are made of what gets none alone."""


def layers(infos: Sequence[PathInfo], top: str, *, most: int = MOST_LAYERS) -> list[list[PathInfo]]:
    """Divide a closure into at most so many layers, the lowest first; the top of the closure is in the last.

    What many paths need, weighed by its size, is alone in a layer: it is what other images and the next version share.
    The rest is together in a few, by names without versions: when one of these paths changes, one layer does. Layers
    that more paths need are lower, since an engine that chains layers takes again what is above a change.
    """
    users = _users(infos)
    rest = sorted((info for info in infos if info.path != top), key=lambda info: (-users[info.path], info.path))
    room = most - 1
    if len(rest) <= room:
        alone, together = rest, []
    else:
        shared = min(_SHARED, room)
        ranked = sorted(rest, key=lambda info: (-users[info.path] * info.nar_size, info.path))
        chosen = {info.path for info in ranked[: room - shared]}
        alone = [info for info in rest if info.path in chosen]
        together = _groups([info for info in rest if info.path not in chosen], shared)
    last = [info for info in infos if info.path == top]
    return [*([info] for info in alone), *together, last]


def _users(infos: Sequence[PathInfo]) -> dict[str, int]:
    """Return how many paths of the closure need each path, directly or not, itself included."""
    masks = {info.path: 1 << index for index, info in enumerate(infos)}
    for info in reversed(wire.in_order(infos)):  # who refers to a path comes before it
        for reference in info.references:
            if reference in masks:
                masks[reference] |= masks[info.path]
    return {path: mask.bit_count() for path, mask in masks.items()}


def _groups(infos: Sequence[PathInfo], count: int) -> list[list[PathInfo]]:
    """Divide the paths into up to so many groups. A path stays in its group when its hash and version change."""
    groups: list[list[PathInfo]] = [[] for _ in range(count)]
    for info in sorted(infos, key=lambda info: info.path):
        digest = hashlib.sha256(name_of(info.path).encode()).digest()
        groups[int.from_bytes(digest[:4], "big") % count].append(info)
    return [group for group in groups if group]
