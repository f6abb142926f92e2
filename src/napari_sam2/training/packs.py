"""Labelled images, movies and volumes in memory: data packs, folders of files, and an index of their objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.measure import label as label_pieces

from napari_sam2._errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FrameObjects",
    "LabelledStack",
    "group_weights",
    "load_pack",
    "only_named",
    "reslice",
    "stretch_curve",
    "stretch_to_uint8",
]

PERCENTILES = (0.1, 99.9)
MIN_NATIVE_AREA = 20
# packs of time-lapse images whose ids start anew on every frame
UNLINKED = ("c2c12_phase_laptrack",)
IMAGE_SUFFIXES = (".tif", ".tiff", ".png")


@dataclass(frozen=True, eq=False)
class FrameObjects:
    """The promptable objects of one frame, N of them.

    Attributes
    ----------
    ids : numpy.ndarray
        (N,) int64 labels.
    boxes : numpy.ndarray
        (N, 4) int64 y0, x0, y1, x1, ends exclusive; around the largest piece of the object.
    compact : numpy.ndarray
        (N,) bool: the largest connected piece holds more than 80 % of the area on this frame.
    areas : numpy.ndarray
        (N,) int64 pixels on this frame, all pieces together.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.int64]
    compact: NDArray[np.bool_]
    areas: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledStack:
    """One labelled image, movie or volume.

    Attributes
    ----------
    frames : numpy.ndarray
        (T, H, W) or (T, H, W, 3) uint8; greyscale is already stretched by percentiles.
    labels : numpy.ndarray
        (T, H, W) unsigned or signed integers, 0 background.
    name : str
        Which pack and item.
    group : str
        Kind of image; kinds are drawn evenly rather than by their number of images.
    is_sequence : bool
        Whether ids persist from frame to frame.
    trusted_ids : frozenset of int or None
        The objects worth prompting; None for all.
    """

    frames: NDArray[np.uint8]
    labels: NDArray[Any]
    name: str
    group: str = ""
    is_sequence: bool = False
    trusted_ids: frozenset[int] | None = None
    _index: dict[int, FrameObjects] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.frames)

    def objects(self, frame: int) -> FrameObjects:
        """Promptable objects of one frame; found once and kept."""
        found = self._index.get(frame)
        if found is None:
            found = _index_frame(np.asarray(self.labels[frame]), self.trusted_ids)
            self._index[frame] = found
        return found


def _index_frame(labels: NDArray[Any], trusted: frozenset[int] | None) -> FrameObjects:
    pieces: NDArray[np.int64] = label_pieces(labels, background=0, connectivity=2)
    piece_areas = np.bincount(pieces.reshape(-1))
    areas = np.bincount(labels.reshape(-1))
    boxes = ndimage.find_objects(pieces)
    largest: dict[int, int] = {}
    first_pixel = np.zeros(len(piece_areas), np.int64)
    flat = pieces.reshape(-1)
    first_pixel[flat] = np.arange(flat.size)
    owners = labels.reshape(-1)[first_pixel]
    for piece in range(1, len(piece_areas)):
        owner = int(owners[piece])
        if owner not in largest or piece_areas[piece] > piece_areas[largest[owner]]:
            largest[owner] = piece
    rows = [
        (owner, piece)
        for owner, piece in largest.items()
        if areas[owner] >= MIN_NATIVE_AREA and (trusted is None or owner in trusted)
    ]
    return FrameObjects(
        ids=np.array([owner for owner, _ in rows], np.int64),
        boxes=np.array(
            [
                [boxes[p - 1][0].start, boxes[p - 1][1].start, boxes[p - 1][0].stop, boxes[p - 1][1].stop]
                for _, p in rows
            ],
            np.int64,
        ).reshape(-1, 4),
        compact=np.array([piece_areas[p] > 0.8 * areas[owner] for owner, p in rows], bool),
        areas=np.array([areas[owner] for owner, _ in rows], np.int64),
    )


def stretch_to_uint8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Stretch greyscale between its 0.1 and 99.9 percentiles, over the whole array, to 0..255."""
    low, high = np.percentile(image[np.isfinite(image)] if image.dtype.kind == "f" else image, PERCENTILES)
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    scaled = (np.nan_to_num(image, posinf=high, neginf=low).astype(np.float32) - low) * (255.0 / (high - low))
    levels: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return levels


def stretch_curve(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(256,) float32 that maps the 0.1 and 99.9 percentiles of 8-bit frames to 0 and 255."""
    cumulative = np.cumsum(np.bincount(frames.reshape(-1), minlength=256)) / frames.size
    low, high = (int(np.searchsorted(cumulative, q / 100)) for q in PERCENTILES)
    curve = (np.arange(256, dtype=np.float32) - low) * np.float32(255 / max(high - low, 1))
    levels: NDArray[np.float32] = np.clip(curve, 0, 255)
    return levels


def load_pack(path: Path, *, drop_adjacent: bool = True) -> list[LabelledStack]:
    """Read a data pack: an ``.npz`` with ``image``/``labels``, or with ``image_0000``/``labels_0000`` and so on.

    Parameters
    ----------
    path : pathlib.Path
        The pack.
    drop_adjacent : bool, default True
        Leave out images whose field borders on one kept for measuring.

    Returns
    -------
    list of LabelledStack
        One for each image, movie or volume; still images have one frame.

    Raises
    ------
    TrainingError
        If the file is missing or is no such pack.
    """
    if not path.is_file():
        raise TrainingError(f"the data pack {path} does not exist; give the path of an .npz with images and labels")
    stacks = []
    with np.load(path, allow_pickle=False) as pack:
        names = sorted(k for k in pack.files if k == "image" or (k.startswith("image_") and k[6:].isdigit()))
        if not names or any(n.replace("image", "labels") not in pack.files for n in names):
            raise TrainingError(
                f"{path} holds {', '.join(pack.files[:6])}; a data pack needs image and labels, or image_0000, "
                "labels_0000 and so on"
            )
        trusted = frozenset(int(i) for i in pack["trusted_ids"]) if "trusted_ids" in pack.files else None
        adjacent = pack["adjacent_to_heldout"] if "adjacent_to_heldout" in pack.files else None
        kinds = pack["kind"] if "kind" in pack.files else None
        axes = str(pack["axes"]) if "axes" in pack.files else "YX"
        for row, name in enumerate(names):
            if drop_adjacent and adjacent is not None and str(adjacent[row]):
                continue
            group = str(kinds[row]) if kinds is not None else path.stem
            item_axes = "N" + axes[1:] if path.stem in UNLINKED else axes
            labels = pack[name.replace("image", "labels")]
            stacks += _as_stacks(pack[name], labels, f"{path.stem}/{row}", group, item_axes, trusted)
    if not stacks:
        raise TrainingError(f"no image of {path} is left; allow adjacent images or give another pack")
    return stacks


def _as_stacks(
    image: NDArray[Any], labels: NDArray[Any], name: str, group: str, axes: str, trusted: frozenset[int] | None
) -> list[LabelledStack]:
    is_sequence = axes[0] in "TZ" and labels.ndim == 3
    if labels.ndim == 2:
        image, labels = image[None], labels[None]
    if image.shape[:3] != labels.shape:
        raise TrainingError(f"{name}: the image has shape {image.shape} and the labels {labels.shape}; they must agree")
    frames = np.ascontiguousarray(image) if image.ndim == 4 else stretch_to_uint8(image)
    if frames.dtype != np.uint8:
        frames = stretch_to_uint8(frames)
    if is_sequence:
        return [LabelledStack(frames, labels, name, group, True, trusted)]
    return [
        LabelledStack(frames[t : t + 1], labels[t : t + 1], f"{name}/{t}", group, False, trusted)
        for t in range(len(frames))
    ]


def reslice(stack: LabelledStack) -> list[LabelledStack]:
    """The same isotropic volume seen along each of its three axes, the given one first."""
    out = [stack]
    for axis, letter in ((1, "y"), (2, "x")):
        out.append(
            LabelledStack(
                np.ascontiguousarray(np.moveaxis(stack.frames, axis, 0)),
                np.ascontiguousarray(np.moveaxis(stack.labels, axis, 0)),
                f"{stack.name}/{letter}",
                stack.group,
                stack.is_sequence,
                stack.trusted_ids,
            )
        )
    return out


def group_weights(stacks: Sequence[LabelledStack]) -> NDArray[np.float64]:
    """Chance of each stack: groups weigh as the square root of their number of images, images evenly inside."""
    counts: dict[str, int] = {}
    for stack in stacks:
        counts[stack.group] = counts.get(stack.group, 0) + 1
    weights = np.array([counts[s.group] ** -0.5 for s in stacks])
    return np.asarray(weights / weights.sum())


def only_named(paths: Iterable[Path], hold_out: Sequence[str]) -> list[Path]:
    """The packs that are not held out; TrainingError where a held-out name fits none of them."""
    found = sorted(paths)
    unknown = set(hold_out) - {p.stem for p in found}
    if unknown:
        raise TrainingError(
            f"cannot hold out {', '.join(sorted(unknown))}: the packs are {', '.join(p.stem for p in found)}"
        )
    return [p for p in found if p.stem not in hold_out]
