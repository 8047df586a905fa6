"""Read SSH's binary values: RFC 4251, section 5."""

from __future__ import annotations


class Wire:
    """The rest of some bytes, to be read value by value. Every reader raises `ValueError` if they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, count: int) -> bytes:
        """Return so many bytes."""
        if count > len(self._data):
            raise ValueError("it is cut short")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def expect(self, data: bytes) -> None:
        """Take these bytes. Raise `ValueError` if something else is there."""
        if self.take(len(data)) != data:
            raise ValueError("it does not begin as one")

    def number(self) -> int:
        """Return an unsigned number of four bytes."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Return a string: its length, and so many bytes."""
        return self.take(self.number())

    def text(self) -> str:
        """Return a string of ASCII."""
        return self.string().decode("ascii")

    def end(self) -> None:
        """Raise `ValueError` if something is left."""
        if self._data:
            raise ValueError("something follows its end")


def string(data: bytes) -> bytes:
    """Return the bytes as a string of the wire."""
    return len(data).to_bytes(4, "big") + data
