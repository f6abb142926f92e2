"""What typical and worst masks look like: a sheet of pictures, truth in green and the model's outline in magenta.

python benchmarks/gallery.py FOLDER_OF_PACKS -o gallery.png
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clips import MIN_AREA, chosen_objects, mask_iou
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries
from skimage.transform import resize

from napari_sam2 import Prompt, SAM2ImagePredictor, SAM2VideoSegmenter, load_model
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.click_simulation import interior_point, tight_box
from napari_sam2.training.packs import LabelledStack, load_pack

_SIDE = 112  # of a picture, in pixels
_HEAD = 14  # above a picture, for its words
_TRACKED = (4, 8)  # frames after the prompted one
_TRUTH, _FOUND = (70, 230, 90), (240, 60, 220)
_SHARES = (0.5, 0.1, 0.0)  # ranks that are shown: the median, the worst tenth, the worst


@dataclass(frozen=True)
class Shown:
    """A mask beside the truth, around the object."""

    title: str
    iou: float
    picture: NDArray[np.uint8]


def _grey(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    if image.ndim == 3:
        return image[..., :3].astype(np.uint8)
    low, high = np.percentile(image, (0.5, 99.5))
    scaled = np.clip((image.astype(np.float32) - low) / max(float(high - low), 1e-6), 0, 1) * 255
    return np.repeat(scaled.astype(np.uint8)[..., None], 3, axis=2)


def _draw(image: NDArray[np.generic], truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The neighbourhood of the object, enlarged, with both outlines."""
    ys, xs = np.nonzero(truth | found) if (truth | found).any() else (np.zeros(1, int), np.zeros(1, int))
    half = max(int(0.75 * max(np.ptp(ys), np.ptp(xs))), 20)
    centre = (ys.min() + ys.max()) // 2, (xs.min() + xs.max()) // 2
    part = tuple(slice(max(c - half, 0), c + half) for c in centre)
    cut = _grey(image)[part]
    shape = (_SIDE, _SIDE)
    large = np.rint(resize(cut, (*shape, 3), order=1, preserve_range=True)).astype(np.uint8)
    for mask, colour in ((truth, _TRUTH), (found, _FOUND)):
        enlarged = resize(mask[part], shape, order=0, preserve_range=True).astype(bool)
        large[find_boundaries(enlarged, mode="inner")] = colour
    return large


def still_cases(model: SAM2, stack: LabelledStack, limit: int) -> Iterator[Shown]:
    """Clicks on the middle frame."""
    frame = len(stack) // 2
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(stack.frames[frame])
    labels = np.asarray(stack.labels[frame])
    for object_id in chosen_objects(labels, limit, stack.trusted_ids):
        truth = labels == object_id
        found = predictor.predict(Prompt(points=[interior_point(truth)]))
        mask = found.masks[int(np.argmax(found.scores))]
        iou = mask_iou(mask, truth)
        yield Shown("click", iou, _draw(stack.frames[frame], truth, mask))


def tracked_cases(model: SAM2, stack: LabelledStack, limit: int) -> Iterator[Shown]:
    """Objects boxed in the middle of a stack, some frames later."""
    start = len(stack) // 2
    segmenter = SAM2VideoSegmenter(model)
    segmenter.set_video(stack.frames)
    for object_id in chosen_objects(np.asarray(stack.labels[start]), limit, stack.trusted_ids):
        box = tight_box(np.asarray(stack.labels[start]) == object_id)
        segmenter.add_clicks(start, [], object_id=object_id, box=box)
    for result in segmenter.propagate_masklets(start, min(start + max(_TRACKED) + 1, len(stack))):
        if result.frame - start not in _TRACKED:
            continue
        labels = np.asarray(stack.labels[result.frame])
        for object_id, mask in zip(result.object_ids, result.masks, strict=True):
            truth = labels == object_id
            if truth.sum() >= MIN_AREA:
                picture = _draw(stack.frames[result.frame], truth, mask)
                yield Shown(f"box, {result.frame - start} later", mask_iou(mask, truth), picture)


def _chosen(cases: Sequence[Shown]) -> list[Shown]:
    ordered = sorted(cases, key=lambda case: case.iou)
    return [ordered[int(share * (len(ordered) - 1))] for share in _SHARES] if ordered else []


def make_sheet(model: SAM2, folder: Path, *, limit: int, images: int) -> Image.Image:
    """A row for each pack of a folder: median, worst tenth and worst click; of stacks, of tracked masks too."""
    rows: list[tuple[str, list[Shown]]] = []
    for path in sorted(folder.glob("*.npz")):
        stacks = load_pack(path)
        used = [stacks[i] for i in np.linspace(0, len(stacks) - 1, min(images, len(stacks))).astype(int)]
        shown = _chosen([case for stack in used for case in still_cases(model, stack, limit)])
        sequences = [stack for stack in used if stack.is_sequence]
        shown += _chosen([case for stack in sequences for case in tracked_cases(model, stack, limit)])
        rows.append((path.stem, shown))
    width = max(len(shown) for _, shown in rows) * (_SIDE + 4)
    sheet = Image.new("RGB", (width, len(rows) * (_SIDE + 2 * _HEAD)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, shown) in enumerate(rows):
        top = row * (_SIDE + 2 * _HEAD)
        pen.text((2, top), name, fill="black")
        for column, case in enumerate(shown):
            left = column * (_SIDE + 4)
            pen.text((left + 2, top + _HEAD), f"{case.title}: {case.iou:.2f}", fill="black")
            sheet.paste(Image.fromarray(case.picture), (left, top + 2 * _HEAD))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of packs: image and labels, or image_0000, labels_0000 and so on")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a PNG file")
    parser.add_argument("--model", default="sam2_micro")
    parser.add_argument("--objects", type=int, default=20, help="per image at most")
    parser.add_argument("--images", type=int, default=4, help="per pack at most")
    args = parser.parse_args()
    sheet = make_sheet(load_model(args.model), args.folder, limit=args.objects, images=args.images)
    sheet.quantize(64).save(args.output, optimize=True)
    print(f"wrote {args.output}, {sheet.width} x {sheet.height} pixels")


if __name__ == "__main__":
    main()
