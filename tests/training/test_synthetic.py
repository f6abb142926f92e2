"""Procedural clips: every kind gives visible objects with exact, persistent labels."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from napari_sam2._errors import TrainingError
from napari_sam2.training.synthetic import (
    KINDS,
    make_clip,
    make_demo_stack,
    make_dividing_cells_movie,
    make_em_stack,
)
from napari_sam2.training.synthetic.appearance import draw_grey_look, render_thick
from napari_sam2.training.synthetic.motion import BlobLayout, blob_story, scatter
from napari_sam2.training.synthetic.shapes import TILE, Blobs, blank_canvas, draw_blobs, make_tile, tessellate


def make_blobs(**over: object) -> Blobs:
    values: dict[str, object] = {
        "ids": np.array([1], np.int32),
        "centres_yx": np.array([[32.0, 40.0]]),
        "radii": np.array([10.0]),
        "aspects": np.ones(1),
        "angles": np.zeros(1),
        "outlines": np.ones((1, 96), np.float32),
        "offsets": np.zeros((1, 2), np.int64),
    }
    return Blobs(**{**values, **over})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_objects(kind: str) -> None:
    areas = []
    for seed in range(3):
        clip = make_clip(np.random.default_rng(seed), size=128, kind=kind)
        assert clip.kind == kind
        assert clip.frames.dtype == np.uint8
        assert clip.frames.shape[:3] == clip.labels.shape == (1, 128, 128)
        assert clip.labels.dtype == np.int32
        assert clip.labels.min() >= 0
        areas += np.bincount(clip.labels.reshape(-1))[1:].tolist()
    assert sum(area > 60 for area in areas) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_same_state_gives_the_same_clip(kind: str) -> None:
    first, second = (make_clip(np.random.default_rng(5), num_frames=3, size=64, kind=kind) for _ in range(2))
    other = make_clip(np.random.default_rng(6), num_frames=3, size=64, kind=kind)
    assert (first.frames == second.frames).all()
    assert (first.labels == second.labels).all()
    assert (first.frames != other.frames).any()


@pytest.mark.parametrize("kind", KINDS)
def test_ids_persist_through_frames(kind: str) -> None:
    shares = []
    for seed in range(3):
        labels = make_clip(np.random.default_rng(seed), num_frames=4, size=128, kind=kind).labels
        for before, after in itertools.pairwise(labels):
            both = (before > 0) & (after > 0)
            shares.append((before == after)[both].mean() if both.any() else 1.0)
    # objects move by a fraction of their size: most pixels keep their object
    assert np.mean(shares) > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_outlines_show_in_the_image(kind: str) -> None:
    """Neighbouring pixels differ more across outlines than elsewhere."""
    ratios = []
    for seed in range(4):
        clip = make_clip(np.random.default_rng(seed), size=128, kind=kind)
        grey = clip.frames[0].astype(float)
        grey = grey.mean(-1) if grey.ndim == 3 else grey
        step = np.abs(grey[:, 4:] - grey[:, :-4])
        across = clip.labels[0][:, 4:] != clip.labels[0][:, :-4]
        ratios.append(step[across].mean() / max(step[~across].mean(), 0.5))
    assert np.median(ratios) > 1.2


def test_kind_is_drawn_where_none_is_given() -> None:
    rng = np.random.default_rng(0)
    assert len({make_clip(rng, size=32).kind for _ in range(10)}) > 3


@pytest.mark.parametrize(
    ("over", "message"),
    [
        pytest.param({"kind": "galaxies"}, "nuclei", id="unknown-kind"),
        pytest.param({"size": 8}, "32 pixels", id="too-small"),
        pytest.param({"num_frames": 0}, "at least 1 frame", id="no-frame"),
    ],
)
def test_bad_request_names_what_is_allowed(over: dict[str, object], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make_clip(np.random.default_rng(0), **over)  # type: ignore[arg-type]


def test_drawn_disk_has_the_area_of_its_radius() -> None:
    canvas = blank_canvas(80)
    draw_blobs(canvas, make_blobs(), np.zeros((TILE, TILE), np.float32))
    assert (canvas.labels == 1).sum() == pytest.approx(np.pi * 100, rel=0.03)
    y, x = np.nonzero(canvas.labels)
    assert (y.mean(), x.mean()) == (pytest.approx(32, abs=0.1), pytest.approx(40, abs=0.1))


def test_touching_disks_meet_half_way() -> None:
    pair = make_blobs(
        ids=np.array([1, 2], np.int32),
        centres_yx=np.array([[40.0, 30.0], [40.0, 46.0]]),
        radii=np.full(2, 10.0),
        aspects=np.ones(2),
        angles=np.zeros(2),
        outlines=np.ones((2, 96), np.float32),
        offsets=np.zeros((2, 2), np.int64),
    )
    canvas = blank_canvas(80)
    draw_blobs(canvas, pair, np.zeros((TILE, TILE), np.float32))
    assert canvas.labels[40, 37] == 1
    assert canvas.labels[40, 39] == 2


@pytest.mark.parametrize("centre", [(-4.0, 40.0), (83.0, 83.0), (-30.0, -30.0)], ids=["edge", "corner", "beyond"])
def test_objects_may_leave_the_plane(centre: tuple[float, float]) -> None:
    canvas = blank_canvas(80)
    draw_blobs(canvas, make_blobs(centres_yx=np.array([centre])), np.zeros((TILE, TILE), np.float32))
    assert (canvas.labels > 0).sum() < 200


def test_tessellation_gives_each_pixel_to_the_nearest_seed() -> None:
    seeds = np.array([[10.0, 10.0], [30.0, 35.0], [5.0, 40.0]])
    still = np.zeros((48, 48), np.float32)
    labels = tessellate(seeds, np.zeros(3), np.array([1, 2, 3], np.int32), (still, still))
    y, x = np.mgrid[:48, :48]
    nearest = ((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2).argmin(-1) + 1
    assert (labels == nearest).mean() > 0.999


def test_texture_tile_has_no_seam() -> None:
    tile = make_tile(np.random.default_rng(0))
    inner = np.abs(np.diff(tile, axis=1)).max()
    assert np.abs(tile[:, 0] - tile[:, -1]).max() <= inner
    assert np.abs(tile[0] - tile[-1]).max() <= inner


def test_scattered_points_keep_their_distance() -> None:
    points = scatter(np.random.default_rng(0), 200, 40, 20.0)
    gaps = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    assert gaps[~np.eye(len(points), dtype=bool)].min() >= 20


def test_sections_grow_and_shrink_through_a_stack() -> None:
    story = blob_story(np.random.default_rng(0), 200, 20, BlobLayout(radius=14), "stack")
    radii = np.stack([blobs.radii for blobs in story])
    whole = (radii[0] == 0) & (radii[-1] == 0) & (radii.max(0) > 0)
    assert whole.sum() >= 3
    for column in radii[:, whole].T:
        peak = column.argmax()
        assert (np.diff(column[: peak + 1]) >= 0).all()
        assert (np.diff(column[peak:]) <= 0).all()


@pytest.mark.parametrize("dynamics", ["stack", "coarse stack"])
def test_objects_are_stacked_in_z_at_the_share_of_places_that_is_given(dynamics):
    layout = BlobLayout(radius=7, radius_spread=0.1, density=0.3, spacing=2.5)

    def objects_above(share: float, seed: int) -> list[int]:
        """For each object the others that begin where it ends: within two planes, over its middle."""
        story = blob_story(np.random.default_rng(seed), 128, 24, replace(layout, stacked=share), dynamics)
        radii = np.stack([blobs.radii for blobs in story])
        centres = np.stack([blobs.centres_yx for blobs in story])
        shown = radii >= 1
        counts = []
        for n in np.flatnonzero(shown.any(0)):
            end = int(np.flatnonzero(shown[:, n])[-1])
            if end < 20:
                begins = [k for k in np.flatnonzero(shown[end + 1 : end + 3].any(0)) if not shown[end - 1, k]]
                counts.append(sum(np.hypot(*(centres[end, k] - centres[end, n])) < 7 for k in begins))
        return counts

    alone, stacked = (np.concatenate([objects_above(share, seed) for seed in range(5)]) for share in (0.0, 1.0))
    assert np.mean(stacked > 0) > 0.5
    assert np.mean(alone > 0) < 0.25


def test_division_gives_two_daughters_with_new_ids() -> None:
    story = blob_story(np.random.default_rng(3), 200, 10, BlobLayout(radius=10), "movie", divide=1.0)
    mothers = set(story[0].ids[story[0].radii >= 1].tolist())
    last = story[-1]
    alive = set(last.ids[last.radii >= 1].tolist())
    daughters = alive - mothers
    assert len(daughters) >= 4
    assert len(daughters) % 2 == 0
    assert len(set(last.ids.tolist())) == len(last.ids)


@pytest.mark.parametrize(
    ("make", "dtype", "shape"),
    [
        pytest.param(make_demo_stack, np.uint16, (24, 192, 192), id="nuclei"),
        pytest.param(make_dividing_cells_movie, np.uint8, (20, 192, 192), id="dividing-cells"),
        pytest.param(make_em_stack, np.uint8, (24, 192, 192), id="neurites"),
    ],
)
def test_demonstrations_hold_objects_that_last(make: object, dtype: type, shape: tuple[int, ...]) -> None:
    stack, labels = make(1)  # type: ignore[operator]
    assert stack.dtype == dtype
    assert stack.shape == labels.shape == shape
    areas = np.stack([np.bincount(plane.reshape(-1), minlength=labels.max() + 1) for plane in labels])[:, 1:]
    assert ((areas >= 80).sum(0) >= 5).sum() >= 5
    again, _ = make(1)  # type: ignore[operator]
    assert (again == stack).all()
    assert stack.max() > 0.6 * (4095 if dtype is np.uint16 else 255)


def test_planes_of_a_thick_specimen_show_what_lies_above_and_below_them_dimmer_and_softer():
    canvases = [blank_canvas(64) for _ in range(5)]
    draw_blobs(canvases[1], make_blobs(), np.zeros((TILE, TILE), np.float32))
    rng = np.random.default_rng(0)
    look = replace(draw_grey_look(rng, "fluorescence", 64), grain=0.0, glow=0.0, blur=0.5, signal=0.4, background=0.1)
    look = replace(look, slope=np.zeros_like(look.slope), clutter=np.zeros_like(look.clutter), fade=0.0)
    own, near, far = render_thick(rng, canvases, look, reach=1, spread=0.5, softness=2.0)
    at = (32, 40)
    assert own[at] > near[at] > far[at] == pytest.approx(25.5, abs=0.1)
    assert near[at] - far[at] == pytest.approx(0.5 * (own[at] - far[at]), rel=0.3)
    beside = (32, 52)  # just outside the outline
    assert near[beside] - far[beside] > 0.1 * (near[at] - far[at])
    assert not canvases[2].labels.any()


def test_thick_nuclei_are_labelled_only_on_their_own_planes():
    clip = make_clip(np.random.default_rng(3), num_frames=6, size=128, kind="thick_nuclei")
    spans = [np.flatnonzero((clip.labels == i).any((1, 2))) for i in range(1, clip.labels.max() + 1)]
    spans = [span for span in spans if len(span)]
    assert any(len(span) < 6 for span in spans)
    assert all(len(span) == span[-1] - span[0] + 1 for span in spans)
