"""Label images as other programs save them: any number type, palettes, channels, numpy files."""

from __future__ import annotations

import os
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_sam2._errors import FrameError
from napari_sam2._messages import in_shell_words
from napari_sam2.labels.conversion import convert_labels
from napari_sam2.labels.reading import read_label_file, read_labels


def make_labels(num_frames: int = 4, hw: tuple[int, int] = (20, 30), *, max_id: int = 9) -> np.ndarray:
    labels = np.random.default_rng(0).integers(0, max_id, (num_frames, *hw))
    labels[0, 0, 0] = max_id
    return labels.astype(np.int32)


def test_pictures_and_folders_of_pictures(tmp_path):
    labels = make_labels(max_id=200).astype(np.uint8)
    for t, plane in enumerate(labels):
        Image.fromarray(plane).save(tmp_path / f"{t}.png")
    assert np.array_equal(read_labels(tmp_path / "1.png"), labels[1])
    assert np.array_equal(read_labels(tmp_path), labels)


def test_planes_of_a_folder_have_one_size(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "0.png")
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(FrameError, match=r"1\.png has shape \(4, 6\)"):
        read_labels(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_pictures_with_a_palette_are_read_as_indices(tmp_path, suffix):
    labels = make_labels(max_id=200)[0].astype(np.uint8)
    picture = Image.frombytes("P", (30, 20), labels.tobytes())
    picture.putpalette([value for k in range(256) for value in (k * 67 % 256, k * 29 % 256, k * 101 % 256)])
    picture.save(tmp_path / f"a{suffix}")
    assert np.array_equal(read_labels(tmp_path / f"a{suffix}"), labels)


def test_a_gif_of_grey_values_has_them_as_labels(tmp_path):
    """Pillow sorts the palette of a GIF anew, so that its indices are not the grey values."""
    labels = np.zeros((20, 30), np.uint8)
    labels[2:6, 3:9], labels[8:12, 3:9] = 7, 30
    Image.fromarray(labels).save(tmp_path / "a.gif")
    assert np.array_equal(read_labels(tmp_path / "a.gif"), labels)


@pytest.mark.parametrize("largest", [7, 200, 700, 65535])
def test_a_pgm_keeps_its_values(tmp_path, largest):
    """Pillow scales them to the whole range of 8 or 16 bits."""
    labels = np.random.default_rng(0).integers(0, largest + 1, (20, 30))
    dtype = ">u2" if largest > 255 else "u1"
    (tmp_path / "a.pgm").write_bytes(b"P5\n# by hand\n30 20\n%d\n" % largest + labels.astype(dtype).tobytes())
    assert np.array_equal(read_labels(tmp_path / "a.pgm"), labels)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_png_of_few_bits_keeps_its_values(tmp_path, bits):
    """Pillow scales them to 8 bits."""
    labels = np.random.default_rng(0).integers(0, 2**bits, (20, 30)).astype(np.uint8)
    places = np.unpackbits(labels[..., None], axis=-1)[..., -bits:].reshape(20, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(places, axis=1))
    header = struct.pack(">IIBBBBB", 30, 20, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )
    assert np.array_equal(read_labels(tmp_path / "a.png"), labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_grey_picture_that_was_saved_in_colour(tmp_path, mode):
    labels = make_labels()[0].astype(np.uint8)
    Image.fromarray(labels).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(read_labels(tmp_path / "a.png"), labels)


def test_sixteen_bits_with_alpha(tmp_path):
    import imagecodecs

    labels = make_labels()[0].astype(np.uint16) * 700
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.dstack([labels, np.full_like(labels, 65535)])))
    assert np.array_equal(read_labels(tmp_path / "a.png"), labels)


def test_jpeg_does_not_keep_labels(tmp_path):
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(FrameError, match="JPEG, which does not keep the values of labels"):
        read_labels(tmp_path / "a.jpg")


def test_other_lossy_files_do_not_keep_labels_either(tmp_path):
    labels = np.zeros((32, 32), np.uint8)
    labels[4:20, 6:9] = 3
    Image.fromarray(labels).convert("RGB").save(tmp_path / "a.webp")
    tifffile.imwrite(tmp_path / "a.tif", labels, compression="jpeg")
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(labels, level=30, reversible=False))
    for name, kind in (("a.webp", "WebP"), ("a.tif", "TIFF compressed as JPEG"), ("a.jp2", "JPEG 2000")):
        with pytest.raises(FrameError, match=f"{kind}, which does not keep the values of labels"):
            read_labels(tmp_path / name)
    Image.fromarray(labels).convert("RGB").save(tmp_path / "b.webp", lossless=True)
    (tmp_path / "b.jp2").write_bytes(imagecodecs.jpeg2k_encode(labels, level=0, reversible=True))
    for name in ("b.webp", "b.jp2"):
        assert np.array_equal(read_labels(tmp_path / name), labels)


def test_colour_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(FrameError, match="colour picture"):
        read_labels(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore:.*are stored as RGB")  # four planes, which tifffile takes for colours
@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", ">u2", "i2", "u4", "i4", "u8", "i8", "f4", ">f4", "f8"])
def test_every_number_type(tmp_path, dtype):
    labels = make_labels(max_id=1 if dtype == "bool" else 100)
    tifffile.imwrite(tmp_path / "a.tif", labels.astype(dtype))
    back = read_labels(tmp_path / "a.tif")
    assert back.dtype == np.int32
    assert np.array_equal(back, labels)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((4, 5), 0.5, np.float32), "not whole numbers, such as 0.5"),
        (np.full((4, 5), np.inf), "not whole numbers, such as inf"),
        (np.full((4, 5), np.nan), "holds NaN only"),
        (np.array([[np.nan, 0, 1]]), "holds both NaN and 0"),
        (np.array([[-1, 0, 1]]), "holds both -1 and 0"),
        (np.array([[-1, -2, 1]]), "values from -2 to 1"),
        (np.full((4, 5), -3, np.int16), "from -3"),
        (np.full((4, 5), 2**25, np.float32), "cannot tell labels apart"),
        (np.full((4, 5), 1j), "complex128"),
    ],
)
def test_values_that_are_no_labels_are_refused(values, message):
    with pytest.raises(FrameError, match=message):
        convert_labels(values)


@pytest.mark.parametrize(
    "background", [pytest.param(np.nan, id="nan"), pytest.param(-1.0, id="minus-one"), pytest.param(-1, id="integer")]
)
def test_another_background_is_read_where_nothing_is_zero_and_told(tmp_path, background):
    labels = make_labels()
    tifffile.imwrite(tmp_path / "a.tif", np.where(labels == 0, background, labels), photometric="minisblack")
    shown = "NaN" if np.isnan(background) else "-1"
    with pytest.warns(UserWarning, match=f"contains no 0; {shown} is read as background"):
        assert np.array_equal(read_labels(tmp_path / "a.tif"), labels)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param([[True, False, True]], "one object in 2 pieces", id="bool"),
        pytest.param(np.array([[1, 255, 2]], np.uint8), "has no background", id="background-of-255"),
    ],
)
def test_what_may_not_be_meant_is_told(values, words):
    with pytest.warns(UserWarning, match=words):
        convert_labels(values).warn("a")


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float64])
def test_large_ids_are_renumbered_and_listed(tmp_path, dtype):
    labels = make_labels().astype(np.uint64)
    labels[labels == 1] = 2**33
    labels[labels == 4] = 2**33 + 1
    tifffile.imwrite(tmp_path / "a.tif", labels.astype(dtype))
    with pytest.warns(UserWarning, match="renumbered: 8589934592 is now 1, 8589934593 is now 4"):
        back = read_labels(tmp_path / "a.tif")
    assert np.array_equal(back, make_labels())
    assert read_label_file(tmp_path / "a.tif").renumbered == {2**33: 1, 2**33 + 1: 4}


def test_binary_masks_are_split_into_components(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 2:6] = mask[10:15, 10:20] = 255
    mask[6, 6] = 255  # touches a corner
    Image.fromarray(mask).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="split into 2 connected components"):
        back = read_labels(tmp_path / "a.png")
    assert back[2, 2] == back[6, 6] == 1
    assert back[12, 12] == 2


def test_a_binary_mask_of_16_bits_is_split_too():
    mask = np.array([[65535, 0, 65535]], np.uint16)
    assert convert_labels(mask).labels.tolist() == [[1, 0, 2]]


def test_one_object_numbered_255_in_a_label_image_of_several_is_kept():
    found = convert_labels(np.array([[0, 3, 255]], np.uint8))
    assert found.labels.tolist() == [[0, 3, 255]]
    assert found.num_components is None


def write_ngff(path, labels, axes):
    kinds = {"t": "time", "c": "channel"}
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", shape=labels.shape, dtype=labels.dtype)[:] = labels
    entries = [{"name": name, "type": kinds.get(name, "space")} for name in axes]
    scale = [{"type": "scale", "scale": [1] * labels.ndim}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": entries, "datasets": datasets}]
    group.attrs["image-label"] = {"version": "0.4"}


@pytest.mark.parametrize(("axes", "index"), [("tczyx", (None, None)), ("czyx", (None,)), ("zyx", ())])
def test_ngff_labels_of_five_axes(tmp_path, axes, index):
    labels = make_labels()
    write_ngff(tmp_path / "a.zarr", labels[(*index, ...)], axes)
    assert np.array_equal(read_labels(tmp_path / "a.zarr"), labels)


def test_labels_of_several_channels_are_refused(tmp_path):
    write_ngff(tmp_path / "a.zarr", make_labels(), "cyx")
    with pytest.raises(FrameError, match="4 channels"):
        read_labels(tmp_path / "a.zarr")


def test_an_image_stands_for_its_one_label_image(tmp_path):
    write_ngff(tmp_path / "a.zarr", np.zeros((3, 20, 30), np.float32), "zyx")
    write_ngff(tmp_path / "a.zarr" / "labels" / "cells", make_labels(), "zyx")
    zarr.open_group(tmp_path / "a.zarr" / "labels", mode="a", zarr_format=2).attrs["labels"] = ["cells"]
    assert np.array_equal(read_labels(tmp_path / "a.zarr"), make_labels())
    write_ngff(tmp_path / "a.zarr" / "labels" / "nuclei", make_labels(), "zyx")
    with pytest.raises(FrameError, match="the labels cells, nuclei; give one"):
        read_labels(tmp_path / "a.zarr")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_numpy_files(tmp_path):
    labels = make_labels()
    np.save(tmp_path / "a.npy", labels.astype(np.uint16))
    assert np.array_equal(read_labels(tmp_path / "a.npy"), labels)
    content = {
        "masks": labels[0].astype(np.uint16),
        "outlines": labels[0],
        "filename": "a.tif",
        "flows": [labels, None],
    }
    content |= {"diameter": np.float64(30.0), "model_path": 0, "ismanual": np.zeros(9, bool)}
    np.save(tmp_path / "a_seg.npy", content, allow_pickle=True)
    assert np.array_equal(read_labels(tmp_path / "a_seg.npy"), labels[0])


def test_paths_and_devices_in_numpy_files_are_passed_over(tmp_path):
    import torch

    content = {"masks": make_labels()[0], "filename": tmp_path / "a.tif", "device": torch.device("cpu")}
    np.save(tmp_path / "a_seg.npy", content, allow_pickle=True)
    assert np.array_equal(read_labels(tmp_path / "a_seg.npy"), make_labels()[0])


def test_numpy_files_run_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "a_seg.npy", {"masks": make_labels(), "more": Harmful()}, allow_pickle=True)
    with pytest.raises(FrameError, match=r"posix\.mkdir, which is not read for safety"):
        read_labels(tmp_path / "a_seg.npy")
    assert not (tmp_path / "harm").exists()


def test_numpy_files_without_masks_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", {"points": 3}, allow_pickle=True)
    with pytest.raises(FrameError, match="masks of Cellpose"):
        read_labels(tmp_path / "a.npy")
    (tmp_path / "b.npy").write_bytes(b"no array")
    with pytest.raises(FrameError, match="cannot be read"):
        read_labels(tmp_path / "b.npy")
    with pytest.raises(FrameError, match="does not exist"):
        read_labels(tmp_path / "c.npy")


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FrameError, match="does not exist"):
        read_labels(tmp_path / "a.tif")


def test_labels_in_chunks_of_several_planes(tmp_path):
    labels = np.zeros((5, 20, 30), np.int32)
    labels[1, 3:9, 4:8], labels[4, 10:, 20:] = 7, 9
    array = zarr.create_array(tmp_path / "a.zarr", shape=labels.shape, chunks=(2, 16, 16), dtype="int32",
                              dimension_names=("z", "y", "x"))  # fmt: skip
    array[:] = labels
    assert np.array_equal(read_labels(tmp_path / "a.zarr"), labels)


@pytest.mark.parametrize("name", ["z.tif", "plane.ome.tif", "colours.png"])
def test_labels_in_one_of_several_channels(tmp_path, name):
    labels = np.zeros((3, 20, 30), np.uint16)
    labels[:, 3:9, 4:8] = 7
    values = np.full_like(labels, 100)
    if name == "z.tif":
        stack = np.stack([values, labels], axis=1)
        tifffile.imwrite(tmp_path / name, stack, imagej=True, metadata={"axes": "ZCYX"})
    elif name == "plane.ome.tif":
        labels, values = labels[0], values[0]
        tifffile.imwrite(tmp_path / name, np.stack([values, labels]), metadata={"axes": "CYX"})
    else:
        labels, values = labels[0], values[0]
        Image.fromarray(np.stack([values, labels, values], axis=-1).astype(np.uint8)).save(tmp_path / name)
    assert np.array_equal(read_labels(tmp_path / name, channel=1), labels)
    with pytest.raises(FrameError, match=r"one of .* holds the labels, give its number, as channel=0") as refused:
        read_labels(tmp_path / name)
    assert "save it as a file of its own" in in_shell_words(refused.value)
    for channel in (3, -1):
        with pytest.raises(FrameError, match=f"channel={channel} was given for .*, which has [23], 0 to [12]$"):
            read_labels(tmp_path / name, channel=channel)


def test_files_without_channels_have_none_to_choose(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 5), np.uint8))
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 5), np.uint8))
    for name in ("a.npy", "a.tif"):
        with pytest.raises(FrameError, match=r"which has no channels; leave it out$"):
            read_labels(tmp_path / name, channel=0)
