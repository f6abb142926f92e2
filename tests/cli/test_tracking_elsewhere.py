"""``--compute`` of ``track``, ``propagate``, ``segment`` and ``run`` gives what they give on this computer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from cli_tools import run, save_stack
from napari_sam2.session.session import Session
from server_tools import serving

pytestmark = pytest.mark.timeout(300)

LEAVES = 4


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with the bundled model."""
    with serving("sam2_micro") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Two discs, one of which leaves for longer than objects are searched for."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:64, :80]
    movie = rng.normal(20, 4, (12, 64, 80))
    for t, plane in enumerate(movie):
        plane[(y - 40) ** 2 + (x - 50 + t) ** 2 < 80] += 100
        if t < LEAVES:
            plane[(y - 18) ** 2 + (x - 18) ** 2 < 60] += 120
    return save_stack(tmp_path / "stack.ome.tif", movie.clip(0, 255).astype(np.uint8))


def test_track_gives_the_same_labels_and_scores(server: str, stack: Path, tmp_path: Path):
    prompts = ("--point", "2,18,18", "--point", "2,40,48", "--quiet")
    found = {}
    for place, options in (("here", ()), ("there", ("--compute", server))):
        labels, scores = tmp_path / f"{place}.tif", tmp_path / f"{place}.csv"
        assert run("track", stack, *prompts, *options, "-o", labels, "--scores", scores) == 0
        found[place] = tifffile.imread(labels), pd.read_csv(scores)
    np.testing.assert_array_equal(found["there"][0], found["here"][0])
    assert (found["here"][0] == 1).any()
    assert not (found["here"][0][LEAVES + 1 :] == 1).any()
    pd.testing.assert_frame_equal(found["there"][1], found["here"][1], atol=1e-3)


def test_propagate_gives_the_same_labels_and_objects(server: str, stack: Path, tmp_path: Path):
    (y, x), seeds = np.mgrid[:64, :80], np.zeros((2, 64, 80), np.uint16)
    for at, frame in enumerate((1, 8)):
        seeds[at][(y - 40) ** 2 + (x - 50 + frame) ** 2 < 80] = 5
    seeds[0][(y - 18) ** 2 + (x - 18) ** 2 < 60] = 2
    tifffile.imwrite(tmp_path / "seeds.tif", seeds)
    found = {}
    for place, options in (("here", ()), ("there", ("--compute", server))):
        labels, table = tmp_path / f"{place}.tif", tmp_path / f"{place}.csv"
        arguments = ("--labels", tmp_path / "seeds.tif", "--frame", 1, "--frame", 8, "--give-up", 2, "--quiet")
        assert run("propagate", stack, *arguments, *options, "-o", labels, "--csv", table) == 0
        found[place] = tifffile.imread(labels), pd.read_csv(table)
    np.testing.assert_array_equal(found["there"][0], found["here"][0])
    np.testing.assert_array_equal(found["there"][0][1], seeds[0])
    pd.testing.assert_frame_equal(found["there"][1], found["here"][1], atol=1e-3)


def test_segment_gives_the_same_labels(server: str, stack: Path, tmp_path: Path):
    prompts = ("--frame", 2, "--point", "18,18", "--box", "28,36,52,60")
    for place, options in (("here", ()), ("there", ("--compute", server))):
        assert run("segment", stack, *prompts, *options, "-o", tmp_path / f"{place}.tif") == 0
    found = [tifffile.imread(tmp_path / f"{place}.tif") for place in ("here", "there")]
    np.testing.assert_array_equal(*found)
    assert set(np.unique(found[0])) == {0, 1, 2}


def test_what_a_server_cannot_do_is_one_line(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    tifffile.imwrite(tmp_path / "seeds.tif", np.eye(64, 80, dtype=np.uint8))
    labels = ("--labels", tmp_path / "seeds.tif", "--frame", 1)
    elsewhere = ("--compute", "127.0.0.1:9", "-o", tmp_path / "a.tif")
    assert run("propagate", stack, *labels, "--min-score", 0.5, *elsewhere) != 0
    assert "--min-score cannot be combined with --compute" in capsys.readouterr().err
    assert run("segment", stack, "--frame", 1, "--point", "18,18", "--candidates", *elsewhere) != 0
    assert "--candidates cannot be combined with --compute" in capsys.readouterr().err


def test_run_gives_the_same_labels(server: str, stack: Path, tmp_path: Path):
    with Session(stack) as session:
        session.add_points([[2, 40, 48]])
        session.propagate(start=0, stop=6)
        session.save(tmp_path / "stack.sam2")
    for place, options in (("here", ()), ("there", ("--compute", server))):
        assert run("run", tmp_path / "stack.sam2", *options, "--quiet", "-o", tmp_path / f"{place}.tif") == 0
    found = [tifffile.imread(tmp_path / f"{place}.tif") for place in ("here", "there")]
    np.testing.assert_array_equal(*found)
    assert found[0].any()


def test_a_server_that_is_not_there_is_one_line(stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("track", stack, "--point", "2,18,18", "--compute", "127.0.0.1:9", "-o", tmp_path / "a.tif") != 0
    assert "no server answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "a.tif").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--model", "sam9"), 4, "neither a file nor the name of a model"),
        (("--host", "0.0.0.0"), 5, "make certificates with --new-certificates"),
        (("--certificates", "missing"), 5, "make certificates with --new-certificates"),
        (("--join", "127.0.0.1"), 5, "expected tcp://HOST:PORT"),
        (("--join", "tls://127.0.0.1:9"), 5, "give --certificates FOLDER"),
        (("--host", "nowhere.invalid", "--insecure"), 5, "check --host and --port"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    options: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
):
    assert run("serve", "--port", "0", *options) == code
    assert message in capsys.readouterr().err
