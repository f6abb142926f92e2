"""Folders with one file per plane, whose names say along which axes the planes lie."""

from __future__ import annotations

import json
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2 import FrameError, open_frames
from napari_sam2.batch.inputs import find_sources
from napari_sam2.frames.file_names import by_numbers, grid_of_names
from napari_sam2.labels.reading import read_labels

pytestmark = pytest.mark.filterwarnings("ignore:the image has several")


def named(pattern: str, **lengths: int) -> list[str]:
    return [
        pattern.format(**dict(zip(lengths, place, strict=True))) for place in product(*map(range, lengths.values()))
    ]


def with_guids(names: list[str]) -> list[str]:
    """As MetaXpress writes them: a random number, which may begin with digits, follows without a break."""
    return [f"{name}{9 - at}{at:07X}-1A2B-4C3D-8E9F-{at:012X}" for at, name in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "axes", "shape"),
    [
        pytest.param(named("exp_z{z:02d}_ch{c:02d}", z=5, c=2), "CZ", (2, 5), id="leica"),
        pytest.param(named("exp_s{s:02d}t{t:02d}z{z}c{c}_ORG", s=2, t=3, z=2, c=2), "PTCZ", (2, 3, 2, 2), id="zeiss"),
        pytest.param(named("img_channel{c:03d}_position000_time{t:09d}_z{z:03d}", c=2, t=2, z=3), "TCZ", (2, 2, 3),
                     id="micro-manager"),
        pytest.param(["e_w1DAPI_t1", "e_w1DAPI_t2", "e_w2GFP_t1", "e_w2GFP_t2"], "TC", (2, 2), id="metamorph"),
        pytest.param(named("r01c02f0{f}p0{p}-ch{c}sk1fk1fl1", f=2, p=3, c=2), "PCZ", (2, 2, 3), id="opera"),
        pytest.param(with_guids(named("p_A01_s{s}_w{w}", s=2, w=3)), "PC", (2, 3), id="metaxpress"),
        pytest.param(with_guids(named("p_A01_w{w}", w=3)), "C", (3,), id="metaxpress-channels"),
        pytest.param(named("cellsxy{p:02d}z{z:02d}c{c}", p=2, z=3, c=2), "PCZ", (2, 2, 3), id="nikon"),
        pytest.param([f"img--W00001--P00001--Z{z:05d}--T{t:05d}--{c}" for t in (0, 1) for z in range(3)
                      for c in ("DAPI", "GFP")], "TCZ", (2, 2, 3), id="scan-r"),
        pytest.param([f"B - 12(fld {f} wv {c} z {z})" for f in (1, 2) for c in ("DAPI - DAPI", "FITC - FITC")
                      for z in (1, 2, 3)], "PCZ", (2, 2, 3), id="in-cell"),
        pytest.param(named("scan_Plate_R_p00_z{z:02d}_0_A01f{f:02d}d{d}", z=3, f=2, d=2), "PCZ", (2, 2, 3), id="evos"),
        pytest.param(named("scan_Plate_R_p00_0_A01f00d{d}", d=3), "C", (3,), id="evos-channels"),
        pytest.param([f"VID7_{c}_B2_{f}_{t}" for f in (1, 2) for t in ("00d02h00m", "00d12h00m", "01d00h30m")
                      for c in ("Green", "Phase")], "PTC", (2, 3, 2), id="incucyte"),
        pytest.param([f"my_exp_B12_1_2024y03m{t}" for t in ("05d_22h30m", "06d_00h30m", "10d_02h30m")], "T", (3,),
                     id="incucyte-dates"),
        pytest.param([f"A1_01_{n}_{f}_{c}_{t:03d}" for n, c in ((1, "Red"), (2, "Green"), (3, "Blue"))
                      for f in (1, 2) for t in (1, 2, 3)], "PTC", (2, 3, 3), id="biotek"),
        pytest.param(named("A1_-1_1_1Z{z}_Phase Contrast_001", z=3), "Z", (3,), id="biotek-slices"),
        pytest.param([f"A1_01_1_{f}_DAPI_001" for f in (1, 2, 3)], "P", (3,), id="biotek-fields"),
        pytest.param([f"-B012--PO0{p}--LO00{t}--CO{c}--SL00{z}--PX32500--PW0080--IN0020--TM281--X01{p}580--Y011262"
                      f"--Z210{z}10--T00002{t}{c}{z}--WE00013" for p in (1, 2) for t in (1, 2) for c in (3, 5)
                      for z in (1, 2, 3)], "PTCZ", (2, 2, 2, 3), id="acquifer"),
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
@pytest.mark.filterwarnings("ignore:1_t1 and 2_t1 in folder both")
def test_other_names_are_in_natural_order(names: list[str]):
    assert grid_of_names(names, "folder") is None


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["a", "a9", "a10", "b"], id="numbers"),
        pytest.param(["z-2", "z-1", "z0", "z1"], id="negative"),
        pytest.param(["t0_z-10", "t0_z-02", "t0_z003", "t1_z-10"], id="negative-padded"),
        pytest.param(["z-1", "z+0", "z+1"], id="plus"),
        pytest.param(["z\N{MINUS SIGN}5", "z\N{MINUS SIGN}4", "z0"], id="minus-sign"),
        pytest.param(["d_-1.5", "d_-0.5", "d_0.5", "d_1.5"], id="negative-decimal"),
        pytest.param(["frame-1", "frame-2", "frame-10"], id="a-hyphen-before-all"),
        pytest.param(["2023-12-31", "2024-01-09", "2024-01-10"], id="dates"),
        pytest.param(["2024.01.09", "2024.01.10", "2024.1.11"], id="dates-with-points"),
        pytest.param(["z0.05", "z0.5", "z0.75", "z1"], id="decimal"),
        pytest.param(["z0,05", "z0,5", "z1"], id="decimal-comma"),
        pytest.param(["z1um", "z1.5um", "z2um"], id="decimal-of-some"),
        pytest.param(["a1.8", "a1.9", "a1.10", "a1.11"], id="counted-after-a-point"),
        pytest.param(["img", "img (1)", "img (2)", "img (10)"], id="series-of-copies"),
        pytest.param(["z\uff11", "z\uff12", "z\uff11\uff10"], id="full-width"),
        pytest.param(["z\u0661", "z\u0662", "z\u0661\u0660"], id="arabic"),
        pytest.param(["z\u00b9", "z\u00b2", "z\u00b3"], id="raised"),
        pytest.param(["A1", "a2", "A3"], id="capitals"),
    ],
)
def test_names_are_in_the_order_of_their_numbers(names: list[str]):
    backwards = names[::-1]
    assert [backwards[at] for at in by_numbers(backwards, "folder")] == names


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param(["z0.25", "z0.5", "z0.75"], "read as decimal numbers, in the order 0.25, 0.5, 0.75", id="decimal"),
        pytest.param(["a01", "a1", "a2"], "a01 and a1 in folder have the same number", id="padding"),
        pytest.param(["a1", "a1 (1)", "a2"], "1 of 3 files of folder are named like copies", id="copies"),
        pytest.param(["a", "a - Copy", "b"], "named like copies of others, such as a - Copy", id="copies-of-windows"),
    ],
)
def test_an_order_in_doubt_is_told(names: list[str], words: str):
    with pytest.warns(UserWarning, match=words):
        order = by_numbers(names[::-1], "folder")
    assert [names[::-1][at] for at in order] == names


def write(folder: Path, names: list[str], **options: object) -> None:
    folder.mkdir()
    for number, name in enumerate(names):
        tifffile.imwrite(folder / f"{name}.tif", np.full((8, 9), 10 * number, np.uint8), **options)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(named("a_{i}_{j}", i=2, j=3), id="two"),
        pytest.param(named("a_{i}_{j}", i=2, j=3)[:-1], id="one-is-missing"),
        pytest.param(named("tile_{i}00_{j}00_8", i=2, j=2), id="places-of-tiles"),
        pytest.param(named("a{i}_z{j}", i=2, j=3), id="one-is-known"),
        pytest.param(named("a_{i}_{j}_{k}", i=2, j=2, k=2), id="three"),
    ],
)
def test_two_numbers_that_are_counted_independently_are_told(names: list[str]):
    with pytest.warns(UserWarning, match=r"are counted independently \(2 and [23] values, as in \w+ and \w+\)"):
        assert grid_of_names(names, "folder") is None


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"run{i}_img{i}" for i in range(5)], id="together"),
        pytest.param([f"{i:03d}_{7 * i % 5}" for i in range(9)], id="a-counter"),
        pytest.param([f"{h:02d}-{m:02d}" for h in range(9, 12) for m in (0, 20, 40)], id="a-clock"),
        pytest.param([f"day{d}_{h:02d}h" for d in (1, 2) for h in (0, 6, 12, 18)], id="hours-of-days"),
        pytest.param([f"2024-0{m}-0{d}" for m in (1, 2) for d in (1, 2, 3)], id="dates"),
        pytest.param([f"0{d}-0{m}-2024" for m in (1, 2) for d in (1, 2, 3)], id="dates-with-the-year-last"),
    ],
)
def test_numbers_of_one_count_are_not_told(names: list[str]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert grid_of_names(names, "folder") is None


def test_channels_of_biotek_are_in_the_order_of_their_numbers():
    grid = grid_of_names(["A1_01_1_1_Red_001", "A1_01_2_1_GFP_001", "A1_01_3_1_Blue_001"], "folder")
    assert grid is not None
    assert (grid.order, grid.channels) == ((0, 1, 2), ("Red", "GFP", "Blue"))


@pytest.mark.parametrize("name", ["VID1_{}_1_00d00h00m", "{}_01_1_1_DAPI_001"])
def test_wells_are_not_mixed(name: str):
    with pytest.raises(FrameError, match="of several wells"):
        grid_of_names([name.format(well) for well in ("A1", "A2")], "folder")


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
    ("names", "axes", "order"),
    [
        pytest.param(["t0_z-1", "t0_z0", "t1_z-1", "t1_z0"], "TZYX", (0, 10, 20, 30), id="negative"),
        pytest.param(["t0.5_z1", "t0.5_z2", "t0_z1", "t0_z2"], "TZYX", (20, 30, 0, 10), id="decimal"),
    ],
)
def test_odd_numbers_are_places_along_axes_and_labels_follow(
    tmp_path: Path, names: list[str], axes: str, order: tuple[int, ...]
):
    write(tmp_path / "a", names)
    write(tmp_path / "labels", [f"{name}_masks" for name in names])
    for t in range(2):
        frames = open_frames(tmp_path / "a", frame_axis="Z", fixed={"T": t}, contrast="dtype")
        assert frames.axes == axes
        assert tuple(int(frames[z][0, 0, 0]) for z in range(2)) == order[2 * t : 2 * t + 2]
    labels = read_labels(tmp_path / "labels")
    assert labels.shape == (2, 2, 8, 9)
    assert tuple(labels[..., 0, 0].ravel().tolist()) == order


def test_masks_are_in_the_order_of_their_images(tmp_path: Path):
    names = ["img", "img (1)", "img (2)"]
    write(tmp_path / "images", names)
    write(tmp_path / "labels", [f"{name}_masks" for name in names])
    frames = open_frames(tmp_path / "images", contrast="dtype")
    assert [int(frames[z][0, 0, 0]) for z in range(3)] == [0, 10, 20]
    assert read_labels(tmp_path / "labels")[:, 0, 0].tolist() == [0, 10, 20]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["DAPI_1", "DAPI_2", "GFP_1", "GFP_2"], id="plain"),
        pytest.param(["DAPI_t1", "DAPI_t2", "GFP_t1", "GFP_t2"], id="time"),
    ],
)
def test_several_series_in_a_folder_are_told(tmp_path: Path, names: list[str]):
    write(tmp_path / "a", names)
    with pytest.warns(UserWarning, match="holds 2 series of files, such as DAPI_t?1 and GFP_t?1") as warned:
        assert open_frames(tmp_path / "a").axes == "ZYX"
    assert len(warned) == 1


def test_names_of_micro_manager_are_time_channel_and_slice(tmp_path: Path):
    places = product(range(2), ("DAPI", "Cy5_2"), range(3))
    write(tmp_path / "a", [f"img_{t:09d}_{name}_{z:03d}" for t, name, z in places])
    frames = open_frames(tmp_path / "a", frame_axis="Z", fixed={"T": 1}, channels=0, contrast="dtype")
    assert (frames.axes, frames.shape) == ("TCZYX", (3, 8, 9))
    assert [int(frames[z][0, 0, 0]) for z in range(3)] == [90, 100, 110]


def test_channels_of_micro_manager_are_in_the_order_of_its_metadata(tmp_path: Path):
    places = product(range(2), ("DAPI", "Cy5_2"), range(3))
    write(tmp_path / "a", [f"img_{t:09d}_{name}_{z:03d}" for t, name, z in places])
    (tmp_path / "a" / "metadata.txt").write_text(json.dumps({"Summary": {"ChNames": ["DAPI", "Cy5 2"]}}))
    frames = open_frames(tmp_path / "a", frame_axis="Z", fixed={"T": 1}, channels=0, contrast="dtype")
    assert frames.channel_names == ("DAPI",)
    assert [int(frames[z][0, 0, 0]) for z in range(3)] == [60, 70, 80]


def test_numbered_channels_of_micro_manager_have_their_names(tmp_path: Path):
    places = product(range(2), range(3))
    write(tmp_path / "a", [f"img_channel{c:03d}_position000_time000000000_z{z:03d}" for c, z in places])
    (tmp_path / "a" / "metadata.txt").write_text(json.dumps({"Summary": {"ChNames": ["GFP", "DAPI"]}}))
    frames = open_frames(tmp_path / "a")
    assert (frames.axes, frames.channel_names) == ("CZYX", ("GFP", "DAPI"))
    for damaged in ("", "{", "[]", '{"Summary": {"ChNames": 3}}', "[" * 100_000):
        (tmp_path / "a" / "metadata.txt").write_text(damaged)
        assert open_frames(tmp_path / "a").channel_names == ()


def test_a_folder_of_folders_with_images_names_them(tmp_path: Path):
    write(tmp_path / "Pos0", ["a"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FrameError, match="holds no image but folders with images, Pos0; open one of these"):
        open_frames(tmp_path)


def test_several_files_of_one_time_point_are_told(tmp_path: Path):
    write(tmp_path / "a", [f"{run}_t{t}" for run in "12" for t in range(2)])
    with pytest.warns(UserWarning, match="1_t0 and 2_t0 in .* both have T=0"):
        assert open_frames(tmp_path / "a").axes == "ZYX"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param(named("e_z{z}_ch{c}", z=3, c=2)[:-1], "2 of C, 3 of Z), and 1 of 6 are missing, such as the one "
                     "with C=1, Z=2", id="missing"),
        pytest.param(named("r0{r}c01f01p01-ch1sk1fk1fl1", r=2), "several wells", id="wells"),
        pytest.param(with_guids(["p_A01_s1_w1", "p_A02_s1_w1"]), "several wells", id="wells-of-metaxpress"),
        pytest.param(["scan_p00_0_A01f00d0", "scan_p00_0_A02f00d0"], "several wells", id="wells-of-evos"),
        pytest.param([f"img--W0000{w}--P00001--Z00000--T00000--DAPI" for w in (1, 2)], "several wells", id="scan-r"),
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


def test_random_numbers_of_metaxpress_do_not_change_the_order():
    names = with_guids(named("p_A01_s{s}_w{w}", s=3, w=3))
    assert by_numbers(names) == list(range(9))


def test_previews_of_metaxpress_are_left_out(tmp_path: Path):
    write(tmp_path / "a", with_guids(["p_A01_s1_w1", "p_A01_s1_w2"]))
    for name in with_guids(["p_A01_s1_w1_thumb", "p_A01_s1_w2_thumb"]):
        tifffile.imwrite(tmp_path / "a" / f"{name}.tif", np.zeros((3, 3), np.uint8))
    with pytest.warns(UserWarning, match=r"2 files of .* previews of MetaXpress .* p_A01_s1_w1_thumb9"):
        assert open_frames(tmp_path / "a").source_shape[0] == 2
    with pytest.warns(UserWarning, match="previews of MetaXpress"):
        assert len(find_sources([tmp_path / "a"])) == 2
    assert len(find_sources([tmp_path / "a"], "*_thumb*")) == 2


def test_channels_have_the_names_in_the_names_of_files(tmp_path: Path):
    write(tmp_path / "a", [f"img--W00001--P00001--Z00000--T00000--{name}" for name in ("DAPI", "Alexa 488")])
    frames = open_frames(tmp_path / "a", channels="DAPI")
    assert frames.channel_names == ("DAPI",)
    assert frames.raw(0).max() == 0  # the first file
