"""Training samples: square clips drawn from labelled packs, folders and procedural microscopy, with their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_sam2._errors import TrainingError
from napari_sam2.training import synthetic
from napari_sam2.training.augment import AugmentConfig, augment_frames
from napari_sam2.training.crops import REFERENCE_SIZE, CropConfig, Cut, StackSource
from napari_sam2.training.packs import LabelledStack, load_pack, only_named, reslice, stretch_curve
from napari_sam2.training.regions import picture_regions
from napari_sam2.training.worlds.source import WorldSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Clip",
    "ClipSampler",
    "ClipSource",
    "CropConfig",
    "Cut",
    "StackSource",
    "SyntheticSource",
    "load_sources",
    "promptable_ids",
]

MAX_ATTEMPTS = 40
DEFAULT_WEIGHTS: Mapping[str, float] = {
    "dsb2018": 0.40,
    "usiigaci_phase": 0.10,
    "t98g_phase": 0.06,
    "c2c12_phase_laptrack": 0.02,
    "fib25_medulla": 0.20,
    "synthetic": 0.12,
    "worlds": 0.08,
    "colonies": 0.02,
    "regions": 0.02,
}
# stacks with light from above and below are what the model is used for most, and no pack has any
_OFTEN = ("thick_nuclei",)
_OFTEN_SHARE = 0.35  # of procedural clips of no kind in particular
_EROSION = 3.0  # pixels, of electron microscopy
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
    levels, hidden : tuple of numpy.ndarray
        See ``Cut``.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[np.int32]
    object_ids: tuple[int, ...]
    source: str
    levels: tuple[NDArray[np.int32], ...] = ()
    hidden: tuple[NDArray[np.float32], ...] = ()


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
            raise TrainingError(f"crops of {size} pixels were requested; give at least 32")
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
            raise TrainingError(f"{num_frames} frames were requested; give at least 1")
        rng = self._rng if rng is None else rng
        for _ in range(MAX_ATTEMPTS):
            source = self.sources[int(rng.choice(len(self.sources), p=self._chances))]
            cut = source.sample(rng, num_frames, self.size, self._crop)
            ids = promptable_ids(cut.labels, cut.trusted_ids, self._crop)
            if ids:
                frames = augment_frames(cut.frames, rng, self._augment, black=cut.black)
                return Clip(frames, cut.labels, ids, source.name, cut.levels, cut.hidden)
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
    """All data packs of a folder, the procedural generators, and regions of pictures.

    Parameters
    ----------
    folder : pathlib.Path
        Holds ``.npz`` packs.
    hold_out : sequence of str
        Names of packs to leave out, without suffix.
    drop_adjacent : bool, default True
        Leave out images that border on one kept for measuring.
    with_synthetic : bool, default True
        Whether the procedural generators and the regions of unlabelled pictures come last in the list.

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
        is_isotropic = path.stem in ISOTROPIC
        if is_isotropic:
            stacks = [view for stack in stacks for view in reslice(stack)]
        erosion = _EROSION if is_isotropic else 0.0
        sources.append(StackSource(path.stem, stacks, max_step=8 if is_isotropic else 3, erosion=erosion))
    if with_synthetic:
        colonies = WorldSource("colonies", ("colony", "packed_rods", "rod_clusters"), plain_share=1.0)
        sources += [SyntheticSource(), WorldSource(), colonies, picture_regions(stacks_of(sources))]
    return sources


def stacks_of(sources: Sequence[ClipSource]) -> list[LabelledStack]:
    """All images of the packs among some sources."""
    return [stack for source in sources if isinstance(source, StackSource) for stack in source.stacks]


@dataclass(frozen=True, eq=False)
class SyntheticSource:
    """Clips from the procedural generator, of all its kinds or of some.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of ``synthetic.KINDS``; empty for all.
    name : str
        Name for weights.
    stretched : float
        Share of greyscale clips stretched by percentiles, as prediction does with a whole stack.
    """

    kinds: tuple[str, ...] = ()
    name: str = "synthetic"
    stretched: float = 0.8

    def sample(self, rng: np.random.Generator, num_frames: int, size: int, crop: CropConfig) -> Cut:
        """One procedural clip; see ``ClipSource``."""
        kinds = self.kinds or (_OFTEN if rng.random() < _OFTEN_SHARE else synthetic.KINDS)
        kind = kinds[int(rng.integers(len(kinds)))]
        # drawn where objects have the size they have at the reference, in half of the clips a larger one, then cut
        larger = 1.5 if num_frames > 1 and rng.random() < 0.5 else 1.0
        full = max(size, round(size * REFERENCE_SIZE / crop.reference_size * larger))
        clip = synthetic.make_clip(rng, num_frames=num_frames, size=full, kind=kind)
        y, x = rng.integers(full - size + 1, size=2).tolist()
        spot = (slice(None), slice(y, y + size), slice(x, x + size))
        frames, labels = clip.frames[spot], clip.labels[spot]
        if frames.ndim == 3 and rng.random() < self.stretched:
            return Cut(np.take(stretch_curve(frames), frames), np.ascontiguousarray(labels))
        return Cut(frames.astype(np.float32), np.ascontiguousarray(labels))
