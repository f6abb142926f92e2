"""Options of ``track``, ``propagate``, ``auto`` and ``run`` that contradict each other are refused in one line."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli_tools import make_disks, run, save_stack
from napari_sam2.session.session import Session

pytestmark = pytest.mark.usefixtures("no_model")

TRACK = "track stack.tif --point 1,14,15"
PROPAGATE = "propagate stack.tif --labels seeds.tif"


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be loaded."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("napari_sam2.weights.loading.load_model", load)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pairs")
    stack, labels = make_disks()
    save_stack(place / "stack.tif", stack)
    save_stack(place / "image.tif", stack[0], "YX")
    save_stack(place / "movie.tif", stack, "TYX")
    tifffile.imwrite(place / "rgb.tif", np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(place / "seeds.tif", labels.astype(np.uint16), photometric="minisblack")
    with Session(str(place / "stack.tif")) as session:
        session.add_mask(labels[1] == 1, frame=1)
        session.save(place / "a.sam2")
    return place


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{TRACK} --compute tcp://127.0.0.1:9 --device cuda", "the server chooses its device"),
        (f"{TRACK} --insecure", "require --compute"),
        (f"{TRACK} --certificates keys", "require --compute"),
        (f"{TRACK} --along Y --compute tcp://127.0.0.1:9", "leave out --compute"),
        (f"{TRACK} --along Y --axes-vote", "give one"),
        (f"{TRACK} --along Y --range 0,1", "--range cannot be combined with --along Y"),
        (f"{TRACK} --along Y --preview a.png", "--preview cannot be combined"),
        (f"{TRACK} --along Y --scores a.csv", "--scores cannot be combined"),
        (f"{TRACK} --axes-vote --keep-apart", "--keep-apart cannot be combined with --along ZYX"),
        (f"{TRACK} --along Y --full-resolution", "--full-resolution cannot be combined"),
        (f"{TRACK} --full-resolution", "--level 1 or more"),
        (f"{TRACK} --axis T", "expected Z"),
        (f"{TRACK} --fix P=1", "axes ZYX; expected one of Z"),
        (f"{TRACK} --level 1", "level 1 of stack.tif was requested; it has 1"),
        (f"{TRACK} --channels 1", "the image has 1 channel"),
        (f"{PROPAGATE} --compute tcp://127.0.0.1:9 --min-score 0.5", "--min-score cannot be combined"),
        (f"{PROPAGATE} --compute tcp://127.0.0.1:9 --device cpu", "the server chooses its device"),
        (f"{PROPAGATE} --full-resolution", "--level 1 or more"),
        ("auto stack.tif --every 2 --key-frame 1", "give one"),
        ("auto stack.tif --tile 64", "--tile is for single images"),
        ("auto stack.tif --overlap 8", "--overlap is for single images"),
        ("auto stack.tif --divisions", "--divisions is for movies"),
        ("auto stack.tif --tracks a.xml", "--tracks requires --divisions"),
        ("auto movie.tif --divisions --every 2", "--every cannot be combined with --divisions"),
        ("auto movie.tif --divisions --csv a.csv", "--csv cannot be combined with --divisions"),
        ("auto movie.tif --divisions --tracks a.txt", "expected .geff, .xml, .csv"),
        ("auto image.tif --every 2", "--every is for stacks"),
        ("auto image.tif --key-frame 0", "--key-frame is for stacks"),
        ("auto image.tif --min-score 0.5", "--min-score is for stacks"),
        ("auto image.tif --split-stacked", "--split-stacked is for stacks"),
        ("auto image.tif --keep-stacked", "--keep-stacked is for stacks"),
        ("auto image.tif --csv a.csv", "generate --csv"),
        ("run a.sam2 --rule automatic", "--rule requires --on"),
        ("run a.sam2 --workers 2", "--workers requires --on"),
        ("run a.sam2 --restart", "--restart requires --on"),
        ("run a.sam2 --compute tcp://127.0.0.1:9 --device cpu", "the server chooses its device"),
        ("run a.sam2 --on image.tif --compute tcp://127.0.0.1:9", "cannot be combined"),
        ("run a.sam2 --on image.tif --scores a.csv", "leave out --stack, --scores"),
    ],
)
def test_contradicting_options_are_refused(
    command: str,
    words: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(folder)
    assert run(*shlex.split(command), "-o", tmp_path / "out.tif") not in (0, 1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 or "Usage" in lines[0]
    assert words in " ".join(" ".join(lines).split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{TRACK} --gamma 0", "--gamma 0.0 was given; expected a number above 0"),
        (f"{TRACK} --device gpu", "--device gpu was given; available are"),
        (f"{TRACK} --dtype half", "--dtype half was given; expected auto"),
        (f"{TRACK} --along ZZ", "--along ZZ was given; expected some of Z, Y and X"),
        (f"{TRACK} --zoom x", "--zoom x was given; expected"),
        (f"{PROPAGATE} --min-area 0", "--min-area 0 was given; expected integers from 1"),
        (f"{PROPAGATE} --give-up 0", "--give-up 0 was given; expected integers from 1"),
        ("auto stack.tif --every 0", "--every 0 was given; expected integers from 1"),
        ("auto stack.tif --iou 2", "--iou 2.0 was given; expected numbers from 0 to 1"),
        ("auto stack.tif --stability -1", "--stability -1.0 was given; expected numbers from 0 to 1"),
        ("generate image.tif --spacing 0", "--spacing 0.0 was given; expected finite numbers from 1"),
        ("generate image.tif --overlap 2", "--overlap 2.0 was given; expected numbers from 0 to 1"),
        ("generate image.tif --points-per-side 0", "--points-per-side 0 was given; expected integers from 1"),
        ("batch generate image.tif --workers 0", "--workers 0 was given; expected integers from 1"),
        ("batch generate image.tif --retries -1", "--retries -1 was given; expected integers from 0"),
        (
            "batch generate image.tif --workers 1 --scheduler tcp://a:1",
            "one of --workers, --scheduler and --cluster",
        ),
    ],
)
def test_values_that_cannot_be_are_named_by_their_options(
    command: str,
    words: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.undo()  # devices are looked for where models are loaded
    monkeypatch.chdir(folder)
    assert run(*shlex.split(command), "-o", tmp_path / "out.tif") in (3, 4, 5)
    assert words in " ".join(capsys.readouterr().err.split())
