"""Any text, quoted for Nix, is that text again."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess

import pytest

from fleet.nix import quoted


def test_any_text_comes_back_from_nix() -> None:
    if shutil.which("nix-instantiate") is None:
        if os.environ.get("CI"):
            pytest.fail("no nix-instantiate on PATH")
        pytest.skip("no nix-instantiate on PATH")
    chance = random.Random(20261120)
    pieces = [
        '"',
        "\\",
        "$",
        "${",
        "$$",
        "}",
        "''",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "ü",
        "🦊",
        "a",
        " ",
        "${a}",
        "\\n",
        "\x7f",
    ]
    texts = ["".join(chance.choices(pieces, k=chance.randrange(12))) for _ in range(400)]
    expression = f"[ {' '.join(quoted(text) for text in texts)} ]"
    argv = ["nix-instantiate", "--eval", "--strict", "--json", "-"]
    done = subprocess.run(argv, input=expression.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == texts
