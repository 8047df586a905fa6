"""The encoding of the serve protocol, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.store import wire
from fleet.store.wire import Decoder, EndOfStreamError, PathInfo, ProtocolError

NUMBERS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HASH = "sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s"
"""Of `abc`, as Nix writes it and as others do."""
HASH_16 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def decoder(data: bytes, chunk: int = 3) -> Decoder:
    """Reads the data in small pieces, as a network may bring it."""
    left = bytearray(data)

    async def read(count: int) -> bytes:
        taken = bytes(left[: min(chunk, count)])
        del left[: len(taken)]
        return taken

    return Decoder(read)


@given(NUMBERS, TEXTS, st.lists(TEXTS, max_size=5), st.integers(1, 50))
async def test_what_is_written_is_read_back(count: int, word: str, words: list[str], chunk: int) -> None:
    data = wire.number(count) + wire.text(word) + wire.texts(words)
    assert len(data) % 8 == 0
    back = decoder(data, chunk)
    assert (await back.number(), await back.text(), await back.texts()) == (count, word, tuple(words))


@given(st.lists(TEXTS, max_size=5), st.data())
async def test_a_cut_is_noticed_wherever_it_is(words: list[str], data: st.DataObject) -> None:
    whole = wire.texts(words)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(EndOfStreamError):
        await decoder(whole[:cut]).texts()


async def test_a_path_info_is_read_as_nix_writes_it() -> None:
    answer = b"".join(
        (
            wire.text("/nix/store/a-x"),
            wire.text("/nix/store/d.drv"),
            wire.texts(["/nix/store/b-y"]),
            wire.number(120),
            wire.number(120),
            wire.text(HASH),
            wire.text("fixed:r:sha256:abc"),
            wire.texts(["k:1", "k:2"]),
            wire.text(""),
        )
    )
    assert await decoder(answer).path_infos() == {
        "/nix/store/a-x": PathInfo(
            path="/nix/store/a-x",
            deriver="/nix/store/d.drv",
            references=("/nix/store/b-y",),
            nar_hash=HASH_16,
            nar_size=120,
            signatures=("k:1", "k:2"),
            content_address="fixed:r:sha256:abc",
        )
    }


@given(st.binary(min_size=32, max_size=32))
def test_every_hash_has_one_base_32(digest: bytes) -> None:
    number = int.from_bytes(digest, "little")
    letters = "0123456789abcdfghijklmnpqrsvwxyz"
    base32 = "".join(letters[number >> (5 * place) & 31] for place in reversed(range(52)))
    assert wire.base16(f"sha256:{base32}") == digest.hex()


def test_a_known_hash_is_read() -> None:
    assert wire.base16(HASH) == HASH_16
    assert wire.base16(f"sha256:{HASH_16}") == HASH_16


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha512:abc", HASH[:-1], HASH.replace("1b8", "eou"), f"sha256:{'z' * 52}"]
)
def test_what_is_no_sha256_is_refused(digest: str) -> None:
    with pytest.raises(ProtocolError):
        wire.base16(digest)


@pytest.mark.parametrize(
    "data",
    [
        wire.number(wire.LONGEST_TEXT + 1),
        wire.number(1) + b"a" + b"\0\0\0\0\0\0x",
    ],
)
async def test_a_text_that_cannot_be_is_refused_before_it_costs_memory(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"announced|padded"):
        await decoder(data + bytes(64)).text()


async def test_a_list_that_cannot_be_is_refused() -> None:
    with pytest.raises(ProtocolError, match="announced"):
        await decoder(wire.number(wire.MOST_ITEMS + 1) + bytes(64)).texts()


@pytest.mark.parametrize(
    ("greeting", "version"),
    [
        (wire.number(wire.ANSWER) + wire.number(0x207), 0x207),
        (wire.number(wire.ANSWER) + wire.number(0x208), 0x208),
        (wire.number(wire.ANSWER) + wire.number(0x205), 0x205),
        (wire.number(wire.ANSWER) + wire.number(0x204), None),
        (wire.number(wire.ANSWER) + wire.number(0x300), None),
        (wire.number(wire.HELLO) + wire.number(0x207), None),
        (b"Welcome to gpu-01\n\n\n\n\n\n\n\n", None),
    ],
)
async def test_only_versions_that_fleet_speaks_are_spoken(greeting: bytes, version: int | None) -> None:
    if version is None:
        with pytest.raises(ProtocolError):
            await decoder(greeting).version()
    else:
        assert await decoder(greeting).version() == version


@given(st.lists(st.lists(st.integers(0, 19), max_size=4), min_size=1, max_size=20), st.randoms())
def test_references_come_first(graph: list[list[int]], random: object) -> None:
    infos = [
        PathInfo(path=f"p{at}", references=tuple(f"p{to}" for to in behind if to <= at), nar_hash="", nar_size=0)
        for at, behind in enumerate(graph)
    ]
    random.shuffle(infos)  # type: ignore[attr-defined]
    ordered = [info.path for info in wire.in_order(infos)]
    assert sorted(ordered) == sorted(info.path for info in infos)
    for info in infos:
        for reference in info.references:
            assert ordered.index(reference) <= ordered.index(info.path)


def test_paths_that_refer_to_each_other_are_an_error() -> None:
    pair = [
        PathInfo(path="a", references=("b",), nar_hash="", nar_size=0),
        PathInfo(path="b", references=("a",), nar_hash="", nar_size=0),
    ]
    with pytest.raises(ProtocolError, match="refer to each other"):
        wire.in_order(pair)


ASKED = ("/nix/store/a-x", "/nix/store/b-y")


async def test_of_the_paths_that_were_asked_about_those_that_are_valid_are_read() -> None:
    assert await decoder(wire.texts(ASKED[1:])).subset(ASKED) == {"/nix/store/b-y"}
    assert await decoder(wire.texts([])).subset(ASKED) == set()


@pytest.mark.parametrize(
    "answer",
    [
        wire.number(1 << 20) + wire.texts(["/nix/store/a-x"] * 9)[8:],
        wire.number(1) + wire.number(1 << 20),
        wire.number(1) + wire.text("/nix/store/a-x" + "x" * 100),
        wire.texts(["/etc/shadow"]),
        wire.number(2**64 - 1),
    ],
)
async def test_answer_that_has_more_than_was_asked_is_refused_at_once(answer: bytes) -> None:
    asked_for = 0

    async def read(count: int) -> bytes:
        nonlocal answer, asked_for
        asked_for += count
        block, answer = answer[:count], answer[count:]
        return block or bytes(count)  # it has no end

    with pytest.raises(ProtocolError):
        await Decoder(read).subset(ASKED)
    assert asked_for <= 1 << 17


async def test_infos_without_an_end_are_refused_before_they_cost_memory() -> None:
    info = b"".join(
        (
            wire.text("/nix/store/a-x"), wire.text(""), wire.texts(["r" * 1000] * 1000), wire.number(1), wire.number(1),
            wire.text(HASH), wire.text(""), wire.texts([]),
        )
    )  # fmt: skip
    left = bytearray()

    async def read(count: int) -> bytes:
        while len(left) < count:
            left.extend(info)
        block = bytes(left[:count])
        del left[:count]
        return block

    with pytest.raises(ProtocolError, match="more than 64 MiB"):
        await Decoder(read).path_infos()
