"""Reads a POSIX shell program, by its grammar."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=")
_NAME = re.compile(r"[A-Za-z_]\w*")
_DEFINITION = re.compile(r"([A-Za-z_]\w*)\(\)[ \t\n]*")
_DEFAULT = re.compile(r"\$\{([A-Za-z_]\w*):?=")
_REDIRECTION = re.compile(r"\d*(<<-|<<|<&|>&|>>|>\||<>|<|>)")
_BLANKS = re.compile(r"(?:[ \t]|\\\n)*")
_DECLARED = re.compile(r"# sets: (\w+(?: \w+)*)")
_ENDS_WORD = " \t\n;&|<>()"


class UnreadableError(AssertionError):
    """The text is no shell program, or has what this reader does not know."""


@dataclass(frozen=True)
class Function:
    """A function of a shell program."""

    name: str
    line: int
    """Of its name, counted from 1."""
    lines: int
    """How many it has, from its name to its end."""
    sets: frozenset[str]
    """The variables that are set in the caller's shell after a call, by its own commands."""
    declared: tuple[str, ...]
    """What the comment `# sets: NAME…` on the line above it names."""


@dataclass
class Reader:
    """Goes through the text once, by the grammar of POSIX (XCU 2.10)."""

    text: str
    at: int = 0
    sets: set[str] = field(default_factory=set)
    """What the shell that is being read leaves set so far."""
    found: list[Function] = field(default_factory=list)
    here_documents: list[str] = field(default_factory=list)
    """The words that end those which begin on the next line."""

    def program(self) -> list[Function]:
        self._list(())
        if self.at < len(self.text):
            raise self._error("the end of the program")
        return self.found

    def _error(self, wanted: str) -> UnreadableError:
        line = self.text.count("\n", 0, self.at) + 1
        return UnreadableError(f"line {line}: {wanted} expected at {self.text[self.at : self.at + 20]!r}")

    @contextmanager
    def _subshell(self) -> Iterator[set[str]]:
        """What is set inside stays there."""
        outer, self.sets = self.sets, set()
        try:
            yield self.sets
        finally:
            self.sets = outer

    # --- lists and commands ---

    def _list(self, ends: Sequence[str]) -> None:
        """Commands until one of these words, which is left, or the end of the text."""
        while True:
            self._separators()
            if self.at >= len(self.text) or self._is_next(*ends):
                return
            with self._subshell() as inner:
                self._and_or()
            self._blanks()
            if not (self._is_next("&") and not self._is_next("&&")):
                self.sets |= inner

    def _and_or(self) -> None:
        self._pipeline()
        while self._take("&&") or self._take("||"):
            self._newlines()
            self._pipeline()

    def _pipeline(self) -> None:
        self._take_word("!")
        with self._subshell() as inner:
            self._command()
            parts = 1
            while not self._is_next("||") and self._take("|"):
                parts += 1
                self._newlines()
                self._command()
        if parts == 1:
            self.sets |= inner

    def _command(self) -> None:
        self._blanks()
        if definition := _DEFINITION.match(self.text, self.at):
            self._function(definition)
        elif self._take_word("{"):
            self._until("}")
        elif self._take("("):
            with self._subshell():
                self._until(")")
        elif self._take_word("if"):
            self._list(("then",))
            while self._take_word("then") or self._take_word("elif") or self._take_word("else"):
                self._list(("then", "elif", "else", "fi"))
            self._until("fi")
        elif self._take_word("while") or self._take_word("until"):
            self._until("do")
            self._until("done")
        elif self._take_word("for"):
            self._for()
        elif self._take_word("case"):
            self._case()
        else:
            self._simple()
            return
        self._redirections()

    def _until(self, end: str) -> None:
        self._list((end,))
        if not (self._take(end) if end == ")" else self._take_word(end)):
            raise self._error(end)

    def _function(self, definition: re.Match[str]) -> None:
        start, self.at = self.at, definition.end()
        with self._subshell() as inner:
            self._command()
        line = self.text.count("\n", 0, start) + 1
        above = self.text[:start].rsplit("\n", 2)[-2:-1]
        declared = _DECLARED.fullmatch(above[0]) if above else None
        lines = self.text.count("\n", start, self.at) + 1
        names = tuple(declared[1].split()) if declared else ()
        self.found.append(Function(definition[1], line, lines, frozenset(inner), names))

    def _for(self) -> None:
        self._blanks()
        self.sets.add(self._word())
        self._separators()
        if self._take_word("in"):
            while self._word():
                self._blanks()
        self._until("do")
        self._until("done")

    def _case(self) -> None:
        self._blanks()
        self._word()
        self._newlines()
        if not self._take_word("in"):
            raise self._error("in")
        self._separators()
        while not self._take_word("esac"):
            self._take("(")
            while not self._take(")"):
                if not (self._word() or self._take("|")):
                    raise self._error("a pattern")
                self._blanks()
            self._list((";;", "esac"))
            self._take(";;")
            self._separators()

    def _simple(self) -> None:
        words: list[str] = []
        start = self.at
        while True:
            self._redirections()
            if not (word := self._word()):
                break
            words.append(word)
        if self.at == start:
            raise self._error("a command")
        assigned = []
        while words and (name := _ASSIGNMENT.match(words[0])):
            assigned.append(name[1])
            words.pop(0)
        match words:
            case []:
                self.sets.update(assigned)  # before a command they last as long as it does
            case ["read", *names]:
                self.sets.update(name for name in names if not name.startswith("-") and name != "_")
            case ["export" | "readonly", *names]:
                self.sets.update(name.partition("=")[0] for name in names)
            case ["eval" | "getopts" | "local" | ".", *_]:
                self.sets.add(
                    words[0]
                )  # nobody can declare that: it is no name of a variable, or what it sets is not known

    def _redirections(self) -> None:
        self._blanks()
        while sign := _REDIRECTION.match(self.text, self.at):
            self.at = sign.end()
            self._blanks()
            target = self._word()
            if sign[1].startswith("<<"):
                self.here_documents.append(re.sub(r"[\"'\\]", "", target))
            self._blanks()

    # --- words ---

    def _word(self) -> str:
        """The word that begins here, as it is written; empty where none does."""
        self._blanks()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in _ENDS_WORD:
            self._piece()
        return self.text[start : self.at]

    def _piece(self) -> None:
        """Past one character of a word, or all that a quote or an expansion holds."""
        text, at = self.text, self.at
        if text[at] == "\\":
            self.at += 2
        elif text[at] == "'":
            self.at = text.index("'", at + 1) + 1
        elif text[at] == '"':
            self._double_quoted()
        elif text.startswith("$((", at):
            self.at += 3
            depth = 2
            while depth:
                depth += {"(": 1, ")": -1}.get(self.text[self.at], 0)
                self.at += 1
        elif text.startswith("$(", at):
            self.at += 2
            with self._subshell():
                self._until(")")
        elif text.startswith("${", at):
            if name := _DEFAULT.match(text, at):
                self.sets.add(name[1])
            self.at += 2
            while self.text[self.at] != "}":
                self._piece()
            self.at += 1
        elif text[at] == "`":
            raise self._error("$( instead of a backquote")
        else:
            self.at += 1

    def _double_quoted(self) -> None:
        self.at += 1
        while (sign := self.text[self.at]) != '"':
            if sign in "\\$`":
                self._piece()
            else:
                self.at += 1
        self.at += 1

    # --- characters ---

    def _blanks(self) -> None:
        """Past what separates words: blanks, a backslash at the end of a line, and a comment."""
        self.at = _BLANKS.match(self.text, self.at).end()  # type: ignore[union-attr]  # it matches nothing too
        is_start = self.at == 0 or self.text[self.at - 1] in _ENDS_WORD
        if is_start and self.text.startswith("#", self.at):
            self.at = self.text.find("\n", self.at) % (len(self.text) + 1)

    def _newlines(self) -> None:
        self._blanks()
        while self.text.startswith("\n", self.at):
            self.at += 1
            for end in self.here_documents:
                self.at = self.text.index(f"\n{end}\n", self.at - 1) + len(end) + 2
            self.here_documents.clear()
            self._blanks()

    def _separators(self) -> None:
        self._newlines()
        while self._is_next(";", "&") and not self._is_next(";;", "&&"):
            self.at += 1
            self._newlines()

    def _is_next(self, *words: str) -> bool:
        for word in words:
            end = self.at + len(word)
            whole = not _NAME.fullmatch(word) or self.text[end : end + 1] in ("", *_ENDS_WORD)
            if self.text.startswith(word, self.at) and whole:
                return True
        return False

    def _take(self, sign: str) -> bool:
        self._blanks()
        if self.text.startswith(sign, self.at):
            self.at += len(sign)
            return True
        return False

    def _take_word(self, word: str) -> bool:
        self._blanks()
        end = self.at + len(word)
        if self.text.startswith(word, self.at) and self.text[end : end + 1] in ("", *_ENDS_WORD):
            self.at = end
            return True
        return False
