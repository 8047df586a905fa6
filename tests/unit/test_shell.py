"""What our reader of shell programs says of a function is what a shell does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shell import functions, is_shell, undeclared
from tests.shell_reader import Function, UnreadableError

CI = Path(__file__).parent.parent.parent / ".ci"
NAMES = ("a", "b", "c", "d")
BODIES = {
    "an assignment": "{ a=1 b='2 3'; }",
    "nothing": "{ :; }",
    "a function that is a subshell": "( a=1 )",
    "a subshell in it": "{ a=1; ( b=2; ); }",
    "a command substitution": '{ a=$(b=1; echo "$b"); }',
    "a command substitution in quotes": '{ a="x $(b=1; echo "$b)") y"; }',
    "a pipeline": "{ echo | a=1; b=2 | cat; c=3; }",
    "a loop at the end of a pipeline": "{ printf '1\\n' | while read -r a; do b=$a; done; }",
    "a loop that reads a file": "{ while read -r a _ b; do c=$b; done </dev/null; c=1; }",
    "a loop over words": "{ for a in 1 2; do b=$a; done; }",
    "a loop over arguments": "{ set -- 1; for a; do :; done; }",
    "read": "{ IFS=' ' read -r a b <<X\n1 2 $(c=3)\nX\n}",
    "a here-document that has code": "{ cat <<'X' >/dev/null\na=1\n} (\nX\nb=2; }",
    "the environment of a command": "{ a=1 true; b=2 env >/dev/null; }",
    "the background": "{ a=1 & wait; b=2; }",
    "an export": "{ export a=1 b=2; }",
    "a default": '{ : "${a:=1}" "${b-2}" "${c:-3}"; }',
    "both sides of a condition": "{ true && a=1 || b=2; a=1 && b=2; }",
    "if": "{ if a=1; then b=2; else c=3; fi; c=4; }",
    "elif": "{ if false; then :; elif a=1; then b=2; fi; }",
    "until": "{ until a=1; do :; done; }",
    "case": "{ case x in (y | z) ;; x) a=1 ;; esac; case 'a b' in a\\ *) b=1; esac; }",
    "case in a substitution": "{ a=$(case x in x) b=1; echo y ;; esac); }",
    "arithmetic": "{ a=$((1 + (2 << 3) | 1)); }",
    "comments": "{ # b=1 ) } '\n    a=1 # c='2\n}",
    "a sign that begins no comment": "{ a=x#y; b=${a#x} c=$#; }",
    "a word over two lines": "{ a='1\n}'; b=2 \\\n    c=3; }",
    "braces in words": "{ echo } {} >/dev/null; a={; }",
    "words of the language as words": "{ echo do done fi >/dev/null; a=esac; }",
    "a negation": "{ ! a=1; }",
    "redirections before a command": "{ 2>/dev/null >&2 a=1; <&- b=2; }",
}


def only(text: str) -> Function:
    (function,) = functions(text)
    return function


@pytest.mark.parametrize("case", BODIES)
def test_a_function_sets_what_it_sets_in_a_shell(case: str) -> None:
    text = f"f() {BODIES[case]}\n"
    asked = "".join(f'if [ -n "${{{name}+x}}" ]; then echo {name}; fi\n' for name in NAMES)
    ran = subprocess.run(["sh", "-c", f"{text}f </dev/null\n{asked}"], capture_output=True, text=True, check=True)
    assert only(text).sets == set(ran.stdout.split())


def test_a_function_ends_where_its_body_does() -> None:
    found = functions("x=1\n\nf() {\n    :\n}\n# a comment\ng() ( : )\nh() {\n    cat <<X\n}\nX\n}\n")
    assert [(function.name, function.line, function.lines) for function in found] == [
        ("f", 3, 3),
        ("g", 7, 1),
        ("h", 8, 5),
    ]


def test_what_a_function_says_that_it_sets_stands_above_it() -> None:
    text = "# sets: a b\nf() { a=1; }\n\n# sets: c\n\ng() { :; }\n"
    assert [function.declared for function in functions(text)] == [("a", "b"), ()]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# sets: a\nf() { a=1; }\n", []),
        ("f() { :; }\n", []),
        ("f() { a=1; }\n", ["f sets: a; its comment says: nothing"]),
        ("# sets: a\nf() { a=1 b=2; }\n", ["f sets: a b; its comment says: a"]),
        ("# sets: a b\nf() { a=1; }\n", ["f sets: a; its comment says: a b"]),
        ("# sets: a\nf() ( a=1 )\n", ["f sets: nothing; its comment says: a"]),
        ("# sets: a a\nf() { a=1; }\n", ["f sets: a; its comment says: a a"]),
        ('# sets: a\nf() { eval "a=1"; }\n', ["f sets: eval; its comment says: a"]),
    ],
)
def test_what_is_not_declared_is_told(text: str, told: list[str]) -> None:
    assert undeclared(text) == told


@pytest.mark.parametrize(
    "text", ["f() { :;", "if true; then :; done\n", "f() { a=`b`; }\n", "case x in x :; esac\n", ")\n"]
)
def test_what_is_no_shell_program_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        functions(text)


def test_shell_is_known_by_its_name_or_its_first_line(tmp_path: Path) -> None:
    for name, text in {"a.sh": "", "b": "#!/bin/sh\n", "c": "x\n", "d.py": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
    assert [path.name for path in sorted(tmp_path.iterdir()) if is_shell(path)] == ["a.sh", "b"]


needs_shellcheck = pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")


@needs_shellcheck
def test_every_shell_program_satisfies_shellcheck() -> None:
    done = subprocess.run([CI / "shellcheck"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_shellcheck
@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("fleet/program/b.sh", "two() { echo $unquoted; }\n"),
        ("fleet/program/b.sh", "echo\n"),
        ("fleet/script.sh", "echo $unquoted\n"),
        ("modules/program", "#!/bin/sh\necho $unquoted\n"),
        (".ci/program", "#!/bin/sh\necho $unquoted\n"),
        ("tests/model/program", "#!/bin/sh\necho $unquoted\n"),
    ],
)
def test_what_shellcheck_finds_in_any_program_is_told(tmp_path: Path, file: str, text: str) -> None:
    """Of the first of these programs, part b.sh uses what part a.sh sets."""
    good = {
        "fleet/program/parts.txt": "a.sh\nb.sh\n",
        "fleet/program/a.sh": "#!/bin/sh\none() { variable=1; }\n",
        "fleet/program/b.sh": 'one\necho "$variable"\n',
        "modules/other": "echo $unquoted\n",
        "tests/model/other.pml": "echo $unquoted\n",
    }
    for name, content in good.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / ".ci").mkdir()
    check = shutil.copy(CI / "shellcheck", tmp_path / ".ci")
    assert subprocess.run([check], capture_output=True, check=False).returncode == 0
    (tmp_path / file).write_text(text)
    assert subprocess.run([check], capture_output=True, check=False).returncode == 1
