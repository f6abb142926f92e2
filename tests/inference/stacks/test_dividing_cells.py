"""Movies of cells that divide: what is found frame by frame is linked, and cancelling keeps finished frames."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam2 import DividingCells, FrameError, TimeLinkingSettings, segment_dividing_cells
from napari_sam2.inference.stacks import dividing_cells

pytest.importorskip("laptrack")


class Finder:
    """Stands for a mask generator."""

    def generate_masks(self, image: np.ndarray, *, progress: object = None) -> list:
        raise AssertionError("the search is replaced")


@pytest.fixture
def movie(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Labels of a cell on two frames and of its daughters on three more, which the search finds."""
    labels = np.zeros((5, 40, 40), np.int32)
    labels[:2, 16:24, 12:28] = 1
    labels[2:, 16:24, 8:16] = 5
    labels[2:, 16:24, 24:32] = 1
    monkeypatch.setattr(
        dividing_cells, "automatic_labels", lambda finder, rgb, **_: labels[int(rgb[0, 0, 0])] if finder else None
    )
    return labels


def numbered(count: int) -> np.ndarray:
    """Frames whose pixels are their index."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 40, 40, 3)).copy()


def test_daughters_have_numbers_of_their_own_and_their_parent(movie: np.ndarray):
    found = segment_dividing_cells(numbered(5), finder=Finder())
    assert isinstance(found, DividingCells)
    assert found.is_complete
    np.testing.assert_array_equal(found.labels > 0, movie > 0)
    (mother,) = set(np.unique(found.labels[:2])) - {0}
    assert set(np.unique(found.labels[2:])) - {0} == set(found.tracks.parents)
    assert set(found.tracks.parents.values()) == {mother}
    alone = segment_dividing_cells(numbered(5), finder=Finder(), linking=TimeLinkingSettings(max_division_distance=0))
    assert not alone.tracks.parents


class Damaged:
    """A movie of which some frames cannot be read."""

    def __init__(self, *damaged: int) -> None:
        self.shape, self.key = (5, 40, 40), "damaged"
        self._damaged = damaged

    def __len__(self) -> int:
        return 5

    def __getitem__(self, frame: int) -> np.ndarray:
        if frame in self._damaged:
            raise FrameError(f"frame {frame} is damaged")
        return numbered(5)[frame]


def test_a_frame_that_cannot_be_read_is_skipped(movie: np.ndarray):
    found = segment_dividing_cells(Damaged(4), finder=Finder())
    assert found.is_complete
    np.testing.assert_array_equal(found.labels.any((1, 2)), [True, True, True, True, False])
    assert len(set(found.tracks.parents)) == 2


def test_a_movie_that_cannot_be_read_is_refused(movie: np.ndarray):
    with pytest.raises(FrameError, match="frame 0 is damaged"):
        segment_dividing_cells(Damaged(*range(5)), finder=Finder())


def test_finished_frames_are_kept_when_cancelled(movie: np.ndarray):
    stages, asked = [], iter([False, False, False, True])
    found = segment_dividing_cells(
        numbered(5),
        finder=Finder(),
        on_progress=lambda stage, done, total: stages.append((stage, done, total)),
        should_stop=lambda: next(asked),
    )
    assert not found.is_complete
    assert found.labels[2].any()
    assert not found.labels[3:].any()
    assert stages == [("movie: detecting objects", done, 5) for done in range(3)]


def test_daughters_that_touch_are_split_at_their_waist(movie: np.ndarray):
    y, x = np.mgrid[:40, :40]
    both = ((y - 20) ** 2 + (x - 13) ** 2 < 49) | ((y - 20) ** 2 + (x - 25) ** 2 < 49)
    movie[2] = both
    found = segment_dividing_cells(numbered(5), finder=Finder())
    np.testing.assert_array_equal(found.labels[2] > 0, both)
    assert set(np.unique(found.labels[2])) == set(np.unique(found.labels[3]))
    assert len(found.tracks.parents) == 2
