"""Frames of arrays: axes, frame axis, fixed indices, channels, laziness, keys and bad input."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from napari_sam2 import Session
from napari_sam2._errors import FrameError
from napari_sam2._types import FrameSource
from napari_sam2.frames import guess_axes, open_frames
from napari_sam2.frames.contrast import StackContrast
from napari_sam2.frames.display import show_planes
from napari_sam2.frames.sources import Frames
from napari_sam2.frames.volume_series import VolumeSeries

SIZES = {"T": 4, "C": 2, "Z": 5, "Y": 6, "X": 7}
AXES = ["YX", "YXC", "CYX", "ZYX", "TYX", "ZCYX", "CZYX", "TCYX", "TZYX", "ZTYX", "TZCYX", "TCZYX", "ZYXC", "XYZ"]
DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]


def make_array(axes: str, dtype: str = "uint16", **sizes: int) -> np.ndarray:
    shape = tuple((SIZES | sizes)[axis] for axis in axes)
    values = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 120, shape)
    return values.astype(dtype)


def volume_at(time: int) -> Frames:
    return open_frames(make_array("TZYX"), axes="TZYX", frame_axis="Z", fixed={"T": time})


class CountingArray:
    """An array that remembers how many values were ever read at once and in total."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.reads: list[int] = []

    def __getitem__(self, index):
        block = self.array[index]
        self.reads.append(block.size)
        return block

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("the whole array was converted")


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_frame_is_one_plane_of_any_axes_and_dtype(axes, dtype):
    array = make_array(axes, dtype)
    other = {"T": 2} if {"T", "Z"} <= set(axes) else None
    frames = open_frames(array, axes=axes, fixed=other)
    frame_axis = "Z" if "Z" in axes else "T" if "T" in axes else None
    assert frames.frame_axis == frame_axis
    assert frames.shape == (SIZES[frame_axis] if frame_axis else 1, 6, 7)
    assert len(frames) == frames.shape[0]
    assert isinstance(frames, FrameSource)
    t = len(frames) - 1
    moved = np.einsum(f"{axes}->{''.join(a for a in 'TZCYX' if a in axes)}", array)
    if other:
        moved = moved[2]
    if frame_axis:
        moved = moved[t]
    expected = moved if "C" in axes else moved[None]
    assert np.array_equal(frames.raw(t), expected)
    rgb = frames[t]
    assert rgb.shape == (6, 7, 3)
    assert rgb.dtype == np.uint8
    assert frames.source_shape == array.shape


@pytest.mark.parametrize("make", [da.from_array, zarr.array], ids=["dask", "zarr"])
@pytest.mark.parametrize("axes", ["YX", "ZYX", "ZCYX", "ZYXC"])
def test_lazy_arrays_give_the_frames_of_numpy(make, axes):
    array = make_array(axes, "uint16")
    assert np.array_equal(open_frames(make(array), axes=axes)[0], open_frames(array, axes=axes)[0])


def test_only_planes_are_read_and_one_per_frame():
    source = CountingArray(np.random.default_rng(0).integers(0, 999, (100, 40, 50)).astype(np.uint16))
    frames = open_frames(source, axes="ZYX")
    assert len(source.reads) <= 8
    assert max(source.reads) == 40 * 50
    source.reads.clear()
    frames[31]
    assert source.reads == [40 * 50]


def test_dask_computes_one_block_per_frame():
    computed = []

    def block(block_id=None):
        computed.append(block_id[0])
        return np.full((1, 8, 8), block_id[0], np.uint8)

    array = da.map_blocks(block, chunks=((1,) * 50, (8,), (8,)), dtype=np.uint8, meta=np.zeros((0, 0, 0), np.uint8))
    frames = open_frames(array, contrast=(0, 255))
    assert computed == []
    assert frames[17][0, 0].tolist() == [17, 17, 17]
    assert computed == [17]


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        pytest.param((5, 6), "float32", "YX", id="2d"),
        pytest.param((5, 6, 3), "uint8", "YXC", id="rgb"),
        pytest.param((5, 6, 4), "uint8", "YXC", id="rgba"),
        pytest.param((5, 6, 3), "uint16", "ZYX", id="three-columns-of-uint16"),
        pytest.param((3, 6, 7), "uint8", "ZYX", id="three-planes"),
        pytest.param((9, 5, 6, 3), "uint8", "ZYXC", id="rgb-stack"),
    ],
)
def test_axes_are_guessed(shape, dtype, axes):
    assert guess_axes(shape, dtype) == axes
    assert open_frames(np.zeros(shape, dtype)).axes == axes


@pytest.mark.parametrize(
    "shape", [(5,), (), (4, 5, 6, 7), (2, 3, 4, 5, 6), (20, 30, 1), (20, 30, 2), (20, 30, 3), (20, 30, 4)], ids=str
)
def test_axes_that_cannot_be_guessed_are_asked_for(shape):
    with pytest.raises(FrameError, match="give axes="):
        open_frames(np.zeros(shape, np.uint16))


@pytest.mark.parametrize("axes", ["ZY", "ZYXC", "ZZX", "QYX", "ZTC", "", "YXX"])
def test_wrong_axes_name_the_shape_and_what_is_allowed(axes):
    with pytest.raises(FrameError, match=r"\(4, 5, 6\).*T, C, Z, Y, X"):
        open_frames(np.zeros((4, 5, 6), np.uint8), axes=axes)


def test_lower_case_axes_are_read():
    assert open_frames(np.zeros((4, 5, 6)), axes="tyx", contrast=(0, 1)).frame_axis == "T"


class TestFrameAxis:
    def test_z_is_taken_with_a_warning_where_both_move(self):
        with pytest.warns(UserWarning, match=r"T=0 is read"):
            frames = open_frames(make_array("TZYX"), axes="TZYX")
        assert (frames.frame_axis, frames.fixed) == ("Z", {"T": 0})

    @pytest.mark.parametrize(
        ("options", "frame_axis", "fixed"),
        [
            pytest.param({"fixed": {"T": 3}}, "Z", {"T": 3}, id="fixed-t"),
            pytest.param({"fixed": {"z": -1}}, "T", {"Z": 4}, id="fixed-z-from-the-end"),
            pytest.param({"frame_axis": "t", "fixed": {"Z": 2}}, "T", {"Z": 2}, id="both"),
            pytest.param({"fixed": {"Z": 2, "T": 1}}, None, {"T": 1, "Z": 2}, id="one-plane"),
        ],
    )
    def test_is_chosen_without_warning(self, options, frame_axis, fixed):
        array = make_array("TZYX")
        frames = open_frames(array, axes="TZYX", **options)
        assert (frames.frame_axis, frames.fixed) == (frame_axis, fixed)
        assert frames.output_axes == (frame_axis or "") + "YX"
        expected = array[fixed.get("T", 1), fixed.get("Z", 1)]
        assert np.array_equal(frames.raw(1 if frame_axis else 0)[0], expected)

    @pytest.mark.parametrize(("sizes", "expected"), [({"T": 1}, "Z"), ({"Z": 1}, "T"), ({"T": 1, "Z": 1}, "Z")])
    def test_axes_of_length_one_ask_for_nothing(self, sizes, expected):
        assert open_frames(make_array("TZYX", **sizes), axes="TZYX").frame_axis == expected

    def test_given_t_leaves_z_with_a_warning(self):
        with pytest.warns(UserWarning, match=r"Z=0 is read"):
            assert len(open_frames(make_array("TZYX"), axes="TZYX", frame_axis="T")) == 4

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param({"frame_axis": "T"}, "expected Z", id="absent"),
            pytest.param({"frame_axis": "C"}, "expected Z", id="channels"),
            pytest.param({"frame_axis": "Z", "fixed": {"Z": 0}}, "both", id="fixed-too"),
            pytest.param({"fixed": {"Z": 5}}, "0 to 4", id="fixed-too-large"),
            pytest.param({"fixed": {"Z": 1.5}}, "to integers", id="fixed-fraction"),
            pytest.param({"fixed": {"T": 0}}, "expected one of Z", id="fixed-absent"),
            pytest.param({"fixed": {"Y": 0}}, "expected one of Z", id="fixed-row"),
            pytest.param({"channels": 1}, "1 channel, expected 0$", id="channel-absent"),
            pytest.param({"level": 1}, "one level", id="level"),
        ],
    )
    def test_impossible_choices_are_errors(self, options, message):
        with pytest.raises(FrameError, match=message):
            open_frames(make_array("ZYX"), axes="ZYX", **options)


class TestFurtherAxes:
    """Positions, angles and so on: one index is read, and they are never taken for time."""

    def test_positions_with_time_and_z(self):
        array = make_array("PTZYX", P=2)
        with pytest.warns(UserWarning, match=r"several positions .*P=0 is read .*give fixed=.* to choose"):
            frames = open_frames(array, axes="PTZYX", fixed={"T": 1})
        assert np.array_equal(frames.raw(2)[0], array[0, 1, 2])
        assert frames.fixed == {"T": 1, "P": 0}

    def test_six_axes(self):
        array = make_array("PATCZYX", P=2, A=3)
        frames = open_frames(array, axes="PATCZYX", fixed={"P": 1, "A": 2, "Z": 4})
        assert frames.frame_axis == "T"
        assert np.array_equal(frames.raw(3), array[1, 2, 3, :, 4])

    def test_a_file_names_them(self, tmp_path):
        stack = make_array("PTYX", P=2)
        tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "PTYX"}, photometric="minisblack")
        frames = open_frames(tmp_path / "a.tif", fixed={"P": 1})
        assert (frames.axes, frames.frame_axis) == ("PTYX", "T")
        assert np.array_equal(frames.raw(3)[0], stack[1, 3])

    def test_two_axes_without_a_name_are_asked_for(self, tmp_path):
        tifffile.imwrite(tmp_path / "a.tif", make_array("TZYX"), photometric="minisblack")
        with pytest.raises(FrameError, match="have unknown names; give axes="):
            open_frames(tmp_path / "a.tif")
        assert open_frames(tmp_path / "a.tif", axes="TZYX", fixed={"T": 1}).shape == (5, 6, 7)

    def test_an_index_that_is_not_there_is_an_error(self):
        with pytest.raises(FrameError, match="P has 2 planes, 0 to 1"):
            open_frames(make_array("PZYX", P=2), axes="PZYX", fixed={"P": 2})


class TestChannels:
    def test_first_three_of_many_with_a_warning(self):
        with pytest.warns(UserWarning, match="5 channels; the first three"):
            frames = open_frames(make_array("ZCYX", C=5), axes="ZCYX")
        assert frames.channels == (0, 1, 2)

    @pytest.mark.parametrize("axes", ["CYX", "YXC", "XYC"])
    def test_are_read_in_the_given_order(self, axes):
        array = make_array(axes, C=6)
        frames = open_frames(array, axes=axes, channels=[5, 1])
        assert np.array_equal(frames.raw(0), np.einsum(f"{axes}->CYX", array)[[5, 1]])

    @pytest.mark.parametrize("channels", [[0, 1, 2, 3], [], 6, -1, [0, 6], [0.5]], ids=str)
    def test_out_of_range_are_errors(self, channels):
        with pytest.raises(FrameError, match="expected"):
            open_frames(make_array("CYX", C=6), axes="CYX", channels=channels)

    def test_colours_mix_by_addition(self):
        array = np.zeros((2, 1, 3), np.uint8)
        array[0, 0] = [255, 0, 255]
        array[1, 0] = [0, 255, 255]
        frames = open_frames(array, axes="CYX", contrast="dtype", colours=["red", "#00ff00"])
        assert frames[0].tolist() == [[[255, 0, 0], [0, 255, 0], [255, 255, 0]]]

    def test_alpha_is_ignored_and_rgb_is_untouched(self):
        array = make_array("YXC", "uint8", C=4)
        frames = open_frames(array)
        assert np.array_equal(frames[0], array[..., :3])
        assert frames.channels == (0, 1, 2)

    def test_one_channel_of_rgb_is_grey(self):
        frame = open_frames(make_array("YXC", "uint8", C=3), channels=1, contrast=(0, 255))[0]
        assert (frame[..., 0] == frame[..., 2]).all()


class TestReading:
    def test_negative_indices_count_from_the_end(self):
        frames = open_frames(make_array("ZYX"), axes="ZYX")
        assert np.array_equal(frames[-1], frames[4])
        assert np.array_equal(frames[np.int64(2)], frames[2])

    @pytest.mark.parametrize("frame", [5, -6, 1000])
    def test_index_out_of_range_is_an_index_error(self, frame):
        with pytest.raises(IndexError, match="there are 5, 0 to 4"):
            open_frames(make_array("ZYX"), axes="ZYX")[frame]

    def test_iteration_ends(self):
        assert len(list(open_frames(make_array("ZYX"), axes="ZYX"))) == 5

    @pytest.mark.parametrize(
        "frames",
        [
            pytest.param(show_planes(make_array("ZYX")), id="planes"),
            pytest.param(show_planes(make_array("TZYX")), id="planes of volumes"),
            pytest.param(
                VolumeSeries(volume_at, SIZES["T"]),
                id="volumes",
            ),
        ],
    )
    def test_planes_end_and_count_from_the_end(self, frames):
        num_planes = len(frames)
        assert len(list(zip(frames, range(num_planes + 1), strict=False))) == num_planes
        assert np.array_equal(frames[-1], frames[num_planes - 1])
        assert np.array_equal(frames.region(-1, slice(2), slice(3)), frames[-1][:2, :3])
        assert np.array_equal(frames.raw(-1)[0], frames.raw(num_planes - 1)[0])
        for wrong in (num_planes, -num_planes - 1):
            with pytest.raises(IndexError, match=f"there are {num_planes}, 0 to {num_planes - 1}"):
                frames[wrong]

    def test_fractional_index_is_a_type_error(self):
        with pytest.raises(TypeError):
            open_frames(make_array("ZYX"), axes="ZYX")[1.0]

    @pytest.mark.parametrize("shape", [(0, 5, 6), (5, 0, 6), (0, 0)], ids=str)
    def test_empty_stack_is_an_error(self, shape):
        with pytest.raises(FrameError, match="empty"):
            open_frames(np.zeros(shape, np.uint8))

    @pytest.mark.parametrize("dtype", ["complex64", "U3", "O", "datetime64[s]"])
    def test_types_that_are_no_intensities_are_errors(self, dtype):
        with pytest.raises(FrameError, match="booleans, integers or floats"):
            open_frames(np.zeros((4, 5), dtype))

    @pytest.mark.parametrize("source", [3.5, None, b"bytes", [[1], [1, 2]], []], ids=str)
    def test_something_else_is_an_error(self, source):
        with pytest.raises(FrameError, match="given"):
            open_frames(source, axes="YX")

    def test_open_frames_are_returned_as_they_are(self):
        frames = open_frames(make_array("ZYX"), axes="ZYX")
        assert open_frames(frames) is frames
        with pytest.raises(FrameError, match="already open"):
            open_frames(frames, gamma=2.0)


class TestKey:
    def test_is_equal_for_the_same_view_of_the_same_array(self):
        array = make_array("ZYX")
        assert open_frames(array, axes="ZYX").key == open_frames(array, axes="ZYX").key

    @pytest.mark.parametrize(
        "options",
        [{"contrast": (0, 50)}, {"gamma": 0.5}, {"axes": "TYX"}, {"colours": ["red"]}, {"fixed": {"Z": 1}}],
        ids=str,
    )
    def test_differs_for_another_view(self, options):
        array = make_array("ZYX")
        assert open_frames(array, **{"axes": "ZYX", **options}).key != open_frames(array, axes="ZYX").key

    def test_differs_for_an_equal_copy_and_after_a_change_in_place(self):
        array = make_array("ZYX")
        frames = open_frames(array, axes="ZYX", contrast=(0, 9))
        copy = array.copy()
        assert open_frames(copy, axes="ZYX", contrast=(0, 9)).key != frames.key
        array += 1
        assert open_frames(array, axes="ZYX", contrast=(0, 9)).key != frames.key


def test_another_time_point_has_the_same_contrast() -> None:
    volumes = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    frames = open_frames(volumes, axes="TZYX", frame_axis="Z", fixed={"T": 0}, contrast=(0, 255))
    later = frames.at_time(1)
    assert later.contrast_limits == frames.contrast_limits
    assert later.key != frames.key
    np.testing.assert_array_equal(later[2][..., 0], volumes[1, 2])
    assert frames.at_time(1, StackContrast(((0.0, 510.0),)))[0].max() < later[0].max()
    with pytest.raises(FrameError, match="there are 2, 0 to 1"):
        frames.at_time(2)
    with pytest.raises(FrameError, match="have no other"):
        open_frames(volumes[0], axes="ZYX").at_time(0)


def test_a_huge_plane_is_sampled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted:
        shape, dtype, largest = (8000, 6000), np.dtype(np.uint16), 0

        def __getitem__(self, index):
            rows, columns = (range(size)[part] for part, size in zip(index, self.shape, strict=True))
            self.largest = max(self.largest, len(rows) * len(columns))
            return np.add.outer(np.asarray(rows, np.uint16), np.zeros(len(columns), np.uint16))

    picture = Counted()
    low, high = open_frames(picture, axes="YX").contrast_limits[0]
    assert picture.largest <= 1_000_000
    assert low < 200
    assert high > 7800


MASKED = np.ma.masked_greater(make_array("ZYX"), 60)


@pytest.mark.parametrize(
    "array",
    [MASKED, MASKED.astype(np.float32), da.from_array(MASKED), list(MASKED)],
    ids=["integers", "floats", "dask", "list"],
)
def test_hidden_values_of_a_masked_array_are_not_read_as_pixels(array):
    with pytest.raises(FrameError, match=r"mask.*filled"):
        open_frames(array)


def test_a_masked_array_that_hides_nothing_is_an_array():
    values = make_array("ZYX")
    assert np.array_equal(open_frames(np.ma.array(values)).raw(1)[0], values[1])


class NamedArray:
    """What xarray.DataArray is to `open_frames`."""

    def __init__(self, data: np.ndarray, *dims: str) -> None:
        self.data, self.dims, self.shape, self.dtype = data, dims, data.shape, data.dtype

    def __getitem__(self, index: object) -> np.ndarray:
        return self.data[index]


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("time", "y", "x"), "TYX"),
        (("x", "y", "z"), "XYZ"),
        (("channel", "y", "x"), "CYX"),
        (("dim_0", "dim_1", "dim_2"), "ZYX"),
        (("band", "dim_1", "x"), "ZYX"),
    ],
)
def test_axes_that_an_array_names_are_used(names, axes):
    assert open_frames(NamedArray(make_array("ZYX", Z=2), *names)).axes == axes


def test_masks_are_found_in_named_arrays():
    with pytest.raises(FrameError, match="filled"):
        open_frames(NamedArray(MASKED, "z", "y", "x"))


def test_a_dask_array_of_unknown_size_is_refused_with_what_to_do():
    array = da.from_array(make_array("ZYX"))
    chosen = array[da.from_array(np.array([True, False, True, True, False]))]
    with pytest.raises(FrameError, match=r"compute_chunk_sizes\(\) first"):
        open_frames(chosen)
    assert open_frames(chosen.compute_chunk_sizes()).shape == (3, 6, 7)


def test_tensors_are_read_and_those_that_numpy_cannot_read_are_refused():
    torch = pytest.importorskip("torch")
    values = make_array("ZYX", "int32")
    assert np.array_equal(open_frames(torch.tensor(values)).raw(2)[0], values[2])
    for tensor in (torch.rand(6, 7, requires_grad=True), torch.rand(6, 7).bfloat16()):
        with pytest.raises(FrameError, match=r"numpy cannot read.*give a numpy array"):
            open_frames(tensor)


@pytest.mark.parametrize("opened", [Session, show_planes], ids=["session", "show_planes"])
def test_a_session_takes_no_array_whose_mask_or_order_would_be_lost(opened):
    with pytest.raises(FrameError, match="filled"):
        opened(MASKED)
    if opened is Session:
        with pytest.raises(FrameError, match=r"names its axes XYZ.*give open_frames"):
            opened(NamedArray(make_array("ZYX"), "x", "y", "z"))
