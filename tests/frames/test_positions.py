"""Several images of different sizes in one file: each opens at its own size, by number or name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from factories import make_model
from napari_sam2 import FrameError, Session, open_frames
from napari_sam2._errors import PlanesLeftOutWarning
from napari_sam2.batch.inputs import find_sources, plan_pieces, with_positions
from napari_sam2.frames.files import open_path
from napari_sam2.frames.sources import num_positions
from napari_sam2.labels.reading import read_labels

SHAPES = {"overview": (20, 30), "cell A": (4, 32, 24), "cell B": (6, 16, 40)}
LEADING = {0: (3, 2, 4), 1: (1, 2, 6), 2: (2, 1, 4)}  # of scenes: times, channels, slices
PLANES = {0: (40, 50), 1: (64, 48), 2: (30, 90)}


@pytest.fixture
def images() -> dict[str, NDArray[np.uint16]]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(1, 4000, shape).astype(np.uint16) for name, shape in SHAPES.items()}


@pytest.fixture
def path(tmp_path: Path, images: dict[str, NDArray[np.uint16]]) -> Path:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for number, (name, image) in enumerate(images.items()):
            metadata = {"axes": "ZYX"[-image.ndim :], "Name": name, "PhysicalSizeX": 0.5 + number}
            tif.write(image, metadata=metadata, compression="zlib" if number == 1 else None, photometric="minisblack")
    return tmp_path / "a.ome.tif"


@pytest.fixture
def czi(tmp_path: Path) -> tuple[Path, dict[tuple[int, ...], NDArray[np.uint16]]]:
    """Scenes that differ in every axis, and each of their planes by scene, time, channel and slice."""
    writer = pytest.importorskip("pylibCZIrw.czi")
    rng, planes = np.random.default_rng(0), {}
    with writer.create_czi(str(tmp_path / "a.czi")) as document:
        for scene, hw in PLANES.items():
            for t, c, z in np.ndindex(LEADING[scene]):
                planes[scene, t, c, z] = rng.integers(0, 60000, hw).astype(np.uint16)
                place = {"T": t, "Z": z, "C": c}
                document.write(planes[scene, t, c, z][..., None], plane=place, scene=scene, location=(scene * 500, 7))
        document.write_metadata("a", scale_x=2e-7, scale_y=2e-7, scale_z=1e-6, channel_names={0: "GFP", 1: "DAPI"})
    return tmp_path / "a.czi", planes


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("by_name", [False, True])
def test_each_image_opens_at_its_own_size(path, images, number, by_name):
    name, image = list(images.items())[number]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames = open_frames(path, fixed={"P": name.upper() if by_name else number})
    assert frames.fixed["P"] == number
    assert frames.shape == (image.shape if image.ndim == 3 else (1, *image.shape))
    np.testing.assert_array_equal([frames.raw(z)[0] for z in range(len(frames))], image.reshape(frames.shape))
    assert frames.voxel_size["X"].value == 0.5 + number
    np.testing.assert_array_equal(frames.region(0, slice(2, 9), slice(1, 5)), frames[0][2:9, 1:5])


def test_without_a_choice_the_first_opens_and_all_are_listed(path, images):
    listed = r"0 \(overview: YX 20 x 30\), 1 \(cell A: ZYX 4 x 32 x 24\), 2 \(cell B: .*; P=0 is read"
    with pytest.warns(PlanesLeftOutWarning, match=listed):
        frames = open_frames(path)
    np.testing.assert_array_equal(frames.raw(0)[0], images["overview"])


def test_axes_can_be_those_of_the_image_itself(path):
    assert open_frames(path, fixed={"P": 1}, axes="TYX").frame_axis == "T"
    assert open_frames(path, fixed={"P": 1}, axes="PTYX").frame_axis == "T"


@pytest.mark.parametrize("wanted", [3, -4, "cell", "3", ""])
def test_a_position_that_is_not_there_is_answered_by_those_that_are(path, wanted):
    with pytest.raises(FrameError, match=r"position .* was given; .*a\.ome\.tif has 0 \(overview\), 1 \(cell A\), 2 "):
        open_frames(path, fixed={"P": wanted})


def test_only_positions_have_names(path):
    with pytest.raises(FrameError, match=r"Z=first was given as a fixed index; expected a number"):
        open_frames(path, fixed={"P": 1, "Z": "first"})


def test_positions_of_one_size_have_names_too(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for number, name in enumerate(["left", "right"]):
            tif.write(np.full((3, 20, 30), number, np.uint8), metadata={"axes": "ZYX", "Name": name})
    assert open_frames(tmp_path / "a.ome.tif", fixed={"P": "right"}).raw(0).max() == 1


def test_label_and_overview_of_a_slide_are_no_positions(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tif:
        for name, size in (("slide", 64), ("label image", 20), ("macro image", 30)):
            tif.write(np.zeros((size, size), np.uint8), metadata={"axes": "YX", "Name": name})
    with pytest.warns(UserWarning, match="holds 3 images; the first is read"):
        frames = open_frames(tmp_path / "a.ome.tif", contrast="dtype")
    assert (frames.shape, frames.axes) == ((1, 64, 64), "YX")


def test_each_is_an_input_of_a_batch(path, tmp_path):
    sources = with_positions(find_sources([path]))
    assert [source.position for source in sources] == [0, 1, 2]
    names = [piece.name for piece in plan_pieces(sources, tmp_path / "out", ".tif")]
    assert len(set(names)) == 3
    assert with_positions(find_sources([path]), fixed=[("P", "cell A")]) == find_sources([path])


def test_a_session_on_one_of_them_opens_again(path, images, tmp_path):
    frames = open_frames(path, fixed={"P": "cell B"})
    with Session(frames, model=make_model()) as session:
        session.add_mask(images["cell B"][2] > 2000, frame=2)
        saved = session.labels
        session.save(tmp_path / "a.sam2")
    with Session.load(tmp_path / "a.sam2", frames, model=make_model()) as session:
        np.testing.assert_array_equal(session.labels, saved)


def test_labels_in_such_a_file_are_the_first(path, images):
    with pytest.warns(PlanesLeftOutWarning):
        np.testing.assert_array_equal(read_labels(path), images["overview"])


def test_every_plane_of_scenes_that_differ(czi):
    path, planes = czi
    for scene, (times, channels, _) in LEADING.items():
        for t in range(times):
            frames = open_frames(path, fixed={"P": scene, "T": t}, frame_axis="Z", contrast="dtype")
            assert frames.shape == (LEADING[scene][2], *PLANES[scene])
            assert frames.channel_names == ("GFP", "DAPI")[:channels]
            for z in range(len(frames)):
                np.testing.assert_array_equal(frames.raw(z), [planes[scene, t, c, z] for c in range(channels)])
    assert num_positions(path) == 3


def test_of_a_scene_only_the_planes_and_parts_that_are_wanted_are_read(czi, monkeypatch):
    reader = pytest.importorskip("pylibCZIrw.czi").CziReader
    path, planes = czi
    read, asked = reader.read, []

    def noted(self, roi=None, plane=None, scene=None, **options):
        asked.append((tuple(roi), dict(plane), scene))
        return read(self, roi=roi, plane=plane, scene=scene, **options)

    monkeypatch.setattr(reader, "read", noted)
    array = open_path(path, position=1).array
    assert not asked  # opening reads no pixels
    np.testing.assert_array_equal(array[1, 0, 1, 4, 5:20:3, 40:8:-2], planes[1, 0, 1, 4][5:20:3, 40:8:-2])
    assert asked == [((510, 12, 31, 13), {"T": 0, "C": 1, "Z": 4}, 1)]
    assert array[1, 0, :, 2:4, 3].shape == (2, 2, 48)
    assert array[1, 0, 0, 0, 5:5].shape == (0, 48)


def test_colours_of_a_czi(tmp_path):
    writer = pytest.importorskip("pylibCZIrw.czi")
    picture = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    with writer.create_czi(str(tmp_path / "a.czi")) as document:
        document.write(picture)  # blue, green, red
    frames = open_frames(tmp_path / "a.czi")
    np.testing.assert_array_equal(frames[0], picture[..., ::-1])


def test_scenes_of_one_size_are_positions(tmp_path):
    writer = pytest.importorskip("pylibCZIrw.czi")
    with writer.create_czi(str(tmp_path / "a.czi")) as document:
        for scene in range(3):
            document.write(np.full((20, 30, 1), scene, np.uint8), scene=scene, location=(100 * scene, 0))
    array = open_path(tmp_path / "a.czi").array
    assert array.shape == (3, 1, 1, 1, 20, 30)
    np.testing.assert_array_equal(np.asarray(array[1:, 0, 0, 0, 0, 0]), [1, 2])


def test_a_damaged_czi_is_one_line(tmp_path):
    pytest.importorskip("pylibCZIrw")
    (tmp_path / "a.czi").write_bytes(b"0" * 100)
    with pytest.raises(FrameError, match=r"a\.czi cannot be read as a CZI \(.*\); check or copy") as caught:
        open_frames(tmp_path / "a.czi")
    assert "\n" not in str(caught.value)
