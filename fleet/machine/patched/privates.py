"""List the private names of asyncssh that this folder uses. A test compares the list with the code, both ways.

At an upgrade of asyncssh: read each `check` against the new source, run tests/ssh (they push both ways, and compare
bytes), and set `VERSION` and the bounds in pyproject.toml. If upstream offers what `instead` says, remove the file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Privates:
    """Private names of one of asyncssh's classes."""

    owner: str
    """The class that has them, with its module."""
    names: tuple[str, ...]
    used_in: tuple[str, ...]
    """Files of this folder that use them, without `.py`."""
    check: str
    """What must be true of them, to be checked in asyncssh's source."""
    instead: str
    """What upstream would have to offer so that they are not needed any more."""

    def are_in(self, thing: object) -> bool:
        """Whether the object has all of these names."""
        return all(hasattr(thing, name) for name in self.names)

    def __str__(self) -> str:
        rows = {"used in": ", ".join(self.used_in), "check": self.check, "instead": self.instead}
        return f"{self.owner}: {', '.join(self.names)}" + "".join(f"\n  {key}: {row}" for key, row in rows.items())


SENDING = Privates(
    owner="channel.SSHChannel",
    names=(
        "_conn", "_flush_send_buf", "_pause_resume_writing", "_send_buf", "_send_buf_len", "_send_chan",
        "_send_pktsize", "_send_state", "_send_window",
    ),
    used_in=("bulk",),
    check="`_flush_send_buf` alone takes from `_send_buf`, whose entries are (bytearray, datatype), and counts the "
    "same bytes in `_send_buf_len` and `_send_window`; window adjustments, `write_eof` and `close` call it by name",
    instead="an SSHChannel.write that copies nothing, seals packets in place, and leaves the empty MSG_IGNORE before "
    "each packet to CBC ciphers",
)  # fmt: skip
SEALING = Privates(
    owner="connection.SSHConnection",
    names=(
        "_compressor", "_kex_complete", "_rekey_bytes", "_rekey_bytes_sent", "_rekey_seconds", "_rekey_time",
        "_send", "_send_blocksize", "_send_encryption", "_send_seq", "_transport",
    ),
    used_in=("bulk", "packets"),
    check="`send_packet` is the only other place that seals; it exchanges keys by the same conditions as Sealer.fits, "
    "and `send_newkeys` puts a new `_send_encryption` in place as a whole; `_send` hands bytes to the transport in "
    "their order and calls nothing back; `_send_seq` counts packets modulo 2^32",
    instead="the same SSHChannel.write",
)  # fmt: skip
CIPHER = Privates(
    owner="encryption.GCMEncryption",
    names=("_cipher",),
    used_in=("bulk", "packets", "window"),
    check="the length is the associated data and not encrypted; the tag of 16 bytes follows the packet",
    instead="a GCMEncryption that seals many packets at once into a buffer of its caller's",
)
COUNTER = Privates(
    owner="crypto.cipher.GCMCipher",
    names=("_iv", "_key"),
    used_in=("packets", "window"),
    check="`_iv` is the nonce of the next packet, 4 fixed bytes and a counter of 8, big-endian, one higher after each "
    "packet; nothing else keeps a count, and no key is given to two objects",
    instead="the same GCMEncryption",
)
HEARING = Privates(
    owner="connection.SSHConnection",
    names=(
        "_auth_complete", "_channels", "_decompressor", "_inpbuf", "_recv_encryption", "_recv_handler",
        "_recv_pkthdr", "_recv_seq", "_transport",
    ),
    used_in=("window",),
    check="with nothing in `_inpbuf` and `_recv_pkthdr` as `_recv_handler` the next byte begins a packet; the "
    "transport calls `data_received` by name each time; `_recv_encryption` is put in place as a whole when the host's "
    "new keys begin",
    instead="a cheaper way for MSG_CHANNEL_WINDOW_ADJUST",
)  # fmt: skip
WINDOW = Privates(
    owner="channel.SSHChannel",
    names=("_conn", "_flush_send_buf", "_recv_chan", "_recv_state", "_send_window"),
    used_in=("window",),
    check="`_process_window_adjust` adds to `_send_window` and calls `_flush_send_buf`, and does nothing else",
    instead="the same",
)
STARTING = Privates(
    owner="connection.SSHClientConnection",
    names=("_agent_forward_path", "_loop", "_options", "_update_recv_pktlen", "_utf8_decode_errors"),
    used_in=("session",),
    check="`create_session` makes its channel of these, and asks for nothing else by itself",
    instead="a create_session that opens the channel first and is told the command later, and that does not wait for "
    "the host's answer to `exec`",
)
OPENING = Privates(
    owner="channel.SSHClientChannel",
    names=(
        "_conn", "_loop", "_make_request", "_open", "_recv_state", "_request_waiters", "_send_request", "_send_state",
    ),
    used_in=("session",),
    check="`create` opens the channel by `_open`, asks for the command by `_make_request` with one waiter for each "
    "answer, and takes any true value for a yes; its parameters are those of 2.24",
    instead="the same",
)  # fmt: skip
ALL = (SENDING, SEALING, CIPHER, COUNTER, HEARING, WINDOW, STARTING, OPENING)
