"""Jobs give what the Python functions and commands for single files give."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli_tools import make_disks, save_random_model, save_stack
from napari_sam2 import (
    FrameError,
    PromptError,
    SAM2VideoSegmenter,
    load_model,
    open_frames,
    segment_seeds,
    segment_stack,
)
from napari_sam2.batch.jobs import (
    AutoJob,
    FindOptions,
    GenerateJob,
    Job,
    KeepOptions,
    PropagateJob,
    ReadOptions,
    TrackJob,
    settings_of,
)
from napari_sam2.batch.pieces import Source
from napari_sam2.frames import Frames
from napari_sam2.labels.reading import read_labels
from napari_sam2.network.sam2 import SAM2

ANYTHING = FindOptions(point_spacing_px=16, pred_iou_thresh=0.0, stability_score_thresh=0.0)
"""Random weights find something with these."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SAM2:
    return load_model(save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors"), device="cpu")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return save_stack(tmp_path / "stack.ome.tif", make_disks()[0])


def test_generate_writes_the_labels_of_one_frame(stack: Path, model: SAM2, tmp_path: Path):
    out = tmp_path / "out.tif"
    outcome = GenerateJob(ANYTHING, frame=1).run(Source(stack), out, model)
    labels = read_labels(out)
    assert labels.shape == (48, 48)
    assert outcome.objects == labels.max() > 0
    few = GenerateJob(ANYTHING, KeepOptions(min_area="9999um2")).run(Source(stack, frames=(1,)), out, model)
    assert few.objects == read_labels(out).max() == 0


@pytest.mark.parametrize(("frame", "message"), [(None, "choose one with --frame"), (4, "frames 0 to 3")])
def test_generate_needs_a_frame_of_a_stack(frame: int | None, message: str, stack: Path, model: SAM2, tmp_path: Path):
    with pytest.raises(FrameError, match=message):
        GenerateJob(ANYTHING, frame=frame).run(Source(stack), tmp_path / "out.tif", model)
    assert not (tmp_path / "out.tif").exists()


def test_auto_equals_segment_stack(stack: Path, model: SAM2, tmp_path: Path):
    outcome = AutoJob(ANYTHING, every=2).run(Source(stack), tmp_path / "out.tif", model)
    found = segment_stack(open_frames(stack), every=2, finder=ANYTHING.generator(model), model=model)
    np.testing.assert_array_equal(read_labels(tmp_path / "out.tif"), found.labels)
    assert (outcome.objects, outcome.frames) == (len(found.report.tracks), 4)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_auto_searches_a_single_image_in_tiles(suffix: str, model: SAM2, tmp_path: Path):
    tifffile.imwrite(tmp_path / "image.tif", make_disks()[0][0])
    out = tmp_path / f"out{suffix}"
    outcome = AutoJob(ANYTHING, tile=32, overlap=8).run(Source(tmp_path / "image.tif"), out, model)
    assert outcome.objects == read_labels(out).max() > 0


def test_auto_links_volumes_over_time(model: SAM2, tmp_path: Path):
    volumes = np.stack([make_disks(2)[0]] * 2)
    path = save_stack(tmp_path / "volumes.ome.tif", volumes, "TZYX")
    outcome = AutoJob(ANYTHING, every=1).run(Source(path), tmp_path / "out.ome.tif", model)
    assert outcome.frames == 4
    assert read_labels(tmp_path / "out.ome.tif").shape == (2, 2, 48, 48)


def test_a_position_is_read_with_all_its_time_points(model: SAM2, tmp_path: Path):
    volumes = np.stack([make_disks()[0][:2]] * 2)
    np.save(tmp_path / "a.npy", np.stack([np.zeros_like(volumes), volumes]))
    reading = ReadOptions(axes="PTZYX")
    counts = []
    for position in range(2):
        out = tmp_path / f"a_pos{position}.tif"
        job = AutoJob(ANYTHING, reading=reading, every=1)
        outcome = job.run(Source(tmp_path / "a.npy", position=position), out, model)
        counts.append((outcome.frames, outcome.objects > 0))
        assert read_labels(out).shape == volumes.shape
    frames = ReadOptions(axes="PTZYX", fixed=(("T", 0),)).open(Source(tmp_path / "a.npy", position=1))
    assert np.array_equal(frames.raw(0)[0], volumes[0, 0])
    assert [frames for frames, _ in counts] == [4, 4]
    assert counts[1][1]


def test_propagate_equals_segment_seeds(stack: Path, model: SAM2, tmp_path: Path):
    seeds = make_disks()[1][1]
    tifffile.imwrite(tmp_path / "seeds.tif", seeds.astype(np.uint16))
    source = Source(stack, labels=tmp_path / "seeds.tif", frames=(1,))
    outcome = PropagateJob().run(source, tmp_path / "out.tif", model)
    found = segment_seeds(open_frames(stack), seeds, 1, model=model)
    np.testing.assert_array_equal(read_labels(tmp_path / "out.tif"), found.labels)
    assert outcome.objects == 2


@pytest.mark.parametrize(
    ("frames", "min_area", "message"),
    [
        ((), 1, "give the index of its frame"),
        ((9,), 1, "for frame 9; the stack has frames 0 to 3"),
        ((1,), 10_000, "no label"),
    ],
)
def test_labels_that_do_not_fit_are_found_when_settings_are_tried(
    frames, min_area, message, stack: Path, tmp_path: Path
):
    tifffile.imwrite(tmp_path / "seeds.tif", make_disks()[1][1].astype(np.uint16))
    job = PropagateJob(frames=frames, min_area_px=min_area)
    with pytest.raises(PromptError, match=message):
        job.try_on(Source(stack, labels=tmp_path / "seeds.tif"))


def test_track_equals_the_segmenter(stack: Path, model: SAM2, tmp_path: Path):
    prompts = (("--object", "5"), ("--point", "1,14,15"), ("--negative", "1,40,40"))
    outcome = TrackJob().run(Source(stack, prompts=prompts), tmp_path / "out.tif", model)
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(open_frames(stack))
    segmenter.add_clicks(1, [(15, 14), (40, 40)], [1, 0], object_id=5)
    np.testing.assert_array_equal(read_labels(tmp_path / "out.tif"), segmenter.track_objects())
    assert (outcome.objects, outcome.frames) == (1, 4)


@pytest.mark.parametrize(
    "job",
    [
        GenerateJob(ANYTHING, frame=1),
        AutoJob(ANYTHING, every=2),
        PropagateJob(frames=(1,)),
        TrackJob(),
    ],
    ids=lambda job: job.command,
)
@pytest.mark.parametrize("changed", ["stack", "seeds"])
def test_a_file_that_changes_while_it_is_processed_has_no_result(
    job: Job, changed: str, stack: Path, model: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seeds = tmp_path / "seeds.tif"
    tifffile.imwrite(seeds, make_disks()[1][1].astype(np.uint16))
    source = Source(stack, labels=seeds, prompts=(("--point", "1,14,15"),))
    file = {"stack": stack, "seeds": seeds}[changed]
    opened = ReadOptions.open

    def replaced_afterwards(self: ReadOptions, given: Source) -> Frames:
        frames = opened(self, given)
        new = file.with_name("new")
        new.write_bytes(file.read_bytes())
        os.utime(new, ns=(1, 1))
        new.replace(file)
        return frames

    monkeypatch.setattr(ReadOptions, "open", replaced_afterwards)
    (tmp_path / "out.tif").write_text("of an earlier run")
    with pytest.raises(FrameError, match=rf"{file.name} changed while it was being processed"):
        job.run(source, tmp_path / "out.tif", model)
    assert (tmp_path / "out.tif").read_text() == "of an earlier run"


def test_file_can_have_axes_and_channels_of_its_own(tmp_path: Path):
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((2, 3, 20, 30), np.uint8), metadata=None)
    frames = ReadOptions(axes="ZCYX", channels=(0,)).open(Source(tmp_path / "image.tif"))
    assert (len(frames), frames.channels) == (2, (0,))
    frames = ReadOptions(axes="ZCYX").open(Source(tmp_path / "image.tif", axes="CZYX", channels=(1,)))
    assert (len(frames), frames.channels) == (3, (1,))


@pytest.mark.parametrize(
    ("job", "source", "message"),
    [
        pytest.param(TrackJob(), Source(Path("a.tif")), "has no prompts", id="track"),
        pytest.param(PropagateJob(), Source(Path("a.tif")), "has no labels", id="propagate"),
        pytest.param(GenerateJob(), Source(Path("a.tif"), frames=(1, 2)), "with 2 frames", id="generate"),
        pytest.param(AutoJob(tile=8, overlap=8), Source(Path("a.tif")), "overlap", id="auto-tiles"),
        pytest.param(AutoJob(every=0), Source(Path("a.tif")), "every=0", id="auto-every"),
        pytest.param(AutoJob(min_score=2.0), Source(Path("a.tif")), "min_score=2.0 was given", id="auto-score"),
        pytest.param(
            AutoJob(finding=FindOptions(pred_iou_thresh=-1.0)), Source(Path("a.tif")), "numbers from 0", id="auto-iou"
        ),
        pytest.param(
            GenerateJob(finding=FindOptions(point_spacing_px=0.0)),
            Source(Path("a.tif")),
            "from 1",
            id="spacing",
        ),
        pytest.param(PropagateJob(give_up_after=0), Source(Path("a.tif")), "integers from 1", id="propagate-give-up"),
    ],
)
def test_impossible_jobs_are_refused_before_any_image_is_read(job: Job, source: Source, message: str):
    with pytest.raises((FrameError, PromptError), match=message):
        job.check([source])


def test_settings_name_what_was_given():
    job = AutoJob(
        FindOptions(pred_iou_thresh=0.6),
        KeepOptions(min_area="5um2"),
        ReadOptions(fixed=(("P", 2),)),
        key_frames=(1, 4),
    )
    assert settings_of(job) == {
        "finding": {"pred_iou_thresh": 0.6},
        "shapes": {"min_area": "5um2", "exclude_border": False},
        "reading": {"fixed": [["P", 2]], "contrast": "auto", "gamma": 1.0},
        "key_frames": [1, 4],
        "min_score": 0.0,
        "tile": 768,
        "overlap": 128,
    }
