"""``napari-sam2 train IMAGES LABELS``: fine-tuning on own labels, a line per measurement and a table at the end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import typer

from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._outputs import print_table
from napari_sam2.cli._stopping import StopRequest

if TYPE_CHECKING:
    from napari_sam2.training.finetune import FineTuneReport, FineTuneResult

__all__ = ["FineTuneOptions", "run_fine_tuning"]

T = TypeVar("T")


@dataclass(frozen=True)
class FineTuneOptions:
    """What the command line says about a fine-tuning; None where it says nothing.

    Attributes
    ----------
    start_from, part : str or None
        See ``fine_tune``.
    steps, patience, batch_size, image_size, num_devices, seed : int or None
        See ``fine_tune``.
    minutes, validation_share, learning_rate : float or None
        See ``fine_tune``.
    precision : str or None
        See ``fine_tune``.
    unlinked, all_labelled, resume, overwrite : bool
        Ids are new on each frame of a stack; no object is without a label; an unfinished run is insisted on; outputs
        are replaced.
    """

    start_from: str | None = None
    part: str | None = None
    steps: int | None = None
    minutes: float | None = None
    patience: int | None = None
    validation_share: float | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    image_size: int | None = None
    precision: str | None = None
    num_devices: int | None = None
    seed: int | None = None
    unlinked: bool = False
    all_labelled: bool = False
    resume: bool = False
    overwrite: bool = False

    def given(self) -> list[str]:
        """Names of the options that were given, as on the command line."""
        names = {"start_from": "--from", "num_devices": "--devices"}
        return [
            names.get(name, "--" + name.replace("_", "-"))
            for name, value in vars(self).items()
            if value is not None and value is not False
        ]


def run_fine_tuning(
    images: Path,
    labels: Path,
    output: Path,
    options: FineTuneOptions,
    *,
    device: str,
    report_every: int | None,
    num_workers: int,
) -> None:
    """Fine-tune, and print what happens; errors as ``fine_tune``."""
    from napari_sam2.training.finetune import fine_tune

    def chosen(value: T | None, default: T) -> T:
        return default if value is None else value

    with StopRequest("step") as stop:
        result = fine_tune(
            images.expanduser(),
            labels.expanduser(),
            output,
            start_from=chosen(options.start_from, "sam2_micro"),
            part=cast("Literal['decoder', 'adapters', 'all']", chosen(options.part, "decoder")),
            steps=options.steps,
            minutes=options.minutes,
            patience=chosen(options.patience, 8),
            validation_share=chosen(options.validation_share, 0.2),
            validate_every=chosen(report_every, 25),
            learning_rate=options.learning_rate,
            batch_size=options.batch_size,
            image_size=options.image_size,
            linked=not options.unlinked,
            all_labelled=options.all_labelled,
            device=device,
            num_devices=chosen(options.num_devices, 1),
            precision=cast("Literal['auto', 'float32', 'bfloat16']", chosen(options.precision, "auto")),
            num_workers=num_workers,
            seed=chosen(options.seed, 0),
            resume=options.resume,
            overwrite=options.overwrite,
            on_report=_Reports(),
            should_stop=stop.is_set,
        )
    if os.environ.get("LOCAL_RANK", "0") == "0":  # of several processes, one speaks
        _print_result(result)
    if result.stopped == "asked":
        typer.echo("interrupted; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED)


def _print_result(result: FineTuneResult) -> None:
    before, after = result.before, result.after
    print_table(
        ("held-out IoU", "click", "box", "mean"),
        [
            ("before", f"{before.click:.3f}", f"{before.box:.3f}", f"{before.mean:.3f}"),
            ("after", f"{after.click:.3f}", f"{after.box:.3f}", f"{after.mean:.3f}"),
        ],
    )
    why = {
        "steps": "all steps done",
        "minutes": "the time is up",
        "patience": "no better measurement for some time",
        "asked": "stopped",
    }
    typer.echo(f"{why[result.stopped]}; learned from {result.num_tuning_objects} objects: {result.summary()}")


class _Reports:
    """One line per measurement."""

    def __init__(self) -> None:
        self._before: FineTuneReport | None = None

    def __call__(self, report: FineTuneReport) -> None:
        loss = "start" if report.loss is None else f"loss {report.loss:.3f}"
        rate = ""
        if self._before is not None:
            seconds = max(report.seconds - self._before.seconds, 1e-9)
            rate = f"  ({60 * (report.step - self._before.step) / seconds:.0f} steps/min)"
        best = "  best" if report.is_best and report.step else ""
        typer.echo(f"{report.step}  {loss}  click {report.click:.3f}  box {report.box:.3f}{best}{rate}")
        self._before = report
