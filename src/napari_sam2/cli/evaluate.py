"""``napari-sam2 evaluate``: compare labels and tracks with ground truth."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import OutputError
from napari_sam2._files import check_new, check_writable, expand, write_whole
from napari_sam2.cli._labels_over_time import labels_over_time
from napari_sam2.cli._options import OverwriteOption
from napari_sam2.cli._outputs import save_table
from napari_sam2.cli._terminal import print_table, say

if TYPE_CHECKING:
    from napari_sam2.labels.track_files import LabelledTracks

__all__ = ["evaluate"]

_NAMES = (
    ("seg", "SEG"), ("det", "DET"), ("lnk", "LNK"), ("tra", "TRA"), ("idf1", "IDF1"),
    ("num_divisions", "divisions"), ("division_f1", "division F1"),
)  # fmt: skip


def evaluate(
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="Ground-truth labels.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Labels to evaluate, of the same shape.")],
    truth_tracks: Annotated[
        Path | None, typer.Option("--truth-tracks", metavar="PATH", help="Parents of TRUTH: .geff, .xml or .csv.")
    ] = None,
    tracks: Annotated[
        Path | None, typer.Option("--tracks", metavar="PATH", help="Parents of LABELS: .geff, .xml or .csv.")
    ] = None,
    is_volume: Annotated[
        bool, typer.Option("--volume", help="The planes are a z-stack: compare objects in 3D, without tracking scores.")
    ] = False,
    tolerance: Annotated[
        int, typer.Option("--tolerance", min=0, help="Frames that a division may be early or late.")
    ] = 1,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="PATH", help="Write the scores: .json or .csv.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Compare labels and tracks with ground truth: AP, and SEG, DET, LNK, TRA, IDF1 and divisions.

    TRUTH and LABELS are label files, or folders of the Cell Tracking Challenge, which hold the lineage too. Planes are
    time points unless --volume is given. AP is TP / (TP + FP + FN) at IoU 0.5 to 0.9; the scores of tracks are those of
    the Cell Tracking Challenge and need 'napari-sam2[metrics]'.

    \b
    A result against the truth of the Cell Tracking Challenge:
      napari-sam2 evaluate 01_GT 01_RES
    \b
    Label images whose parents are in separate files:
      napari-sam2 evaluate truth.tif labels.tif --truth-tracks truth.csv --tracks labels.geff -o scores.json
    """
    _check_output(output, [truth, labels], overwrite=overwrite)
    from napari_sam2.labels.track_evaluation import evaluate_tracks

    first, second = labels_over_time(truth, truth_tracks), labels_over_time(labels, tracks)
    scores = _precision(first, second, is_volume=is_volume)
    if not is_volume:
        agreement = asdict(evaluate_tracks(first, second, tolerance=tolerance))
        scores |= {name: agreement[key] for key, name in _NAMES}
    print_table(("score", "value"), [(name, _shown(value)) for name, value in scores.items()])
    if output is not None:
        say(f"wrote {_write(output, scores)}")


def _check_output(output: Path | None, inputs: list[Path], *, overwrite: bool) -> None:
    if output is None:
        return
    place = expand(output)
    if place.suffix.lower() not in (".json", ".csv"):
        raise OutputError(f"{output} was given; the name of the scores must end in .json or .csv")
    if place.resolve() in [expand(path).resolve() for path in inputs]:
        raise OutputError(f"{output} is an input; give another name")
    check_writable(check_new(output, overwrite=overwrite))


def _precision(truth: LabelledTracks, found: LabelledTracks, *, is_volume: bool) -> dict[str, float]:
    """AP by name; time points are compared one by one and added up."""
    from napari_sam2._errors import FrameError
    from napari_sam2.labels.evaluation import average_precision

    if truth.labels.shape != found.labels.shape:
        raise FrameError(
            f"the labels have the shape {found.labels.shape}, the truth {truth.labels.shape}; "
            "compare labels of one image"
        )
    if is_volume and truth.labels.ndim == 3:
        total = average_precision(truth.labels, found.labels)
    else:
        parts = [average_precision(a, b) for a, b in zip(truth.labels, found.labels, strict=True)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
    named = {f"AP {score.threshold:.2f}": score.average_precision for score in total.scores}
    return {**named, "mean AP": total.mean_average_precision}


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else str(value) if isinstance(value, int) else f"{value:.3f}"


def _write(output: Path, scores: dict[str, float]) -> Path:
    plain = {name: None if math.isnan(value) else value for name, value in scores.items()}
    place = expand(output)
    if place.suffix.lower() == ".csv":
        save_table(place, ("score", "value"), [(name, "" if v is None else v) for name, v in plain.items()])
    else:
        write_whole(place, lambda part: part.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8"))
    return place
