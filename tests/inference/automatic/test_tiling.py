"""Large pictures: tiles, seams, and how much is held at a time."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr

from factories import make_model
from napari_sam2 import FrameError, PromptError, SAM2AutomaticMaskGenerator, open_frames
from napari_sam2.frames.regions import ArrayRegions, FrameRegions, tile_grid
from napari_sam2.inference.automatic.tiling import TilingSettings, segment_tiled
from napari_sam2.labels.evaluation import average_precision
from oracle import OracleFinder, make_record


class ComponentFinder(OracleFinder):
    """Finds each connected bright region of the tile that it is shown."""

    def generate_masks(self, image, *, progress=None):
        from scipy import ndimage

        self.shapes.append(image.shape)
        labels, num = ndimage.label(image[..., 0] > 128)
        if progress is not None:
            progress(num, num)
        return [make_record(labels == i) for i in range(1, num + 1)]


class CountingArray:
    """An array that notes how much is read and written at once, and refuses to be read whole."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.largest_read = self.largest_write = 0

    def __getitem__(self, index):
        part = self.array[index]
        self.largest_read = max(self.largest_read, part.shape[0] * part.shape[1])
        return part.copy()

    def __setitem__(self, index, values):
        self.largest_write = max(self.largest_write, self.array[index].size)
        self.array[index] = values

    def __array__(self, *_: object, **__: object):
        raise AssertionError("the whole array was read")


def blobs(hw=(150, 190), num=60, seed=0) -> np.ndarray:
    """Labels: discs apart from each other, a bar through the whole width, a ring around the middle."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(hw, np.int32)
    y, x = np.mgrid[: hw[0], : hw[1]]
    labels[70:76, 3:-3] = 1
    for _ in range(num):
        cy, cx, r = rng.uniform(0, hw[0]), rng.uniform(0, hw[1]), rng.uniform(3, 9)
        near = (y - cy) ** 2 + (x - cx) ** 2
        if not labels[near <= (r + 2) ** 2].any():
            labels[near <= r**2] = labels.max() + 1
    return labels


def picture(labels: np.ndarray) -> np.ndarray:
    return np.where(labels > 0, 3000, 100).astype(np.uint16)


@pytest.mark.parametrize(
    ("tile", "overlap"),
    [
        pytest.param(64, 24, id="objects-fit-the-overlap"),
        pytest.param(50, 8, id="objects-larger-than-the-overlap"),
        pytest.param(48, 20, id="many"),
    ],
)
def test_tiles_leave_no_seam(tile, overlap):
    labels = blobs()
    found = segment_tiled(picture(labels), tile=tile, overlap=overlap, finder=ComponentFinder())
    np.testing.assert_array_equal(found > 0, labels > 0)
    assert average_precision(labels, found, [1.0]).at(1.0).average_precision == 1
    assert sorted(np.unique(found)) == list(range(labels.max() + 1))


def test_object_that_bends_through_many_tiles_is_one():
    labels = np.zeros((120, 120), np.int32)
    labels[5:115, 5:10] = labels[110:115, 5:115] = labels[5:115, 110:115] = 1  # meets itself only at the bottom
    found = segment_tiled(picture(labels), tile=40, overlap=8, finder=ComponentFinder())
    np.testing.assert_array_equal(found, labels)


def test_objects_that_only_touch_across_tiles_stay_two():
    labels = np.zeros((60, 100), np.int32)
    labels[10:30, 20:49], labels[10:30, 51:80] = 1, 2
    found = segment_tiled(picture(labels), tile=60, overlap=20, finder=ComponentFinder())
    assert average_precision(labels, found, [1.0]).at(1.0).average_precision == 1


def test_no_read_and_no_write_is_larger_than_a_tile():
    labels = blobs()
    source, out = CountingArray(picture(labels)), CountingArray(np.zeros(labels.shape, np.int32))
    finder = ComponentFinder()
    assert segment_tiled(source, tile=64, overlap=16, finder=finder, out=out, contrast=(0, 3000)) is out
    assert average_precision(labels, out.array, [1.0]).at(1.0).average_precision == 1
    assert source.largest_read == 64 * 64
    assert 0 < out.largest_write <= 64 * 64
    assert 0 < out.largest_read <= 64 * 64
    assert {shape[:2] for shape in finder.shapes} == {(64, 64)}


def test_from_dask_to_zarr(tmp_path):
    labels = blobs()
    out = zarr.create_array(tmp_path / "out.zarr", shape=labels.shape, chunks=(32, 32), dtype="int32")
    segment_tiled(da.from_array(picture(labels), chunks=50), tile=64, overlap=16, finder=ComponentFinder(), out=out)
    assert average_precision(labels, out[:], [1.0]).at(1.0).average_precision == 1


def test_records_of_each_tile_can_be_filtered():
    labels = np.zeros((100, 190), np.int32)
    labels[5:15, 5:15], labels[40:70, 60:90] = 1, 2
    found = segment_tiled(
        picture(labels),
        tile=64,
        overlap=24,
        finder=ComponentFinder(),
        keep=lambda rs: [r for r in rs if r["area"] > 100],
    )
    np.testing.assert_array_equal(found > 0, labels == 2)


@pytest.mark.parametrize(("share", "num_objects"), [(0.3, 1), (0.8, 2)])
def test_settings_say_how_much_of_a_cut_object_must_lie_inside_the_one_of_the_next_tile(share, num_objects):
    class Shifted(ComponentFinder):
        """Of 20 rows, 8 are the same in the second tile."""

        def generate_masks(self, image, *, progress=None):
            return super().generate_masks(np.roll(image, 12, 0) if self.shapes else image, progress=progress)

    labels = np.zeros((60, 100), np.int32)
    labels[10:30, 20:80] = 1
    settings = TilingSettings(min_cut_containment=share)
    found = segment_tiled(picture(labels), tile=60, overlap=20, finder=Shifted(), settings=settings)
    assert found.max() == num_objects


def test_contrast_is_one_for_all_tiles():
    labels = blobs()
    image = np.where(labels > 0, 3000, np.where(np.arange(190) < 60, 1200, 100))
    found = segment_tiled(image.astype(np.uint16), tile=64, overlap=16, finder=ComponentFinder())
    np.testing.assert_array_equal(found > 0, labels > 0)  # the brighter ground of the left tiles is no object


def test_small_picture_is_one_tile():
    labels, finder = blobs((40, 50)), ComponentFinder()
    found = segment_tiled(picture(labels), finder=finder)
    assert finder.shapes == [(40, 50, 3)]
    assert average_precision(labels, found, [1.0]).at(1.0).average_precision == 1


def test_cancelling_keeps_finished_tiles():
    labels, stages = blobs(), []
    found = segment_tiled(
        picture(labels), tile=64, overlap=16, finder=ComponentFinder(),
        on_progress=lambda stage, done, total: stages.append(stage), should_stop=lambda: stages[-1] == "tile 3 of 12",
    )  # fmt: skip
    assert stages == ["tile 1 of 12", "tile 2 of 12", "tile 3 of 12"]
    first = tile_grid(labels.shape, 64, 16)[0]
    core = (first.core_rows, first.core_columns)
    np.testing.assert_array_equal(found[core] > 0, labels[core] > 0)
    assert not found[64:].any()


@pytest.mark.parametrize("hw", [(10, 10), (64, 64), (65, 300), (1000, 129)])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 16), (64, 31)])
def test_cores_cover_the_picture_once_and_neighbours_overlap(hw, tile, overlap):
    times = np.zeros(hw, int)
    for part in tile_grid(hw, tile, overlap):
        times[part.core_rows, part.core_columns] += 1
        assert part.hw == (min(tile, hw[0]), min(tile, hw[1]))
        assert np.zeros(part.hw)[part.core].shape == times[part.core_rows, part.core_columns].shape
        assert part.rows.start == 0 or part.num_seen_rows >= overlap
        assert part.columns.start == 0 or part.num_seen_columns >= overlap
    assert (times == 1).all()


@pytest.mark.parametrize(
    ("image", "limits"),
    [
        pytest.param(np.full((30, 30, 3), 7, np.uint8), 7, id="colours-as-they-are"),
        pytest.param(np.full((30, 30, 4), 7, np.uint8), 7, id="alpha-ignored"),
        pytest.param(np.full((30, 30), 7, np.uint8), 0, id="constant-grey-is-black"),
    ],
)
def test_regions_are_rgb(image, limits):
    part = ArrayRegions(image).read(slice(0, 5), slice(2, 9))
    assert part.shape == (5, 7, 3)
    assert (part == limits).all()


@pytest.mark.parametrize(
    ("over", "error", "message"),
    [
        pytest.param({"tile": 64, "overlap": 32}, PromptError, "overlap=32", id="overlap"),
        pytest.param({"tile": 0}, PromptError, "tile=0", id="tile"),
        pytest.param({"min_iou": 0}, PromptError, "min_iou=0", id="iou"),
        pytest.param({"out": np.zeros((3, 3), np.int32)}, PromptError, r"\(3, 3\)", id="out"),
        pytest.param({"out": np.zeros((150, 190), np.uint8)}, PromptError, "use int32", id="out-type"),
    ],
)
def test_bad_values_are_refused(over, error, message):
    with pytest.raises(error, match=message):
        segment_tiled(picture(blobs()), **({"finder": ComponentFinder()} | over))


@pytest.mark.parametrize("shape", [(4,), (2, 3, 9), (0, 5)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(FrameError, match="picture"):
        segment_tiled(np.zeros(shape), finder=ComponentFinder())


def test_generator_works_on_tiles():
    finder = SAM2AutomaticMaskGenerator(
        make_model(), points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, output_mode="coco_rle"
    )
    found = segment_tiled(picture(blobs((60, 60))), tile=40, overlap=10, finder=finder)
    assert found.shape == (60, 60)
    assert sorted(np.unique(found)) == list(range(found.max() + 1))
    assert found.any()


@pytest.mark.parametrize(
    ("shape", "axes"), [((3, 30, 40), "ZYX"), ((30, 40, 2), "YXC"), ((40, 30), "XY"), ((2, 3, 30, 40), "CZYX")]
)
def test_region_of_a_frame_is_what_the_frame_shows_there(shape, axes):
    frames = open_frames(np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16), axes=axes)
    last = len(frames) - 1
    rows, columns = slice(5, 20), slice(11, 40)
    part = FrameRegions(frames, last).read(rows, columns)
    np.testing.assert_array_equal(part, frames[last][rows, columns])
    assert FrameRegions(frames).hw == (30, 40)


def test_frames_of_lazy_arrays_are_read_in_parts():
    labels = blobs()
    source = CountingArray(picture(labels))
    frames = open_frames(source, contrast=(0, 3000))
    source.largest_read = 0
    found = segment_tiled(FrameRegions(frames), tile=64, overlap=16, finder=ComponentFinder())
    assert source.largest_read == 64 * 64
    assert average_precision(labels, found, [1.0]).at(1.0).average_precision == 1


@pytest.mark.parametrize("is_open", [True, False], ids=["frames", "path"])
def test_a_file_is_segmented(tmp_path, is_open):
    labels = blobs()
    tifffile.imwrite(tmp_path / "slide.tif", picture(labels))
    image = open_frames(tmp_path / "slide.tif") if is_open else tmp_path / "slide.tif"
    found = segment_tiled(image, tile=64, overlap=16, finder=ComponentFinder())
    assert average_precision(labels, found, [1.0]).at(1.0).average_precision == 1


def test_a_stack_is_refused():
    with pytest.raises(FrameError, match="segment_stack"):
        segment_tiled(open_frames(np.ones((3, 20, 20))), finder=ComponentFinder())


@pytest.mark.parametrize("tile", [48, 400])
def test_areas_and_border_are_those_of_whole_objects(tile):
    truth = blobs()
    areas = np.bincount(truth.ravel())
    low, high = int(np.median(areas[areas > 0])), int(areas[2:].max())
    on_border = np.unique(np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]]))
    wanted = [i for i in np.unique(truth) if i and low <= areas[i] <= high and i not in on_border]
    assert 2 < len(wanted) < len(np.unique(truth)) - 2
    labels = segment_tiled(
        picture(truth), finder=ComponentFinder(), tile=tile, overlap=20,
        min_area_px=low, max_area_px=high, exclude_border=True,
    )  # fmt: skip
    assert labels.max() == len(np.unique(labels)) - 1
    np.testing.assert_array_equal(labels > 0, np.isin(truth, wanted))
