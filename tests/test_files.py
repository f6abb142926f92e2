"""Outputs appear whole or not at all, and leave nothing behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from napari_sam2._errors import DiskFullError, OutputError
from napari_sam2._files import partial_path, put_in_place, remove_partial, reserved, write_whole


def _run_and_die(code: str, *arguments: Path) -> None:
    """Run Python that ends without any cleaning up, as after SIGKILL."""
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=False, timeout=60)


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_file_appears_with_its_content(tmp_path: Path) -> None:
    assert write_whole(tmp_path / "a.txt", lambda part: part.write_text("new")) == tmp_path / "a.txt"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert _names(tmp_path) == ["a.txt"]


def test_a_failed_write_keeps_the_previous_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"No space left on device.*The previous file is unchanged"):
        write_whole(tmp_path / "a.txt", fail)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


def test_other_errors_pass_and_leave_nothing(tmp_path: Path) -> None:
    def interrupted(part: Path) -> None:
        part.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.txt", interrupted)
    assert _names(tmp_path) == []


def test_an_existing_file_is_replaced_only_if_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(OutputError, match="already exists"):
        write_whole(tmp_path / "a.txt", lambda part: part.write_text("new"), overwrite=False)
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_is_replaced_by_a_folder_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(OutputError, match="is a folder"):
        write_whole(tmp_path / "a", lambda part: part.write_text("file"))

    def make(part: Path) -> None:
        part.mkdir()
        (part / "new").touch()

    write_whole(tmp_path / "a", make)
    assert _names(tmp_path / "a") == ["new"]
    assert _names(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["missing/a.txt", "~no_such_user_here/a.txt", "a" * 300, "a\0b"])
def test_names_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError):
        write_whole(name, lambda part: part.write_text("new"))
    assert _names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_a_pipe_or_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    (tmp_path / "link.txt").symlink_to("a.txt")
    for name in ("a.txt", "link.txt"):
        with pytest.raises(OutputError, match="device or pipe"):
            write_whole(tmp_path / name, lambda part: part.write_text("new"))
    assert (tmp_path / "a.txt").is_fifo()
    assert _names(tmp_path) == ["a.txt", "link.txt"]


@pytest.mark.parametrize("name", ["", ".", "\ud800.txt"])
def test_what_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(OutputError, match="give"):
        write_whole(name, lambda part: part.write_text("new"))


def test_the_longest_name_a_file_system_allows(tmp_path: Path) -> None:
    write_whole(tmp_path / ("a" * 251 + ".txt"), lambda part: part.write_text("new"))
    assert len(_names(tmp_path)) == 1


def test_partial_files_of_dead_processes_are_removed(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from napari_sam2._files import partial_path
part = partial_path(Path(sys.argv[1]) / "killed.zarr")
part.mkdir()
(part / "chunk").write_text("half")
Path(f"{part}.tif").touch()
Path(f"{part}-journal").touch()
os._exit(1)
"""
    _run_and_die(code, tmp_path)
    assert len(_names(tmp_path)) == 3
    mine = partial_path(tmp_path / "mine.txt")
    mine.touch()
    (tmp_path / ".config.partial").touch()  # of somebody else
    write_whole(tmp_path / "a.txt", lambda part: part.write_text("new"))
    assert _names(tmp_path) == sorted([".config.partial", mine.name, "a.txt"])
    remove_partial(mine)


def test_a_folder_replaced_half_way_comes_back(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from napari_sam2._files import put_in_place, partial_path
path = Path(sys.argv[1]) / "labels.zarr"
path.mkdir()
(path / "old").touch()
part = partial_path(path)
part.mkdir()
rename = Path.rename
def die_at_the_second(self, target):
    if self == part:
        os._exit(1)
    return rename(self, target)
Path.rename = die_at_the_second
put_in_place(part, path)
"""
    _run_and_die(code, tmp_path)
    assert not (tmp_path / "labels.zarr").exists()
    write_whole(tmp_path / "a.txt", lambda part: part.write_text("new"))
    assert _names(tmp_path) == ["a.txt", "labels.zarr"]
    assert _names(tmp_path / "labels.zarr") == ["old"]


def test_a_second_process_is_refused_while_an_output_is_reserved(tmp_path: Path) -> None:
    code = """
import sys
from napari_sam2._files import reserved
with reserved(sys.argv[1]):
    print("reserved", flush=True)
    sys.stdin.read()
"""
    output = tmp_path / "labels [1].tif"
    first = subprocess.Popen([sys.executable, "-c", code, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == b"reserved\n"
    with pytest.raises(OutputError, match=f"being written by another process .{first.pid}."), reserved(output):
        pass
    with reserved(tmp_path / "other.tif"):
        pass
    first.kill()
    first.communicate()
    with reserved(output):
        assert len(_names(tmp_path)) == 1
    assert _names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_shows_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="cannot be written"), reserved(tmp_path / "a.txt"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_finished_file_replaces_a_folder_and_a_folder_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    part = partial_path(tmp_path / "a")
    part.write_text("file")
    put_in_place(part, tmp_path / "a")
    assert (tmp_path / "a").read_text() == "file"
    part.mkdir()
    put_in_place(part, tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    assert _names(tmp_path) == ["a"]


def test_a_link_to_nothing_is_replaced_by_files_and_folders(tmp_path: Path) -> None:
    for name, write in (("file", lambda part: part.write_text("new")), ("folder", Path.mkdir)):
        (tmp_path / name).symlink_to(tmp_path / "nowhere" / name)
        write_whole(tmp_path / name, write)
        assert (tmp_path / name).exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_into_which_a_thread_still_writes_is_removed(tmp_path: Path) -> None:
    def keep_writing(part: Path) -> None:
        for number in range(20):
            with suppress(OSError):
                part.mkdir(exist_ok=True)
                (part / str(number)).write_text("late")
            time.sleep(0.002)

    def fail(part: Path) -> None:
        thread = threading.Thread(target=keep_writing, args=(part,))
        threads.append(thread)
        thread.start()
        time.sleep(0.01)
        raise OSError(errno.ENOSPC, "No space left on device")

    threads: list[threading.Thread] = []
    with pytest.raises(DiskFullError):
        write_whole(tmp_path / "a.zarr", fail)
    threads[0].join()
    assert not list(tmp_path.iterdir())
