"""How good automatic labels are: average precision beside Otsu + watershed, on images and stacks with known truth.

python benchmarks/automatic.py DEV_FOLDER --json automatic.json
python benchmarks/automatic.py DEV_FOLDER --only fib25_dev --procedural
python benchmarks/automatic.py DEV_FOLDER --only fib25_dev --frames 10 --every 5
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
import torch
from measuring import describe_machine
from micro_network import add_model_arguments, open_model
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from napari_sam2 import (
    LabelAgreement,
    SAM2AutomaticMaskGenerator,
    average_precision,
    masks_to_labels,
    open_frames,
    segment_stack,
)
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.synthetic import make_demo_stack, make_dividing_cells_movie

_MIN_AREA_PX = 12
"""Smaller pieces of the classical labels are left out, as the generator leaves them out of its masks."""


class Case(NamedTuple):
    """One image or stack with its truth."""

    image: NDArray[np.generic]
    truth: NDArray[np.integer]
    axes: str


@dataclass(frozen=True)
class Result:
    """What one method gave on one set.

    Attributes
    ----------
    name, method : str
        The set, and "sam2" or "watershed".
    ap50, mean_ap : float
        Average precision at IoU 0.5, and its mean over 0.5, 0.55, ... 0.9; objects of all images counted together.
    num_true, num_found : int
        Objects.
    seconds : float
        For all images.
    seg, tra : float or None
        Cell Tracking Challenge measures of stacks, where py-ctcmetrics is installed.
    """

    name: str
    method: str
    ap50: float
    mean_ap: float
    num_true: int
    num_found: int
    seconds: float
    seg: float | None = None
    tra: float | None = None


def cases_of(path: Path, num_frames: int | None) -> Iterator[Case]:
    """Images of a pack, or its stack; of stacks the first ``num_frames`` planes."""
    with np.load(path, allow_pickle=False) as pack:
        image, truth, axes = pack["image"], pack["labels"], str(pack["axes"])
    if axes.startswith("N"):
        for one, labels in zip(image, truth, strict=True):
            yield Case(one, labels, axes[1:])
    else:
        is_stack = axes[0] in "ZT"
        yield Case(image[:num_frames] if is_stack else image, truth[:num_frames] if is_stack else truth, axes)


def procedural_cases() -> dict[str, Case]:
    """Movies and a stack with exact truth, of seeds that nothing else uses."""
    drawn: dict[str, Case] = {}
    for seed in (101, 102):
        movie, truth = make_dividing_cells_movie(seed)
        drawn[f"dividing_cells_{seed}"] = Case(movie, truth, "TYX")
    stack, truth = make_demo_stack(101)
    drawn["nuclei_stack_101"] = Case(stack, truth, "ZYX")
    return drawn


def linked(planes: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Labels of single frames as tracks: each object goes on as the one that it overlaps most, one to one."""
    tracked = [planes[0]]
    newest = int(planes[0].max())
    for plane in planes[1:]:
        before = tracked[-1]
        shared = np.zeros((int(plane.max()) + 1, int(before.max()) + 1), np.int64)
        np.add.at(shared, (plane, before), 1)
        shared[0] = shared[:, 0] = 0
        names = np.zeros(len(shared), np.int32)
        while shared.any():
            here, there = np.unravel_index(int(shared.argmax()), shared.shape)
            names[here] = there
            shared[here] = shared[:, there] = 0
        for here in np.unique(plane[plane > 0]):
            if not names[here]:
                newest += 1
                names[here] = newest
        tracked.append(names[plane])
    return np.stack(tracked)


def classical(case: Case) -> NDArray[np.int32]:
    """Otsu and watershed: of an image or of a whole volume; of a movie frame by frame, linked by overlap."""
    has_channels = case.axes.endswith("C")
    if case.axes[0] == "T":
        return linked([otsu_watershed(frame, has_channels=has_channels) for frame in case.image])
    return otsu_watershed(case.image, has_channels=has_channels)


def otsu_watershed(image: NDArray[np.generic], *, has_channels: bool) -> NDArray[np.int32]:
    """Otsu's threshold, the rarer side as foreground, split by a watershed of the distance to background."""
    grey = image.astype(np.float32)
    grey = ndimage.gaussian_filter(grey.mean(axis=-1) if has_channels else grey, 1)
    if grey.min() == grey.max():
        return np.zeros(grey.shape, np.int32)
    foreground = grey > threshold_otsu(grey)
    if foreground.mean() > 0.5:
        foreground = ~foreground
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), 1)
    pieces, _ = ndimage.label(foreground)
    peaks = peak_local_max(distance, min_distance=5, labels=pieces, exclude_border=False)
    markers = np.zeros(grey.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, markers, mask=foreground)
    small = np.bincount(labels.ravel()) < _MIN_AREA_PX
    return np.where(small[labels], 0, labels).astype(np.int32)


def automatic(case: Case, model: SAM2, every: int | None) -> NDArray[np.int32]:
    """Labels of this package with its defaults."""
    if case.axes[0] in "ZT":
        return segment_stack(open_frames(case.image, axes=case.axes), model=model, every=every).labels
    records = SAM2AutomaticMaskGenerator(model, output_mode="coco_rle").generate_masks(case.image)
    return masks_to_labels(records, case.truth.shape[:2])


def seg_and_tra(truth: NDArray[np.integer], labels: NDArray[np.integer]) -> tuple[float, float] | None:
    """SEG and TRA of a stack as if its planes were time points; None where py-ctcmetrics is not installed."""
    try:
        from ctc_metrics.scripts.evaluate import evaluate_sequence
    except ImportError:
        return None
    if not labels.any():  # which it does not take; both measures begin at nothing found
        return 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        gt, res = Path(folder, "01_GT"), Path(folder, "01_RES")
        _write_sequence(truth, {gt / "TRA": "man_track", gt / "SEG": "man_seg"}, gt / "TRA" / "man_track.txt")
        _write_sequence(labels, {res: "mask"}, res / "res_track.txt")
        with contextlib.redirect_stdout(io.StringIO()):
            found = evaluate_sequence(str(res), str(gt), metrics=["Valid", "SEG", "TRA"], threads=1)
    return float(found["SEG"]), float(found["TRA"])


def _write_sequence(labels: NDArray[np.integer], places: dict[Path, str], table: Path) -> None:
    """Planes as numbered files, and a table of tracks: label, first frame, last frame, parent."""
    planes, lines = unbroken(labels)
    for place, name in places.items():
        place.mkdir(parents=True)
        for frame, plane in enumerate(planes):
            tifffile.imwrite(place / f"{name}{frame:03d}.tif", plane)
    table.write_text("".join(f"{' '.join(map(str, line))}\n" for line in lines), encoding="utf-8")


def unbroken(labels: NDArray[np.integer]) -> tuple[NDArray[np.uint16], list[tuple[int, int, int, int]]]:
    """Labels in which a track that pauses goes on under a new number, whose parent is the old one; and the tracks."""
    planes = np.zeros(labels.shape, np.uint16)
    tracks: list[tuple[int, int, int, int]] = []
    for number in np.unique(labels[labels > 0]):
        on = np.flatnonzero((labels == number).any(axis=(1, 2)))
        parent = 0
        for run in np.split(on, np.flatnonzero(np.diff(on) > 1) + 1):
            first, last = int(run[0]), int(run[-1])
            tracks.append((len(tracks) + 1, first, last, parent))
            parent = len(tracks)
            planes[first : last + 1][labels[first : last + 1] == number] = parent
    return planes, tracks


def measure(name: str, cases: Sequence[Case], model: SAM2, *, every: int | None) -> list[Result]:
    """Both methods on one set."""
    results = []
    for method in ("watershed", "sam2"):
        begin = time.perf_counter()
        found = [classical(case) if method == "watershed" else automatic(case, model, every) for case in cases]
        seconds = time.perf_counter() - begin
        agreements = [average_precision(case.truth, labels) for case, labels in zip(cases, found, strict=True)]
        total: LabelAgreement = agreements[0]
        for agreement in agreements[1:]:
            total = total + agreement
        score = total.at(0.5)
        tracked = seg_and_tra(cases[0].truth, found[0]) if cases[0].axes[0] in "ZT" else None
        results.append(
            Result(
                name=name,
                method=method,
                ap50=score.average_precision,
                mean_ap=total.mean_average_precision,
                num_true=score.num_matched + score.num_missed,
                num_found=score.num_matched + score.num_wrong,
                seconds=seconds,
                seg=None if tracked is None else tracked[0],
                tra=None if tracked is None else tracked[1],
            )
        )
        print(format_result(results[-1]), flush=True)
    return results


def format_result(result: Result) -> str:
    """One line."""
    line = (
        f"{result.name:24s} {result.method:10s} AP@0.5 {result.ap50:.3f}  mean AP {result.mean_ap:.3f}  "
        f"{result.num_found:5d} of {result.num_true:5d} objects  {result.seconds:7.1f} s"
    )
    return line if result.seg is None else f"{line}  SEG {result.seg:.3f}  TRA {result.tra:.3f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder of .npz packs with image, labels and axes")
    parser.add_argument("--only", action="append", help="name of a pack; repeatable; default all")
    parser.add_argument("--frames", type=int, help="of stacks, only the first so many planes")
    parser.add_argument("--procedural", action="store_true", help="two movies and a stack with exact truth too")
    parser.add_argument("--every", type=int, help="distance of key frames in stacks (default: found out)")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the result")
    add_model_arguments(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    model = open_model(options)
    results: list[Result] = []
    for path in sorted(options.folder.glob("*.npz")):
        if options.only is None or path.stem in options.only:
            results += measure(path.stem, list(cases_of(path, options.frames)), model, every=options.every)
    if options.procedural:
        for name, case in procedural_cases().items():
            results += measure(name, [case], model, every=options.every)
    if options.json is not None:
        machine = describe_machine(torch.device("cpu")).as_dict()
        content = {"kind": "automatic", "machine": machine, "results": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
