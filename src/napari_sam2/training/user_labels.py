"""A user's own images and labels: read from folders, files or arrays, checked, and split into tuning and held-out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tifffile
from skimage.io import imread
from skimage.measure import label as label_pieces

from napari_sam2._errors import FrameError, TrainingError
from napari_sam2._messages import Message, counted, given, is_or_are
from napari_sam2.labels.conversion import convert_labels
from napari_sam2.training.packs import IMAGE_SUFFIXES, MIN_NATIVE_AREA, LabelledStack, stretch_to_uint8

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MIN_HELD_OUT", "MIN_OBJECTS", "Images", "LabelledItem", "count_objects", "hold_out", "labelled_items"]

Images: TypeAlias = "str | Path | NDArray[Any] | Sequence[str | Path | NDArray[Any]]"

MIN_OBJECTS = 10  # on all frames together
MIN_HELD_OUT = 2
_SUFFIXES = (*IMAGE_SUFFIXES, ".jpg", ".jpeg", ".bmp", ".npy")


@dataclass(frozen=True, eq=False)
class LabelledItem:
    """One image or stack as the user gave it.

    Attributes
    ----------
    name : str
        Name of the file, or "image 0" and so on.
    stacks : tuple of LabelledStack
        One for an image or for each run of labelled frames of a linked stack, else one for each frame.
    """

    name: str
    stacks: tuple[LabelledStack, ...]


def labelled_items(images: Images, labels: Images, *, linked: bool = True) -> list[LabelledItem]:
    """Read and check what a user gives to be learned from.

    Parameters
    ----------
    images, labels : str, Path, array, or sequence of these
        Two folders with files of the same names (suffixes may differ), two files, two arrays, or two sequences of
        equal length. Images are (H, W), (H, W, 3 or 4) or stacks of these of any number type; labels are (H, W) or
        (T, H, W), whole numbers with 0 for background, or booleans.
    linked : bool, default True
        An id means the same object on all frames of a stack.

    Returns
    -------
    list of LabelledItem
        Without images and frames on which nothing is labelled.

    Raises
    ------
    TrainingError
        If something is missing, cannot be read, does not fit together, or nothing at all is labelled.
    """
    items = []
    for number, (image, mask) in enumerate(_pairs(images, labels)):
        name = image.name if isinstance(image, Path) else f"image {number}"
        stacks = _stacks(_array(image), _array(mask), name, linked=linked)
        if stacks:
            items.append(LabelledItem(name, tuple(stacks)))
        else:
            warnings.warn(f"{name}: nothing is labelled on it; it is left out", stacklevel=2)
    if not items:
        raise TrainingError(
            "the labels are empty: all pixels are 0; draw a mask, with a number of its own, on each of at least "
            f"{MIN_OBJECTS} objects"
        )
    return items


def _pairs(images: Images, labels: Images) -> list[tuple[Path | NDArray[Any], Path | NDArray[Any]]]:
    first, second = _listed(images, "images"), _listed(labels, "labels")
    if isinstance(first, dict) and isinstance(second, dict):
        names = sorted(first.keys() & second.keys())
        if not names:
            raise TrainingError(
                f"no image in {images} has a label file of the same name in {labels}; names must agree up to the "
                f"suffix, which is one of {', '.join(_SUFFIXES)}"
            )
        alone = len(first) + len(second) - 2 * len(names)
        if alone:
            what = f"{counted(alone, 'file')} without a partner of the same name {is_or_are(alone)} left out"
            warnings.warn(what, stacklevel=3)
        return [(first[name], second[name]) for name in names]
    if isinstance(first, dict) or isinstance(second, dict):
        raise TrainingError(f"a folder and something else were given ({images}, {labels}); give two folders")
    if len(first) != len(second):
        raise TrainingError(f"{len(first)} images and {len(second)} label images were given; give one for each")
    if not first:
        raise TrainingError("no images were given; give at least one with its labels")
    return list(zip(first, second, strict=True))


def _listed(given: Images, what: str) -> dict[str, Path] | list[Path | NDArray[Any]]:
    """Files of a folder by their names without suffix, or the single things given."""
    if isinstance(given, str | Path):
        path = Path(given).expanduser()
        try:
            is_folder = path.is_dir()
        except OSError as error:  # a name that is too long
            raise TrainingError(f"the {what} {str(path)[:80]} cannot be opened ({error.strerror or error})") from error
        if is_folder:
            return {p.stem: p for p in sorted(path.iterdir()) if p.suffix.lower() in _SUFFIXES}
        if not path.is_file():
            raise TrainingError(f"the {what} {path} do not exist; give a folder or a file of {', '.join(_SUFFIXES)}")
        return [path]
    if isinstance(given, Sequence):
        return [Path(one).expanduser() if isinstance(one, str | Path) else np.asarray(one) for one in given]
    return [np.asarray(given)]


def _array(given: Path | NDArray[Any]) -> NDArray[Any]:
    if not isinstance(given, Path):
        return given
    suffix = given.suffix.lower()
    try:
        if suffix == ".npy":
            return np.asarray(np.load(given, allow_pickle=False))
        return np.asarray(tifffile.imread(given) if suffix in (".tif", ".tiff") else imread(given))
    except (OSError, ValueError, IndexError) as error:
        raise TrainingError(
            f"{given} cannot be read ({' '.join(str(error).split())}); give one of {', '.join(_SUFFIXES)}"
        ) from error


def _stacks(image: NDArray[Any], mask: NDArray[Any], name: str, *, linked: bool) -> list[LabelledStack]:
    """The labelled frames of one pair."""
    if mask.dtype.kind == "f" or (mask.dtype.kind == "i" and mask.size and mask.min() < 0):
        try:
            found = convert_labels(mask, f"{name}: the label image")
        except FrameError as error:
            raise TrainingError(str(error)) from error
        found.warn(f"{name}: the label image")
        mask = found.labels
    if mask.dtype.kind not in "iub":
        raise TrainingError(f"{name}: its labels are {mask.dtype}; they must be whole numbers, 0 for background")
    if image.ndim == mask.ndim + 1 and image.shape[-1] in (3, 4):
        image = image[..., :3]
    if mask.ndim not in (2, 3) or image.shape not in (mask.shape, (*mask.shape, 3)):
        raise TrainingError(
            f"{name}: the image has shape {image.shape} and its labels {mask.shape}; they must agree, as (H, W) or "
            "(T, H, W), where the image may have 3 or 4 colours as a last axis"
        )
    if image.dtype.kind not in "uifb":
        raise TrainingError(f"{name}: the image is {image.dtype}; it must hold real numbers")
    if image.dtype.kind == "f" and image.size and not np.isfinite(image).any():
        raise TrainingError(f"{name}: no pixel of the image is a finite number; check that it was saved correctly")
    if mask.ndim == 2:
        image, mask = image[None], mask[None]
        linked = False
    if np.array_equal(image, mask) and len(np.unique(mask)) > 2:
        raise TrainingError(f"{name}: its labels are the image itself; give the label image that belongs to it")
    if min(mask.shape) < 1:
        raise TrainingError(f"{name}: the image has shape {image.shape}; there is nothing in it")
    is_colour = image.ndim == 4
    frames = image if is_colour and image.dtype == np.uint8 else stretch_to_uint8(image)
    mask, linked = _separate(mask, name, linked=linked)
    ids, inverse = np.unique(mask, return_inverse=True)  # ids of any size become small
    offset = 0 if ids[0] == 0 else 1
    small = (inverse.reshape(mask.shape) + offset).astype(np.int32)
    labelled = [t for t in range(len(small)) if small[t].any()]
    runs = _runs(labelled) if linked else [[t] for t in labelled]
    return [
        LabelledStack(
            np.ascontiguousarray(frames[run[0] : run[-1] + 1]),
            small[run[0] : run[-1] + 1],
            f"{name}/{run[0]}",
            is_sequence=linked and len(run) > 1,
        )
        for run in runs
    ]


def _separate(mask: NDArray[Any], name: str, *, linked: bool) -> tuple[NDArray[Any], bool]:
    """Connected pieces become objects where a mask says only what is object and what is not."""
    is_plain = mask.dtype == bool or (not linked and len(np.unique(mask[mask != 0])) == 1)
    if not is_plain:
        return mask, linked
    pieces = np.stack([label_pieces(frame != 0, connectivity=1) for frame in mask])
    if pieces.max() > 1:
        warnings.warn(
            f"{name}: the labels have one value only; each connected piece is taken as an object", stacklevel=4
        )
        return pieces, False
    return pieces, linked


def _runs(frames: Sequence[int]) -> list[list[int]]:
    """Neighbouring frames together: a frame without labels in between was not looked at, not empty."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and runs[-1][-1] == frame - 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def count_objects(stacks: Sequence[LabelledStack]) -> int:
    """Promptable objects on all frames; one that is on five frames counts five times."""
    return sum(len(stack.objects(t).ids) for stack in stacks for t in range(len(stack)))


def hold_out(
    items: Sequence[LabelledItem], share: float, *, seed: int = 0
) -> tuple[list[LabelledStack], list[LabelledStack]]:
    """Split into what is learned from and what only measures.

    Parameters
    ----------
    items : sequence of LabelledItem
        At least one.
    share : float
        Of the objects that is held out, above 0 and at most 0.5.
    seed : int, default 0
        Of the choice of images.

    Returns
    -------
    tuning, held_out : list of LabelledStack
        Of several images, whole images are held out; of one stack its last frames; of one image a strip at its
        right or lower end.

    Raises
    ------
    TrainingError
        If the share is out of range or there are too few objects.
    """
    if not 0 < share <= 0.5:
        raise TrainingError(Message(given("validation_share", share), " was given; it must be above 0 and at most 0.5"))
    total = count_objects([stack for item in items for stack in item.stacks])
    if total < MIN_OBJECTS:
        raise TrainingError(
            f"too few labels: {total} objects of at least {MIN_NATIVE_AREA} pixels were found, {MIN_OBJECTS} are "
            "needed; label some more, twenty are a good start"
        )
    if len(items) > 1:
        tuning, held = _whole_items(items, share * total, seed)
    elif sum(len(stack) for stack in items[0].stacks) > 1:
        tuning, held = _last_frames(items[0].stacks, share)
    else:
        tuning, held = _strip(items[0].stacks[0], share)
    found = count_objects(tuning), count_objects(held)
    if found[1] < MIN_HELD_OUT or found[0] < MIN_OBJECTS // 2:
        raise TrainingError(
            f"too few labels: of {total} objects {found[0]} would be used for training and {found[1]} held out; at "
            f"least {MIN_OBJECTS // 2} and {MIN_HELD_OUT} are needed; label more objects, on more images, or change "
            "the held-out share"
        )
    return tuning, held


def _whole_items(
    items: Sequence[LabelledItem], wanted: float, seed: int
) -> tuple[list[LabelledStack], list[LabelledStack]]:
    order = np.random.default_rng(seed).permutation(len(items)).tolist()
    sizes = [count_objects(item.stacks) for item in items]
    order.sort(key=lambda row: row != sizes.index(max(sizes)))  # the image with the most objects is learned from
    tuning: list[LabelledStack] = list(items[order[0]].stacks)
    held: list[LabelledStack] = []
    count = 0
    for row in order[1:]:
        if count < wanted:
            held += items[row].stacks
            count += sizes[row]
        else:
            tuning += items[row].stacks
    return tuning, held


def _last_frames(stacks: Sequence[LabelledStack], share: float) -> tuple[list[LabelledStack], list[LabelledStack]]:
    num_frames = sum(len(stack) for stack in stacks)
    left = num_frames - max(1, round(share * num_frames))
    tuning, held = [], []
    for stack in stacks:
        cut = min(max(left, 0), len(stack))
        left -= len(stack)
        if cut:
            tuning.append(_part(stack, slice(0, cut)))
        if cut < len(stack):
            held.append(_part(stack, slice(cut, None)))
    return tuning, held


def _strip(stack: LabelledStack, share: float) -> tuple[list[LabelledStack], list[LabelledStack]]:
    axis = 1 if stack.labels.shape[1] >= stack.labels.shape[2] else 2
    length = stack.labels.shape[axis]
    # placed by where the labels are, as the image may be labelled on one side only
    along = np.flatnonzero(stack.labels) // math.prod(stack.labels.shape[axis + 1 :]) % length
    cut = int(np.clip(np.quantile(along, 1 - share), 1, length - 1))
    before = (slice(None),) * axis
    first = _part(stack, (*before, slice(0, cut)))
    second = _part(stack, (*before, slice(cut, None)))
    crossing = np.intersect1d(first.labels.take(-1, axis), second.labels.take(0, axis))
    second.labels[np.isin(second.labels, crossing[crossing > 0])] = 0
    return [first], [second]


def _part(stack: LabelledStack, where: slice | tuple[slice, ...]) -> LabelledStack:
    labels = stack.labels[where].copy()
    is_sequence = stack.is_sequence and len(labels) > 1
    return LabelledStack(np.ascontiguousarray(stack.frames[where]), labels, stack.name, is_sequence=is_sequence)
