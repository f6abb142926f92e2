"""Downloads against a local server: good, wrong, cut, missing, unwritable, concurrent, cancelled."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from napari_sam2 import CheckpointError, DownloadError, list_models
from napari_sam2.weights.downloads import (
    BUNDLED_FILE,
    CACHE_VARIABLE,
    MIRROR_VARIABLE,
    OFFLINE_VARIABLE,
    RELEASES,
    Release,
    cache_folder,
    download_model,
    model_hash,
    release_url,
)

BODY = bytes(range(256)) * 12_000  # 3 MB, three chunks
NAME = "toy.pt"


@dataclass
class Server:
    """A server whose answers are chosen request by request; the last answer repeats."""

    url: str = ""
    answers: list[str] = field(default_factory=lambda: ["good"])
    requests: list[str] = field(default_factory=list)

    def next_answer(self) -> str:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.requests.append(self.path)
            answer = state.next_answer()
            if answer == "404":
                self.send_error(404, "no such file")
                return
            if answer == "503":
                self.send_error(503, "busy")
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.close_connection = True
            if answer == "good":
                self.wfile.write(BODY)
            elif answer == "wrong":
                self.wfile.write(BODY[:-1] + b"x")
            elif answer == "slow":
                for start in range(0, len(BODY), 300_000):
                    self.wfile.write(BODY[start : start + 300_000])
                    time.sleep(0.02)
            elif answer == "truncated":
                self.wfile.write(BODY[: len(BODY) // 2])
            elif answer == "cut":
                self.wfile.write(BODY[:1000])
                self.wfile.flush()
                self.connection.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER 0: reset, not close
                self.connection.close()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_address[1]}"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)  # between two attempts
    folder = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def make_release(server: Server, **over: object) -> Release:
    release = Release("toy", f"{server.url}/some/where/{NAME}", hashlib.sha256(BODY).hexdigest(), 10, 3.0)
    return replace(release, **over)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_good_file_lies_whole_under_its_name_and_is_not_fetched_again(server: Server, cache: Path) -> None:
    path = download_model(make_release(server))
    assert path == cache / NAME
    assert path.read_bytes() == BODY
    assert names(cache) == [NAME]
    assert download_model(make_release(server)) == path
    assert server.requests == [f"/some/where/{NAME}"]


def test_progress_counts_each_byte_once_up_to_the_size(server: Server) -> None:
    seen: list[tuple[int, int]] = []
    download_model(make_release(server), progress=lambda done, total: seen.append((done, total)))
    done = [d for d, _ in seen]
    assert {total for _, total in seen} == {len(BODY)}
    assert done == sorted(set(done))
    assert done[-1] == len(BODY)


@pytest.mark.parametrize(
    ("answer", "num_requests", "words"),
    [
        pytest.param("wrong", 3, ["SHA256", "does not match the known hash", "proxy"], id="wrong-hash"),
        pytest.param("404", 3, ["404", MIRROR_VARIABLE], id="not-found"),
        pytest.param("503", 3, ["503", OFFLINE_VARIABLE], id="server-error"),
        pytest.param("truncated", 3, ["3 attempts", "connection"], id="truncated-body"),
        pytest.param("cut", 3, ["3 attempts", "connection"], id="connection-cut"),
    ],
)
def test_bad_answer_is_an_error_that_leaves_nothing(
    server: Server, cache: Path, answer: str, num_requests: int, words: list[str]
) -> None:
    server.answers = [answer]
    release = make_release(server)
    with pytest.raises(DownloadError) as caught:
        download_model(release)
    text = str(caught.value)
    assert names(cache) == []
    assert len(server.requests) == num_requests
    assert "\n" not in text
    for word in [*words, release.url, str(cache / NAME)]:
        assert word in text


@pytest.mark.parametrize("answer", ["cut", "truncated", "wrong", "503"])
def test_a_failed_attempt_starts_again_and_ends_well(server: Server, cache: Path, answer: str) -> None:
    server.answers = [answer, "good"]
    assert download_model(make_release(server)).read_bytes() == BODY
    assert len(server.requests) == 2
    assert names(cache) == [NAME]


def test_nobody_listening_is_an_error_with_the_cause(server: Server, cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"refused.*Check the connection"):
        download_model(make_release(server, url=f"http://127.0.0.1:9/{NAME}"))
    assert names(cache) == []


def test_mirror_that_is_no_web_address_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, "file:///mnt/models")
    with pytest.raises(DownloadError, match=r"file:///mnt/models/toy\.pt cannot be downloaded.*http"):
        download_model(make_release(server))


def test_bad_file_in_the_cache_is_replaced_by_a_good_one(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(BODY[:1000])
    assert download_model(make_release(server)).read_bytes() == BODY
    assert names(cache) == [NAME]


def test_bad_file_in_the_cache_is_gone_even_if_no_good_one_comes(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(b"old and wrong")
    server.answers = ["wrong"]
    with pytest.raises(DownloadError):
        download_model(make_release(server))
    assert names(cache) == []


def test_a_killed_download_is_cleaned_up_by_the_next_one(server: Server, cache: Path) -> None:
    server.answers = ["slow"]
    release = make_release(server)
    script = (
        "import os, sys\n"
        "from napari_sam2.weights.downloads import Release, download_model\n"
        "download_model(Release('toy', sys.argv[1], sys.argv[2], 10, 3.0), progress=lambda *_: os._exit(9))\n"
    )
    command = [sys.executable, "-c", script, release.url, release.sha256]
    assert subprocess.run(command, check=False, timeout=60, stderr=subprocess.DEVNULL).returncode == 9
    assert len(names(cache)) == 1
    assert names(cache) != [NAME]
    download_model(release)
    assert names(cache) == [NAME]


def test_folder_that_is_a_file_is_an_error_naming_the_variable(server: Server, cache: Path) -> None:
    cache.write_text("not a folder")
    with pytest.raises(DownloadError, match=CACHE_VARIABLE):
        download_model(make_release(server))
    assert cache.read_text() == "not a folder"
    assert server.requests == []


def test_read_only_folder_is_an_error_naming_the_variable(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def refuse(path: Path, *arguments: object, **options: object) -> None:
        if path.name.endswith(".partial"):
            raise PermissionError(13, "Permission denied")
        make(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DownloadError, match=rf"Permission denied.*{CACHE_VARIABLE}"):
        download_model(make_release(server))
    assert names(cache) == []
    assert server.requests == []


def test_full_disk_is_an_error_that_leaves_nothing(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", full)
    with pytest.raises(DownloadError, match=r"No space left on device.*free some space"):
        download_model(make_release(server))
    assert names(cache) == []


@pytest.mark.parametrize("after", [pytest.param(0, id="at-once"), pytest.param(2, id="in-the-middle")])
def test_cancelling_ends_the_download_and_leaves_nothing(server: Server, cache: Path, after: int) -> None:
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(len(asked))
        return len(asked) > after

    with pytest.raises(DownloadError, match="cancelled"):
        download_model(make_release(server), cancelled=cancelled)
    assert len(asked) == after + 1
    assert names(cache) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_error_in_the_progress_callback_comes_through_and_leaves_nothing(
    server: Server, cache: Path, error: type[BaseException]
) -> None:
    def progress(done: int, total: int) -> None:
        raise error

    with pytest.raises(error):
        download_model(make_release(server), progress=progress)
    assert names(cache) == []
    assert download_model(make_release(server)).read_bytes() == BODY


def test_two_processes_at_once_both_get_the_whole_file(server: Server, cache: Path) -> None:
    server.answers = ["slow"]
    release = make_release(server)
    script = (
        "import sys\n"
        "from napari_sam2.weights.downloads import Release, download_model\n"
        "path = download_model(Release('toy', sys.argv[1], sys.argv[2], 10, 3.0))\n"
        "assert len(path.read_bytes()) == int(sys.argv[3])\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, release.url, release.sha256, str(len(BODY))]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert (cache / NAME).read_bytes() == BODY
    assert names(cache) == [NAME]


def test_mirror_is_asked_instead_of_the_published_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, f"{server.url}/mirror/")
    release = make_release(server, url=f"https://unreachable.invalid/deep/{NAME}")
    assert release_url(release) == f"{server.url}/mirror/{NAME}"
    assert download_model(release).read_bytes() == BODY
    assert server.requests == [f"/mirror/{NAME}"]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "offline"
    folder.mkdir()
    monkeypatch.setenv(OFFLINE_VARIABLE, str(folder))
    return folder


def test_offline_folder_serves_a_verified_file_without_the_network(server: Server, offline: Path) -> None:
    (offline / NAME).write_bytes(BODY)
    assert download_model(make_release(server)) == offline / NAME
    assert server.requests == []


def test_offline_folder_leaves_the_cache_in_use(server: Server, cache: Path, offline: Path) -> None:
    cache.mkdir()
    (cache / NAME).write_bytes(BODY)
    assert download_model(make_release(server)) == cache / NAME


@pytest.mark.parametrize(
    ("content", "words"),
    [pytest.param(None, "neither there nor in", id="missing"), pytest.param(b"wrong", "has SHA-256", id="wrong-hash")],
)
def test_offline_folder_without_the_right_file_is_an_error_and_no_request(
    server: Server, cache: Path, offline: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (offline / NAME).write_bytes(content)
    release = make_release(server)
    with pytest.raises(DownloadError, match=words) as caught:
        download_model(release)
    for word in (release.url, str(offline), OFFLINE_VARIABLE):
        assert word in str(caught.value)
    assert server.requests == []


def test_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"'sam3'.*sam2_micro.*sam2\.1_hiera_tiny"):
        download_model("sam3")


def test_bundled_model_needs_no_download(cache: Path) -> None:
    assert download_model("sam2_micro") == BUNDLED_FILE
    assert names(cache) == []


def test_table_holds_the_eight_released_checkpoints() -> None:
    assert len(RELEASES) == 8
    assert len({release.sha256 for release in RELEASES.values()}) == 8
    for name, release in RELEASES.items():
        assert release.file_name == f"{name}.pt"
        assert len(release.sha256) == 64
        assert set(release.sha256) <= set("0123456789abcdef")
        assert release.url.startswith("https://")
        assert release.licence == "Apache-2.0"
        assert release.size_mb == pytest.approx(4e-6 * release.parameters, rel=0.005)


def test_list_models_tells_what_is_present_and_where(cache: Path) -> None:
    cache.mkdir()
    (cache / "sam2_hiera_small.pt").write_bytes(b"any")
    models = {info.name: info for info in list_models()}
    assert next(iter(models)) == "sam2_micro"
    assert len(models) == 9
    assert models["sam2_hiera_small"].is_present
    assert models["sam2_hiera_small"].path == cache / "sam2_hiera_small.pt"
    assert not models["sam2_hiera_tiny"].is_present
    assert models["sam2_hiera_tiny"].url == RELEASES["sam2_hiera_tiny"].url
    assert models["sam2_micro"].is_present == BUNDLED_FILE.is_file()


def test_cache_folder_follows_the_variable_or_the_platform(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert cache_folder() == cache
    monkeypatch.setenv(CACHE_VARIABLE, "~/models")
    assert cache_folder() == Path.home() / "models"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder().parts[-1] == "napari-sam2" or "napari-sam2" in cache_folder().parts


def test_model_hash_is_the_sha256_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(BODY)
    assert model_hash(tmp_path / "f") == hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p], ids=["missing", "folder"])
def test_model_hash_of_no_file_is_an_error(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        model_hash(make(tmp_path))
