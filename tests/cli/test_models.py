"""``napari-sam2 models`` and ``download``, and how commands end."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

from napari_sam2 import _errors as errors
from napari_sam2.cli import main
from napari_sam2.cli._errors import exit_code, one_line_warnings, reported
from napari_sam2.weights.downloads import CACHE_VARIABLE, MIRROR_VARIABLE, OFFLINE_VARIABLE, RELEASES, Release


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served as the mirror, whose file of the smallest model is known to the table."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv(MIRROR_VARIABLE, f"http://127.0.0.1:{server.server_address[1]}")
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def test_models_lists_every_model_with_size_licence_and_place(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.mkdir()
    (cache / "sam2_hiera_tiny.pt").write_bytes(b"any")
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    for name in ("sam2_micro", *RELEASES):
        assert name in rows
    assert "156 MB" in rows["sam2_hiera_tiny"]
    assert "Apache-2.0" in rows["sam2_hiera_tiny"]
    assert rows["sam2_hiera_tiny"].endswith(f"yes      {cache / 'sam2_hiera_tiny.pt'}")
    assert rows["sam2_hiera_small"].endswith(RELEASES["sam2_hiera_small"].url)
    assert str(cache) in lines[-1]


def test_download_puts_the_file_in_place_and_prints_where(
    cache: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = b"weights" * 1000
    (mirror / "toy.pt").write_bytes(body)
    release = Release("toy", "https://unreachable.invalid/toy.pt", hashlib.sha256(body).hexdigest(), 1, 0.1)
    monkeypatch.setitem(RELEASES, "toy", release)
    assert run("download", "toy") == 0
    assert capsys.readouterr().out.strip() == str(cache / "toy.pt")
    assert (cache / "toy.pt").read_bytes() == body


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        pytest.param(["download", "nope"], 4, "error: the model 'nope' is unknown", id="unknown-model"),
        pytest.param(["download", "sam2_hiera_tiny"], 4, "404", id="not-on-the-mirror"),
        pytest.param(["download"], 2, "NAME", id="missing-argument"),
        pytest.param(["fly"], 2, "fly", id="unknown-command"),
        pytest.param(["models", "--fast"], 2, "--fast", id="unknown-option"),
    ],
)
def test_errors_are_reported_on_stderr_with_an_exit_code(
    cache: Path, mirror: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert run(*arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert "Traceback" not in said.err
    if code != 2:
        assert sum(line.startswith("error: ") for line in said.err.splitlines()) == 1


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(capsys: pytest.CaptureFixture[str], place: int) -> None:
    arguments = ["download", "nope"]
    arguments.insert(place, "--debug")
    assert run(*arguments) == 4
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.rstrip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert run(option) == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("models", "download", "--debug", "130 interrupted"):
        assert word in text


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import napari_sam2

    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"napari-sam2 {napari_sam2.__version__}"
    module = subprocess.run(
        [sys.executable, "-m", "napari_sam2", "--version"], capture_output=True, text=True, check=True
    )
    assert module.stdout.strip() == f"napari-sam2 {napari_sam2.__version__}"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.PromptError, 3),
        (errors.FrameError, 3),
        (errors.TrainingError, 3),
        (errors.CheckpointError, 4),
        (errors.DownloadError, 4),
        (errors.DeviceError, 5),
        (errors.OutputError, 6),
    ],
)
def test_each_kind_of_error_has_its_exit_code(kind: type[errors.NapariSAM2Error], code: int) -> None:
    assert exit_code(kind("why")) == code


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        pytest.param(errors.OutputError("no\n  space"), 6, "error: no space", id="ours"),
        pytest.param(ZeroDivisionError("by zero"), 1, "error: unexpected ZeroDivisionError: by zero", id="unexpected"),
        pytest.param(KeyboardInterrupt(), 130, "interrupted", id="ctrl-c"),
    ],
)
def test_error_of_a_command_becomes_one_line_and_a_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        reported(command)()
    assert ended.value.exit_code == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_warning_is_said_in_one_line(capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    import warnings

    with one_line_warnings():
        warnings.warn("slow\n here", stacklevel=1)
    assert capsys.readouterr().err == "warning: slow here\n"
    assert not recwarn


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a single process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
@pytest.mark.usefixtures("hangup_not_ignored")
def test_ctrl_c_or_a_signal_to_end_during_a_download_ends_at_130_and_leaves_nothing(
    number: signal.Signals, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv(MIRROR_VARIABLE, f"http://127.0.0.1:{listener.getsockname()[1]}")
        process = subprocess.Popen(
            [sys.executable, "-c", "from napari_sam2.cli import main; main()", "download", "sam2_hiera_tiny"],
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + bytes(2_000_000))
            time.sleep(0.3)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.rstrip().endswith("interrupted")
    assert "Traceback" not in said
    assert list(cache.iterdir()) == []
