"""``napari-sam2 measure``: values of scikit-image on whole arrays, read plane by plane."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from PIL import Image
from skimage.measure import regionprops

from cli_tools import make_disks, run, save_stack

MEMORY_SCRIPT = """
import resource, sys
from napari_sam2.cli import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.fixture
def files(tmp_path):
    stack, labels = make_disks()
    return save_stack(tmp_path / "a.ome.tif", stack), save_stack(tmp_path / "l.ome.tif", labels), stack, labels


def test_objects_equal_scikit_image_on_the_whole_array(files, tmp_path):
    image, labelled, stack, labels = files
    assert run("measure", image, labelled, "-o", tmp_path / "t.csv", "-q") == 0
    table = pd.read_csv(tmp_path / "t.csv")
    for row, expected in zip(
        table.to_dict("records"), regionprops(labels, stack, spacing=(0.5, 0.25, 0.25)), strict=True
    ):
        assert row["object"] == expected.label
        assert row["volume"] == pytest.approx(expected.area)
        assert (row["centroid_z"], row["centroid_y"], row["centroid_x"]) == pytest.approx(expected.centroid)
        for name in ("mean", "min", "max", "std"):
            assert row[name] == pytest.approx(getattr(expected, f"intensity_{name}"))
        assert row["surface"] > 0


def test_rows_per_plane_and_a_scale_of_the_command_line(files, tmp_path):
    image, labelled, stack, labels = files
    code = run("measure", image, labelled, "-o", tmp_path / "t.csv", "-q", "--per-plane", "--scale", "1,2,2")
    assert code == 0
    table = pd.read_csv(tmp_path / "t.csv")
    assert len(table) == 8
    row = table[(table["plane"] == 2) & (table["object"] == 1)].iloc[0]
    (expected,) = regionprops((labels[2] == 1).astype(int), stack[2], spacing=(2, 2))
    for name in ("area", "eccentricity", "solidity", "axis_major_length", "axis_minor_length"):
        assert row[name] == pytest.approx(getattr(expected, name))


@pytest.mark.parametrize(
    ("options", "measured"), [([], [0, 1, 2, 3, 4]), (["--channels", "4,0,2,1"], [4, 0, 2, 1])], ids=["all", "chosen"]
)
def test_any_number_of_channels_is_measured_under_their_own_numbers(options, measured, files, tmp_path, capsys):
    _, labelled, stack, labels = files
    image = np.stack([stack // (1 + number) for number in range(5)], axis=1)
    path = tmp_path / "five.ome.tif"
    tifffile.imwrite(path, image, ome=True, metadata={"axes": "ZCYX"})
    assert run("measure", path, labelled, "-o", tmp_path / "t.csv", "-q", *options) == 0
    assert "warning" not in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "t.csv")
    assert [column for column in table if column.startswith("mean_")] == [f"mean_c{number}" for number in measured]
    for number in measured:
        expected = [image[:, number][labels == i].mean() for i in (1, 2)]
        np.testing.assert_allclose(table[f"mean_c{number}"], expected)


def test_labels_of_other_formats_and_time_points(files, tmp_path):
    _, _, stack, labels = files
    movie = save_stack(tmp_path / "m.ome.tif", stack, axes="TYX")
    np.save(tmp_path / "l.npy", labels)
    assert run("measure", movie, tmp_path / "l.npy", "-o", tmp_path / "t.csv", "-q") == 0
    table = pd.read_csv(tmp_path / "t.csv")
    assert "volume" not in table
    assert table["area_mean"].tolist() == pytest.approx([(labels == i).sum() / 64 for i in (1, 2)])


def test_columns_have_the_names_of_the_channels_where_these_differ(files, tmp_path):
    _, labelled, stack, labels = files
    image = np.stack([stack, stack // 2, stack // 3], axis=1)
    for name, names, columns in (
        ("n", ["DAPI", "Alexa 488", "405"], ["mean_DAPI", "mean_Alexa 488", "mean_405"]),
        ("same", ["DAPI", "DAPI", "405"], ["mean_c0", "mean_c1", "mean_c2"]),
    ):
        path = tmp_path / f"{name}.ome.tif"
        tifffile.imwrite(path, image, ome=True, metadata={"axes": "ZCYX", "Channel": {"Name": names}})
        assert run("measure", path, labelled, "-o", tmp_path / f"{name}.csv", "-q") == 0
        table = pd.read_csv(tmp_path / f"{name}.csv")
        assert [column for column in table if column.startswith("mean")] == columns
        for number, column in enumerate(columns):
            expected = [image[:, number][labels == i].mean() for i in (1, 2)]
            np.testing.assert_allclose(table[column], expected)


def test_channels_are_chosen_by_name(files, tmp_path):
    _, labelled, stack, labels = files
    image = np.stack([stack, stack // 2], axis=1)
    path = tmp_path / "n.ome.tif"
    tifffile.imwrite(path, image, ome=True, metadata={"axes": "ZCYX", "Channel": {"Name": ["DAPI", "Alexa 488"]}})
    assert run("measure", path, labelled, "-o", tmp_path / "t.csv", "-q", "--channels", "alexa 488") == 0
    np.testing.assert_allclose(
        pd.read_csv(tmp_path / "t.csv")["mean"], [image[:, 1][labels == i].mean() for i in (1, 2)]
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.ome.tif", "l.ome.tif", "-o", "t.txt"], 6, "must end in .csv or .parquet"),
        (["a.ome.tif", "l.ome.tif", "-o", "no/t.csv"], 6, "does not exist"),
        (["a.ome.tif", "small.tif", "-o", "t.csv"], 3, "has shape"),
        (["a.ome.tif", "l.ome.tif", "-o", "t.csv", "--scale", "1,0,1"], 3, "positive distances"),
        (["a.ome.tif", "half.tif", "-o", "t.csv"], 3, "not whole numbers, such as 0.5"),
        (["a.ome.tif", "negative.tif", "-o", "t.csv"], 3, "holds -1 on frame 0; labels are 0 (background) and above"),
        (["a.ome.tif", "channels.ome.tif", "-o", "t.csv"], 3, "has 2 channels; a label image has one"),
        (["channels.ome.tif", "labels.tif", "-o", "t.csv", "--channels", "1,1"], 3, "channel 1 was given twice"),
        (["a.ome.tif", "a.ome.tif", "-o", "t.csv"], 3, "both as the image and as its labels"),
        (["a.ome.tif", "colours.tif", "-o", "t.csv"], 3, "is a colour picture"),
    ],
)
def test_mistakes_are_reported_and_nothing_is_written(files, tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("small.tif", np.zeros((4, 8, 8), np.uint16), metadata={"axes": "ZYX"})
    tifffile.imwrite("half.tif", np.full((4, 48, 48), 0.5, np.float32), metadata={"axes": "ZYX"})
    tifffile.imwrite("negative.tif", np.full((4, 48, 48), -1, np.int16), metadata={"axes": "ZYX"})
    tifffile.imwrite("channels.ome.tif", np.zeros((4, 2, 48, 48), np.uint8), metadata={"axes": "ZCYX"})
    tifffile.imwrite("colours.tif", np.tile(np.arange(3, dtype=np.uint8), (4, 48, 48, 1)), photometric="rgb")
    assert run("measure", *arguments, "-q") == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "t.csv").exists()


def test_floats_masks_and_palettes_are_measured_as_other_commands_read_them(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 2:6] = mask[10:15, 10:20] = 255
    image = save_stack(tmp_path / "a.tif", mask[None], axes="ZYX")
    tifffile.imwrite(tmp_path / "float.tif", (mask > 0).astype(np.float32))
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    indices = Image.fromarray(np.where(mask > 0, 3, 0).astype(np.uint8), mode="P")
    indices.putpalette([0, 0, 0, 9, 9, 9, 20, 0, 0, 80, 90, 100])
    indices.save(tmp_path / "palette.bmp")
    objects = {}
    for name in ("float.tif", "mask.tif", "palette.bmp"):
        assert run("measure", image, tmp_path / name, "-o", tmp_path / "t.csv", "-q", "--overwrite") == 0
        objects[name] = pd.read_csv(tmp_path / "t.csv")["object"].tolist()
    assert objects == {"float.tif": [1], "mask.tif": [1, 2], "palette.bmp": [3]}


def test_labels_within_an_image_are_measured_and_not_the_image(tmp_path):
    stack, labels = make_disks()
    image = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    inner = image.create_group("labels/cells")
    for group, values in ((image, stack), (inner, labels)):
        group.create_array("0", shape=values.shape, dtype=values.dtype)[:] = values
        axes = [{"name": letter, "type": "space"} for letter in "zyx"]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    image["labels"].attrs["labels"] = ["cells"]
    assert run("measure", tmp_path / "a.zarr", tmp_path / "a.zarr", "-o", tmp_path / "t.csv", "-q") == 0
    assert pd.read_csv(tmp_path / "t.csv")["object"].tolist() == [1, 2]


def test_parquet_where_pyarrow_is_installed(files, tmp_path, capsys):
    image, labelled, *_ = files
    code = run("measure", image, labelled, "-o", tmp_path / "t.parquet", "-q")
    if importlib.util.find_spec("pyarrow") is None:
        assert code == 6
        assert "pip install pyarrow" in capsys.readouterr().err
    else:
        assert len(pd.read_parquet(tmp_path / "t.parquet")) == 2


@pytest.mark.slow
def test_two_thousand_frames_take_less_than_500_mib(tmp_path):
    side, count = 512, 2000
    y, x = np.mgrid[:side, :side]
    plane = ((y - 250) ** 2 + (x - 250) ** 2 < 200**2).astype(np.uint16)
    for name in ("image", "labels"):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif", bigtiff=True) as file:
            for _ in range(count):
                file.write(plane, contiguous=False, compression="zlib", metadata=None)
    arguments = ["measure", tmp_path / "image.tif", tmp_path / "labels.tif", "-o", tmp_path / "t.csv", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) < 500
    assert pd.read_csv(tmp_path / "t.csv")["num_planes"].tolist() == [count]
