"""What reaches the terminal: no control characters, and an error where it cannot be written to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from cli_tools import run, save_stack
from napari_sam2 import OutputError
from napari_sam2.cli._errors import one_line_warnings
from napari_sam2.cli._stopping import StopRequest, termination_interrupts
from napari_sam2.cli._terminal import print_table, printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cells µm² 細胞\u3000.tif", "cells µm² 細胞\u3000.tif"),
        ("\x1b[2J\x07red\r", "\\x1b[2J\\x07red\\r"),
        ("a\x9b31m", "a\\x9b31m"),
        ("right\u202eleft", "right\\u202eleft"),
        ("bytes\udcff", "bytes\\udcff"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_control_characters_are_printed_as_escape_sequences(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_tables_and_lines_are_printed_safely(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("object", "name"), [("1", "\x1b]0;title\x07")])
    say("wrote \x1b[2J\nsecond line")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.splitlines() == [
        "object              name",
        "     1  \\x1b]0;title\\x07",
        "wrote \\x1b[2J",
        "second line",
    ]


def test_names_in_errors_are_printed_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("track", tmp_path / "a\x1b[31m.tif", "--point", "0,1,1", "-o", tmp_path / "o.tif") == 3
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert error.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full, on Linux")
@pytest.mark.parametrize("arguments", [["models"], ["--help"]])
def test_standard_output_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    code = f"from napari_sam2.cli import main; main({arguments!r})"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == 6
    assert done.stderr.startswith("error: standard output cannot be written (No space left on device)")
    assert done.stderr.count("\n") == 1


def test_a_full_standard_output_is_an_output_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("typer.echo", full)
    with pytest.raises(OutputError, match="standard output cannot be written"):
        say("anything")
    say("nobody can be told", err=True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["segment", "~nouser/a.png", "--point", "1,1", "-o", "o.tif"], 3, "~nouser/a.png", id="input"),
        pytest.param(["segment", "a.ome.tif", "--point", "1,1", "-o", "~nouser/o.tif"], 3, "~nouser", id="output"),
        pytest.param(["segment", "a.ome.tif", "--point", "1,1", "-o", "o" * 300 + ".tif"], 6, "too long", id="long-o"),
        pytest.param(["segment", "a" * 300 + ".tif", "--point", "1,1", "-o", "o.tif"], 3, "", id="long-input"),
        pytest.param(["run", "a.sam2", "-o", "o" * 300 + ".tif"], 6, "too long", id="long-o-of-run"),
        pytest.param(["run", "a" * 300 + ".sam2", "-o", "o.tif"], 3, "cannot be read", id="long-session"),
        pytest.param(["run", "a.sam2", "-o", "o.png"], 6, "allowed suffixes", id="suffix-of-run"),
        pytest.param(
            ["segment", "a.ome.tif", "--point", "1,1", "-o", "o.tif", "--model", "~nouser/w.pt"], 4, "", id="model"
        ),
        pytest.param(["train", "~nouser/a", "b", "-o", "w.safetensors"], 3, "~nouser", id="train"),
        pytest.param(["gui", "~nouser/a.tif"], 3, "~nouser", id="gui"),
    ],
)
def test_names_that_no_file_can_have_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_stack(tmp_path / "a.ome.tif", np.zeros((1, 32, 32), np.uint16))
    assert run(*arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "unexpected" not in error
    assert words in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.tif"]


def test_memory_that_runs_out_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def large(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 7.28 TiB")

    monkeypatch.setattr("napari_sam2.frames.open_frames", large)
    assert run("segment", "a.tif", "--point", "1,1", "-o", tmp_path / "o.tif") == 5
    assert capsys.readouterr().err.startswith("error: not enough memory (Unable to allocate 7.28 TiB)")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP")
def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with termination_interrupts(), StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.is_set()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_deprecations_in_libraries_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with one_line_warnings():
        warnings.showwarning("the shape of an array", DeprecationWarning, "a.py", 1)
        warnings.showwarning("there are holes", UserWarning, "a.py", 1)
    assert capsys.readouterr().err == "warning: there are holes\n"
