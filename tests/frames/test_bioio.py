"""Files of microscopes and videos: through a plugin where it is installed, with advice where it is not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest

from napari_sam2._errors import FrameError
from napari_sam2.frames import open_frames
from napari_sam2.frames.bioio_files import PLUGINS, _describe


@pytest.mark.parametrize("suffix", [*PLUGINS, ".czi", ".CZI"])
def test_a_format_without_its_plugin_says_what_to_install(tmp_path, monkeypatch, suffix):
    for library in ("bioio", "pylibCZIrw"):
        monkeypatch.setitem(sys.modules, library, None)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"0" * 100)
    with pytest.raises(FrameError, match=r"to read it: pip install .*(formats|czi|bioio-).*, or export it"):
        open_frames(path)


def test_a_video_is_frames_along_time(tmp_path):
    pytest.importorskip("bioio_imageio")
    imageio = pytest.importorskip("imageio")
    y, x = np.mgrid[:64, :96]
    movie = [np.stack([y * 2, x + t, np.full_like(y, 40 * t)], axis=-1).astype(np.uint8) for t in range(5)]
    with imageio.get_writer(tmp_path / "a.mp4", fps=5) as writer:
        for picture in movie:
            writer.append_data(picture)
    frames = open_frames(tmp_path / "a.mp4")
    assert (frames.shape, frames.frame_axis) == ((5, 64, 96), "T")
    assert np.abs(frames[3].astype(int) - movie[3]).mean() < 10


def test_czi(tmp_path):
    czi = pytest.importorskip("pylibCZIrw.czi")
    stack = np.random.default_rng(0).integers(0, 900, (4, 40, 50)).astype(np.uint16)
    with czi.create_czi(str(tmp_path / "a.czi")) as document:
        for z, plane in enumerate(stack):
            document.write(data=plane[..., None], plane={"Z": z, "C": 0})
        document.write_metadata("a", scale_x=2e-7, scale_y=2e-7, scale_z=1e-6, channel_names={0: "GFP"})
    frames = open_frames(tmp_path / "a.czi")
    np.testing.assert_array_equal(frames.raw(2)[0], stack[2])
    assert frames.voxel_size["X"] == (pytest.approx(0.2), "micrometer")
    assert frames.voxel_size["Z"] == (pytest.approx(1), "micrometer")
    assert frames.channel_names == ("GFP",)


def test_a_damaged_file_is_one_line(tmp_path):
    pytest.importorskip("bioio_imageio")
    (tmp_path / "a.mp4").write_bytes(b"0" * 100)
    with pytest.raises(FrameError, match=r"a\.mp4") as caught:
        open_frames(tmp_path / "a.mp4")
    assert "\n" not in str(caught.value)


def test_a_damaged_file_does_not_advise_to_install_what_is_there(tmp_path, caplog):
    pytest.importorskip("bioio_nd2")
    (tmp_path / "a.nd2").write_bytes(b"0" * 100)
    with pytest.raises(FrameError, match=r"a\.nd2 cannot be read by bioio-nd2 \(.+\); check or copy"):
        open_frames(tmp_path / "a.nd2")
    assert not caplog.records  # bioio logs each plugin that it tries


def test_a_video_that_bioio_does_not_know_by_its_suffix(tmp_path):
    pytest.importorskip("bioio_imageio")
    imageio = pytest.importorskip("imageio")
    with imageio.get_writer(tmp_path / "a.mkv", fps=5) as writer:
        for t in range(3):
            writer.append_data(np.full((64, 96, 3), 50 * t, np.uint8))
    assert open_frames(tmp_path / "a.mkv").shape == (3, 64, 96)


class Scenes:
    """Two scenes of one size, as bioio gives them."""

    scenes = ("left", "right")
    dims = SimpleNamespace(order="TCZYX")
    physical_pixel_sizes = SimpleNamespace(Z=None, Y=0.5, X=0.5)
    channel_names = ("DAPI",)

    def __init__(self) -> None:
        self._number = 0

    def set_scene(self, number: int) -> None:
        self._number = number

    @property
    def dask_data(self) -> da.Array:
        return da.from_array(np.full((1, 1, 3, 8, 9), self._number + 1, np.uint16))


def test_scenes_of_one_size_are_positions():
    stack = _describe(Scenes(), Path("a.lif"), None)
    assert (stack.axes, stack.array.shape) == ("PTCZYX", (2, 1, 1, 3, 8, 9))
    assert stack.position_names == ("left", "right")
    assert [int(np.asarray(stack.array[number, 0, 0, 1]).max()) for number in (0, 1)] == [1, 2]
    assert np.asarray(stack.array[0:2, 0, 0, 1]).shape == (2, 8, 9)
