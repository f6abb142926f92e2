"""Folders with one file per plane, whose names say along which axes the planes lie."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2 import FrameError, open_frames
from napari_sam2.frames.file_names import grid_of_names

pytestmark = pytest.mark.filterwarnings("ignore:the image has several")


def named(pattern: str, **lengths: int) -> list[str]:
    return [
        pattern.format(**dict(zip(lengths, place, strict=True))) for place in product(*map(range, lengths.values()))
    ]


@pytest.mark.parametrize(
    ("names", "axes", "shape"),
    [
        pytest.param(named("exp_z{z:02d}_ch{c:02d}", z=5, c=2), "CZ", (2, 5), id="leica"),
        pytest.param(named("exp_s{s:02d}t{t:02d}z{z}c{c}_ORG", s=2, t=3, z=2, c=2), "PTCZ", (2, 3, 2, 2), id="zeiss"),
        pytest.param(named("img_channel{c:03d}_position000_time{t:09d}_z{z:03d}", c=2, t=2, z=3), "TCZ", (2, 2, 3),
                     id="micro-manager"),
        pytest.param(["e_w1DAPI_t1", "e_w1DAPI_t2", "e_w2GFP_t1", "e_w2GFP_t2"], "TC", (2, 2), id="metamorph"),
        pytest.param(named("r01c02f0{f}p0{p}-ch{c}sk1fk1fl1", f=2, p=3, c=2), "PCZ", (2, 2, 3), id="opera"),
        pytest.param(named("t{t}", t=12), "T", (12,), id="time"),
        pytest.param(named("cell_ch{c}", c=3), "C", (3,), id="channels"),
        pytest.param(named("a_t{t}_z0_2024-01-0{t}", t=3), "T", (3,), id="other-numbers-beside"),
    ],
)  # fmt: skip
def test_numbers_after_words_for_axes_are_axes(names: list[str], axes: str, shape: tuple[int, ...]):
    shuffled = names[::-1]
    grid = grid_of_names(shuffled, "folder")
    assert grid is not None
    assert (grid.axes, grid.shape) == (axes, shape)
    assert sorted(grid.order) == list(range(len(names)))


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(named("img_{i:03d}", i=4), id="plain-numbers"),
        pytest.param(named("s{i}", i=4), id="a-letter-of-slices-or-scenes"),
        pytest.param(["a_t1", "a_t2", "overview"], id="one-without-a-number"),
        pytest.param(["1_t1", "1_t2", "2_t1", "2_t2"], id="another-number-tells-them-apart"),
        pytest.param(["t1_t5", "t2_t6"], id="an-axis-twice"),
    ],
)
def test_other_names_are_in_natural_order(names: list[str]):
    assert grid_of_names(names, "folder") is None


def write(folder: Path, names: list[str], **options: object) -> None:
    folder.mkdir()
    for number, name in enumerate(names):
        tifffile.imwrite(folder / f"{name}.tif", np.full((8, 9), 10 * number, np.uint8), **options)


def test_planes_and_channels_of_a_folder_are_not_mixed(tmp_path: Path):
    write(tmp_path / "a", named("exp_z{z:02d}_ch{c:02d}", z=5, c=2))
    frames = open_frames(tmp_path / "a", channels=1, contrast="dtype")
    assert (frames.axes, frames.shape) == ("CZYX", (5, 8, 9))
    assert [int(frames[z][0, 0, 0]) for z in range(5)] == [10, 30, 50, 70, 90]
    both = open_frames(tmp_path / "a", contrast="dtype")
    assert len(np.unique(both[2])) > 1


def test_positions_are_chosen_and_not_taken_for_time(tmp_path: Path):
    write(tmp_path / "a", named("cell_pos{p}_t{t}", p=2, t=3))
    frames = open_frames(tmp_path / "a", fixed={"P": 1}, contrast="dtype")
    assert (frames.axes, frames.frame_axis) == ("PTYX", "T")
    assert [int(frames[t][0, 0, 0]) for t in range(3)] == [30, 40, 50]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param(named("e_z{z}_ch{c}", z=3, c=2)[:-1], "2 of C, 3 of Z), and 1 of 6 are missing, such as the one "
                     "with C=1, Z=2", id="missing"),
        pytest.param(named("r0{r}c01f01p01-ch1sk1fk1fl1", r=2), "several wells", id="wells"),
    ],
)  # fmt: skip
def test_files_that_are_no_grid_are_refused(tmp_path: Path, names: list[str], words: str):
    write(tmp_path / "a", names)
    with pytest.raises(FrameError) as raised:
        open_frames(tmp_path / "a")
    assert words in str(raised.value)


def test_numbers_that_are_no_grid_are_refused_at_once():
    names = [f"t{n}_z{n}_ch{n}_pos{n}" for n in range(1000)]
    with pytest.raises(FrameError, match="1000 of T"):
        grid_of_names(names, "folder")


def test_an_axis_of_names_and_files_is_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
    for c in range(2):
        tifffile.imwrite(tmp_path / "a" / f"ch{c}.tif", np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(FrameError, match="numbered along C, and each of them has the axes YXC"):
        open_frames(tmp_path / "a")
