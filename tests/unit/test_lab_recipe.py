"""What the lab's hosts are made from, and what happens where there is nothing to make them with."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from fleet.cli.lab import lab
from fleet.errors import ConfigError
from fleet.lab import engine, image

if TYPE_CHECKING:
    from pathlib import Path


def test_any_change_of_the_recipe_is_another_image(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    seen = {image.digest(tmp_path)}
    (tmp_path / "a").write_text("2")
    seen.add(image.digest(tmp_path))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.add(image.digest(tmp_path))
    assert len(seen) == 3


def test_missing_engine_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("testcontainers")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(ConfigError, match=r"no Docker engine answers at unix:///.*/docker\.sock") as caught:
        engine.connect.__wrapped__()
    assert "start" in caught.value.hint


def test_missing_extra_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "testcontainers.core.docker_client", None)
    with pytest.raises(ConfigError) as caught:
        engine.connect.__wrapped__()
    assert caught.value.hint == "install fleet with its extra lab: pip install '.[lab]' in a checkout"


def test_free_port_is_free() -> None:
    assert engine.port_is_free(engine.free_port())


def test_help_needs_no_engine_and_imports_nothing_slow() -> None:
    code = (
        "import sys, fleet.cli.lab; print([m for m in ('docker', 'testcontainers', 'fleet.lab') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    for command in ([], ["up"], ["status"], ["down"], ["power"]):
        assert CliRunner().invoke(lab, [*command, "--help"]).exit_code == 0
