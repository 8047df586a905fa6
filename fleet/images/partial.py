"""Leave out of the file of an image what an engine has already.

An engine that keeps layers in chains, as Docker does with its storage drivers, looks at no layer of a file whose chain
it has. What it takes it has checked: the digests of all layers are in the configuration.
"""

from __future__ import annotations

import json
import tarfile
from typing import IO, TYPE_CHECKING, Any

from fleet.text import parsed_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PIECE = 1 << 20
_DIGEST = len("sha256:")


def layers_of(file: IO[bytes]) -> list[str]:
    """Return the digests of the layers of an image, the lowest first."""
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        (entry,) = json.load(member)
    return [f"sha256:{name.rpartition('/')[2]}" for name in entry["Layers"]]


def shared(ours: Sequence[str], known: str) -> list[str]:
    """Return those of our layers, from the lowest on, that an engine has as the lowest of one of its images.

    `known` is what `scripts/layers.sh` prints. What cannot be read in it counts as nothing.
    """
    most = 0
    for line in known.splitlines():
        most = max(most, _prefix(ours, _list(line)))
    return list(ours[:most])


def _list(line: str) -> list[Any]:
    try:
        found = parsed_json(line)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _prefix(ours: Sequence[str], others: Sequence[Any]) -> int:
    pairs = enumerate(zip(ours, others, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(ours), len(others)))


def without(file: IO[bytes], layers: Iterable[str], target: IO[bytes]) -> int:
    """Write the image to `target` without these layers, and return how many bytes that are."""
    left_out = {f"blobs/sha256/{layer[_DIGEST:]}" for layer in layers}
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        kept = [
            (member.offset, member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
            for member in archive
            if member.name not in left_out
        ]
    for begins, ends in kept:
        file.seek(begins)
        while begins < ends:
            begins += target.write(file.read(min(_PIECE, ends - begins)))
    target.write(bytes(2 * tarfile.BLOCKSIZE))
    return target.tell()
