"""The command that opens a window, without one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cli_tools import run


class Viewer:
    """Opens nothing."""

    is_closed = False

    def open(self, path: str) -> None:
        raise ValueError(f"no reader for\n{path}")

    def close(self) -> None:
        Viewer.is_closed = True


def test_a_file_that_napari_cannot_open_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "napari", SimpleNamespace(Viewer=Viewer))  # type: ignore[arg-type]
    (tmp_path / "a.xyz").touch()
    assert run("gui", tmp_path / "a.xyz") == 3
    assert "napari cannot open" in capsys.readouterr().err
    assert Viewer.is_closed


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["a.png", "--fix", "Z=1"], "only a position can be chosen"),
        (["a.png", "--fix", "=1"], "or the name of a position, --fix P=NAME"),
        (["--fix", "P=1"], "was given without a file"),
    ],
)
def test_only_a_position_of_a_file_can_be_chosen(
    given: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()
    assert run("gui", *given) == 3
    assert told in " ".join(capsys.readouterr().err.split())
