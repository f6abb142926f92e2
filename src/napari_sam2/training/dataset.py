"""Training samples: square clips cut around an object from labelled packs, folders and procedural microscopy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_sam2._errors import TrainingError
from napari_sam2.training import synthetic
from napari_sam2.training.augment import AugmentConfig, augment_frames
from napari_sam2.training.packs import LabelledStack, group_weights, load_pack, only_named, reslice
from napari_sam2.training.warp import View, mean_pool, outside, sample_labels, sample_linear, spline_field, view_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Clip", "ClipSampler", "ClipSource", "CropConfig", "StackSource", "SyntheticSource", "load_sources"]

REFERENCE_SIZE = 256
MAX_ATTEMPTS = 40
DEFAULT_WEIGHTS: Mapping[str, float] = {
    "dsb2018": 0.40,
    "usiigaci_phase": 0.10,
    "t98g_phase": 0.06,
    "c2c12_phase_laptrack": 0.02,
    "fib25_medulla": 0.20,
    "synthetic": 0.22,
}
# packs whose voxels are cubes, so that planes along any axis are alike
ISOTROPIC = ("fib25_medulla",)


@dataclass(frozen=True, eq=False)
class Clip:
    """A short stack with the objects worth prompting; a still image is a clip of one frame.

    Attributes
    ----------
    frames : numpy.ndarray
        (T, S, S, 3) uint8 RGB.
    labels : numpy.ndarray
        (T, S, S) int32; 0 is background, ids persist through the frames.
    object_ids : tuple of int
        Labels with enough visible area away from the crop's edge on at least one frame.
    source : str
        Which pack or generator made it.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[np.int32]
    object_ids: tuple[int, ...]
    source: str


@dataclass(frozen=True)
class CropConfig:
    """How crops are cut; lengths are crop pixels at a crop of ``reference_size`` and grow with the crop.

    Attributes
    ----------
    extent_low, extent_high : float
        Range of the chosen object's longer side in the crop; drawn log-uniformly.
    extent_core : tuple of float
        The range that holds ``core_share`` of the draws.
    core_share : float
        See ``extent_core``.
    zoom_low, zoom_high : float
        Allowed crop pixels per image pixel.
    anywhere : float
        Share of crops placed without regard to an object.
    over_border : float
        Share of crops that may stick out of the image by up to a quarter, or hold more than the whole image.
    free_rotation : float
        Share of crops turned by any angle and not only by quarters.
    min_area : float
        Smallest promptable area in square pixels, counted inside ``margin``.
    margin : float
        Width of the crop's edge that does not count.
    reference_size : int
        Side of the crop that lengths are given for; set it to the sampler's size for lengths in its own pixels.
    """

    extent_low: float = 14.0
    extent_high: float = 150.0
    extent_core: tuple[float, float] = (24.0, 80.0)
    core_share: float = 0.6
    zoom_low: float = 0.5
    zoom_high: float = 6.0
    anywhere: float = 0.15
    over_border: float = 0.15
    free_rotation: float = 0.3
    min_area: float = 48.0
    margin: float = 4.0
    reference_size: int = REFERENCE_SIZE


@dataclass(frozen=True, eq=False)
class Cut:
    """A crop before its appearance changes.

    Attributes
    ----------
    frames : numpy.ndarray
        (T, S, S) or (T, S, S, 3) float32, 0 to 255.
    labels : numpy.ndarray
        (T, S, S) int32.
    trusted_ids : frozenset of int or None
        The labels that may be prompted; None for all.
    black : numpy.ndarray or None
        (T, S, S) bool, pixels that lie outside the image; None where there are none.
    """

    frames: NDArray[np.float32]
    labels: NDArray[np.int32]
    trusted_ids: frozenset[int] | None = None
    black: NDArray[np.bool_] | None = None


class ClipSource(Protocol):
    """Where clips come from."""

    @property
    def name(self) -> str:
        """Name for weights."""

    def sample(self, rng: np.random.Generator, num_frames: int, size: int, crop: CropConfig) -> Cut:
        """One crop of ``num_frames`` frames and ``size`` pixels."""


class ClipSampler:
    """Draws stills and clips from weighted sources.

    Parameters
    ----------
    sources : sequence of ClipSource
        Where clips come from, as from ``load_sources``.
    size : int, default 256
        Side of the crops in pixels.
    seed : int, default 0
        Seed of the generator used where a call brings none.
    weights : mapping of str to float, optional
        Relative frequency by source name; names not listed weigh 0.1. Defaults suit the project's packs.
    crop, augment : optional
        Settings of geometry and appearance.

    Raises
    ------
    TrainingError
        If there is no source with a positive weight, or the size is below 32.
    """

    def __init__(
        self,
        sources: Sequence[ClipSource],
        *,
        size: int = REFERENCE_SIZE,
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
        crop: CropConfig | None = None,
        augment: AugmentConfig | None = None,
    ) -> None:
        if size < 32:
            raise TrainingError(f"crops of {size} pixels were asked for; give at least 32")
        self.sources = tuple(sources)
        self.size = size
        self._rng = np.random.default_rng(seed)
        self._crop = crop or CropConfig()
        self._augment = augment or AugmentConfig()
        known = DEFAULT_WEIGHTS if weights is None else weights
        raw = np.array([known.get(s.name, 0.1) for s in self.sources], float)
        if not len(raw) or raw.sum() <= 0 or (raw < 0).any():
            raise TrainingError(
                f"the sources {[s.name for s in self.sources]} have the weights {raw.tolist()}; at least one must be "
                "positive and none negative"
            )
        self._chances = raw / raw.sum()

    def sample_still(self, rng: np.random.Generator | None = None) -> Clip:
        """One image as a clip of one frame, with at least one promptable object."""
        return self.sample_clip(rng, 1)

    def sample_clip(self, rng: np.random.Generator | None = None, num_frames: int = 8) -> Clip:
        """Draw a clip.

        Parameters
        ----------
        rng : numpy.random.Generator, optional
            Source of all randomness: the same state gives the same clip. The sampler's own if not given.
        num_frames : int, default 8
            T, at least 1.

        Returns
        -------
        Clip
            With at least one promptable object.

        Raises
        ------
        TrainingError
            If the number of frames is below 1, or no promptable object turns up in many attempts.
        """
        if num_frames < 1:
            raise TrainingError(f"{num_frames} frames were asked for; give at least 1")
        rng = self._rng if rng is None else rng
        for _ in range(MAX_ATTEMPTS):
            source = self.sources[int(rng.choice(len(self.sources), p=self._chances))]
            cut = source.sample(rng, num_frames, self.size, self._crop)
            ids = promptable_ids(cut.labels, cut.trusted_ids, self._crop)
            if ids:
                frames = augment_frames(cut.frames, rng, self._augment, black=cut.black)
                return Clip(frames, cut.labels, ids, source.name)
        raise TrainingError(
            f"no promptable object in {MAX_ATTEMPTS} crops of {self.size} pixels from "
            f"{[s.name for s in self.sources]}; check that the labels hold objects above {self._crop.min_area:g} pixels"
        )


def promptable_ids(labels: NDArray[np.int32], trusted: frozenset[int] | None, crop: CropConfig) -> tuple[int, ...]:
    """Ids with enough area inside the margin on at least one frame of (T, S, S) labels."""
    size = labels.shape[1]
    scale = size / crop.reference_size
    margin = max(1, round(crop.margin * scale))
    inner = labels[:, margin:-margin, margin:-margin].reshape(len(labels), -1)
    num_ids = int(labels.max()) + 1
    areas = np.zeros(num_ids, np.int64)
    for frame in inner:
        np.maximum(areas, np.bincount(frame, minlength=num_ids), out=areas)
    found = np.flatnonzero(areas[1:] >= crop.min_area * scale**2) + 1
    return tuple(int(i) for i in found if trusted is None or int(i) in trusted)


def load_sources(
    folder: Path,
    *,
    hold_out: Sequence[str] = (),
    drop_adjacent: bool = True,
    with_synthetic: bool = True,
) -> list[ClipSource]:
    """All data packs of a folder, and the procedural generator.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``.npz`` packs.
    hold_out : sequence of str
        Names of packs to leave out, without suffix.
    drop_adjacent : bool, default True
        Leave out images that border on one kept for measuring.
    with_synthetic : bool, default True
        Whether the procedural generator comes last in the list.

    Returns
    -------
    list of ClipSource

    Raises
    ------
    TrainingError
        If the folder has no pack, or a pack to hold out does not exist.
    """
    if not folder.is_dir():
        raise TrainingError(f"the data folder {folder} does not exist; give the folder that holds the .npz packs")
    paths = only_named(folder.glob("*.npz"), hold_out)
    if not paths:
        raise TrainingError(f"no .npz pack to train on in {folder}")
    sources: list[ClipSource] = []
    for path in paths:
        stacks = load_pack(path, drop_adjacent=drop_adjacent)
        if path.stem in ISOTROPIC:
            stacks = [view for stack in stacks for view in reslice(stack)]
        sources.append(StackSource(path.stem, stacks))
    if with_synthetic:
        sources.append(SyntheticSource())
    return sources


@dataclass(frozen=True, eq=False)
class SyntheticSource:
    """Clips from the procedural generator, of all its kinds or of some.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of ``synthetic.KINDS``; empty for all.
    name : str
        Name for weights.
    """

    kinds: tuple[str, ...] = ()
    name: str = "synthetic"

    def sample(self, rng: np.random.Generator, num_frames: int, size: int, crop: CropConfig) -> Cut:
        """One procedural clip; see ``ClipSource``."""
        kinds = self.kinds or synthetic.KINDS
        kind = kinds[int(rng.integers(len(kinds)))]
        # drawn where objects have the size they have at the reference, then cut
        full = max(size, round(size * REFERENCE_SIZE / crop.reference_size))
        clip = synthetic.make_clip(rng, num_frames=num_frames, size=full, kind=kind)
        y, x = rng.integers(full - size + 1, size=2).tolist()
        frames, labels = (a[:, y : y + size, x : x + size] for a in (clip.frames, clip.labels))
        return Cut(frames.astype(np.float32), np.ascontiguousarray(labels))


@dataclass(frozen=True, eq=False)
class StackSource:
    """Crops of labelled images, movies and volumes.

    Attributes
    ----------
    name : str
        Name for weights.
    stacks : sequence of LabelledStack
        At least one.
    max_step : int
        Largest distance between neighbouring frames of a clip, in frames of the stack.
    """

    name: str
    stacks: Sequence[LabelledStack]
    max_step: int = 3
    _chances: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.stacks:
            raise TrainingError(f"the source {self.name} has no images; give at least one")
        object.__setattr__(self, "_chances", group_weights(self.stacks))

    def sample(self, rng: np.random.Generator, num_frames: int, size: int, crop: CropConfig) -> Cut:
        """One crop of a random stack around a random object; see ``ClipSource``."""
        stack = self.stacks[int(rng.choice(len(self.stacks), p=self._chances))]
        real = stack.is_sequence and len(stack) >= num_frames > 1 and rng.random() < 0.85
        frames = _frame_indices(rng, len(stack), num_frames, self.max_step) if real else [int(rng.integers(len(stack)))]
        anchor = frames[0] if rng.random() < 0.8 else frames[int(rng.integers(len(frames)))]
        view = _draw_view(rng, stack, anchor, size, crop)
        if real:
            views = _drifting(rng, view, num_frames, still_camera=True)
        else:
            views = _drifting(rng, view, num_frames, still_camera=False)
            frames = frames * num_frames
        motion = _Wobble.draw(rng, num_frames, size, strength=0.3 if real else 1.0)
        cuts = [_cut(stack, f, views[t], size, motion.at(t, size, views[t].zoom)) for t, f in enumerate(frames)]
        images, labels, blacks = (np.stack(parts) for parts in zip(*cuts, strict=True))
        return Cut(images, labels, stack.trusted_ids, blacks if blacks.any() else None)


def _frame_indices(rng: np.random.Generator, length: int, num_frames: int, max_step: int) -> list[int]:
    """Evenly spaced frames, in or against the order of the stack."""
    step = int(rng.integers(1, min(max_step, (length - 1) // (num_frames - 1)) + 1))
    start = int(rng.integers(length - step * (num_frames - 1)))
    frames = [start + step * k for k in range(num_frames)]
    return frames[::-1] if rng.random() < 0.5 else frames


def _draw_view(rng: np.random.Generator, stack: LabelledStack, frame: int, size: int, crop: CropConfig) -> View:
    h, w = stack.labels.shape[1:]
    scale = size / crop.reference_size
    objects = stack.objects(frame)
    if not len(objects.ids):
        return View((rng.uniform(0, h), rng.uniform(0, w)), scale * rng.uniform(1, 2))
    chances = np.where(objects.compact, 1.0, 0.15)
    row = int(rng.choice(len(objects.ids), p=chances / chances.sum()))
    y0, x0, y1, x1 = objects.boxes[row].tolist()
    low, high = crop.extent_core if rng.random() < crop.core_share else (crop.extent_low, crop.extent_high)
    extent = scale * math.exp(rng.uniform(math.log(low), math.log(high)))
    zoom = min(max(extent / max(y1 - y0, x1 - x0), crop.zoom_low * scale), crop.zoom_high * scale)
    is_loose = rng.random() < crop.over_border
    if not is_loose:
        zoom = max(zoom, size / max(h, w))
    angle = math.pi / 2 * int(rng.integers(4))
    if rng.random() < crop.free_rotation:
        angle += rng.uniform(-math.pi / 4, math.pi / 4)
    stretch = math.exp(float(np.clip(rng.normal(0, 0.1), -0.25, 0.25)))
    view = View((0.0, 0.0), zoom, angle, stretch, bool(rng.random() < 0.5))
    if rng.random() < crop.anywhere:
        centre = (rng.uniform(0, h), rng.uniform(0, w))
    else:
        half = (size - 2 * crop.margin * scale) / 2 / zoom
        centre = (
            (y0 + y1) / 2 + _offset(rng, half - (y1 - y0) / 2, half),
            (x0 + x1) / 2 + _offset(rng, half - (x1 - x0) / 2, half),
        )
    reach = view.reach(size)
    slack = 0.5 if is_loose else 0.0
    centre = (
        _keep_inside(centre[0], reach[0] * (1 - slack), h),
        _keep_inside(centre[1], reach[1] * (1 - slack), w),
    )
    return replace(view, centre_yx=centre)


def _offset(rng: np.random.Generator, room: float, half: float) -> float:
    """Shift of the crop's middle from the object's: anywhere the object stays inside, more often near the middle."""
    room = max(room, 0.1 * half)
    return float(rng.uniform(-room, room) if rng.random() < 0.5 else np.clip(rng.normal(0, 0.35 * room), -room, room))


def _keep_inside(centre: float, reach: float, length: int) -> float:
    if 2 * reach >= length:
        # the whole image fits: leave it whole, at a place that follows the object
        return min(max(centre, length - reach), reach)
    return min(max(centre, reach - 0.5), length - 0.5 - reach)


def _drifting(rng: np.random.Generator, view: View, num_frames: int, *, still_camera: bool) -> list[View]:
    """The view of each frame: for real sequences a little stage jitter, for stills a smooth motion."""
    if num_frames == 1:
        return [view]
    if still_camera:
        jitter = rng.normal(0, rng.uniform(0, 1.5), (num_frames, 2)) / view.zoom * (rng.random() < 0.4)
        jitter[0] = 0
        turn, grow = np.zeros(num_frames), np.ones(num_frames)
    else:
        t = np.arange(num_frames)
        speed = rng.normal(0, 4.0, 2) / view.zoom
        walk = np.cumsum(rng.normal(0, 1.5, (num_frames, 2)), axis=0) / view.zoom
        jitter = speed * t[:, None] + walk - walk[0]
        turn = rng.normal(0, 0.03) * t
        grow = np.exp(rng.normal(0, 0.02) * t)
    return [
        replace(
            view,
            centre_yx=(view.centre_yx[0] + jitter[k, 0], view.centre_yx[1] + jitter[k, 1]),
            angle=view.angle + turn[k],
            zoom=view.zoom * grow[k],
        )
        for k in range(num_frames)
    ]


@dataclass(frozen=True, eq=False)
class _Wobble:
    """A smooth deformation that walks through time, so that objects move apart from each other.

    ``knots`` is (T, 2, n, n) float32 in crop pixels, or None for no deformation; ``cells`` as for ``smooth_field``.
    """

    cells: int
    knots: NDArray[np.float32] | None

    @classmethod
    def draw(cls, rng: np.random.Generator, num_frames: int, size: int, *, strength: float) -> _Wobble:
        cells = int(rng.integers(3, 8))
        if rng.random() > (0.9 * strength if num_frames > 1 else 0.2):
            return cls(cells, None)
        first = rng.normal(0, 1, (1, 2, cells + 3, cells + 3)) * rng.uniform(0, 0.25)
        drift = rng.normal(0, 1, (1, 2, cells + 3, cells + 3)) * np.arange(num_frames)[:, None, None, None]
        walk = np.cumsum(rng.normal(0, 1, (num_frames, 2, cells + 3, cells + 3)), axis=0)
        # a share of the bump width: the map stays one-to-one
        bump = size / cells
        moves = np.clip(first + strength * (0.02 * drift + 0.03 * walk), -0.16, 0.16) * bump
        return cls(cells, moves.astype(np.float32))

    def at(self, frame: int, size: int, zoom: float) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Displacement (y, x) in source pixels, or None."""
        if self.knots is None:
            return None
        dy = spline_field(self.knots[frame, 0], (size, size))
        dx = spline_field(self.knots[frame, 1], (size, size))
        return dy / np.float32(zoom), dx / np.float32(zoom)


def _cut(
    stack: LabelledStack,
    frame: int,
    view: View,
    size: int,
    move: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]]:
    """Image, labels and what lies outside the image, under a view of one frame."""
    ys, xs = view_grid(view, size)
    if move is not None:
        ys, xs = ys + move[0], xs + move[1]
    labels = sample_labels(stack.labels[frame], ys, xs, smooth=view.zoom > 1.2)
    image: NDArray[np.uint8] | NDArray[np.float32] = stack.frames[frame]
    h, w = image.shape[:2]
    black = outside(ys, xs, (h, w))
    if view.zoom < 0.8:
        top, left = min(max(0, int(ys.min()) - 4), h - 2), min(max(0, int(xs.min()) - 4), w - 2)
        bottom, right = max(top + 2, int(ys.max()) + 6), max(left + 2, int(xs.max()) + 6)
        image = mean_pool(image[top:bottom, left:right], 1 / view.zoom)
        ys, xs = ys - np.float32(top), xs - np.float32(left)
    return sample_linear(image, ys, xs), labels, black
