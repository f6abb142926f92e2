"""``napari-sam2 train IMAGES LABELS``: fine-tuning on your labels, a line per validation and a table at the end."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, cast

import typer

from napari_sam2._files import reserved
from napari_sam2._messages import counted
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._options import OverwriteOption
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import print_table, say

if TYPE_CHECKING:
    from napari_sam2.training.finetune import FineTuneReport, FineTuneResult

__all__ = ["FineTuneOptions", "run_fine_tuning"]

T = TypeVar("T")


@dataclass(frozen=True)
class FineTuneOptions:
    """Options of fine-tuning, None where not given; see ``fine_tune``, which has the defaults."""

    start_from: Annotated[
        str | None, typer.Option("--from", metavar="NAME|FILE", help="Model to start from; default: sam2_micro.")
    ] = None
    part: Annotated[
        str | None,
        typer.Option("--part", metavar="NAME", help="What is trained: decoder (default, fast), adapters or all."),
    ] = None
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Most training steps; default 300 without --minutes.")
    ] = None
    minutes: Annotated[float | None, typer.Option("--minutes", metavar="N", help="Longest training time.")] = None
    patience: Annotated[
        int | None,
        typer.Option("--patience", metavar="N", help="Stop after N validations without improvement; default 8."),
    ] = None
    validation_share: Annotated[
        float | None,
        typer.Option("--validation-share", metavar="S", help="Share of the objects held out; default 0.2."),
    ] = None
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate", metavar="R", help="Size of each training step; default 3e-4, for released models 1e-4."
        ),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", help="Image crops in each step, per device.")
    ] = None
    image_size: Annotated[
        int | None, typer.Option("--image-size", metavar="N", help="Side of the model's input; smaller is faster.")
    ] = None
    unlinked: Annotated[
        bool, typer.Option("--unlinked", help="Equal labels on different frames of a stack are different objects.")
    ] = False
    all_labelled: Annotated[
        bool, typer.Option("--all-labelled", help="All objects are labelled: train on the background, too.")
    ] = False
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", metavar="NAME", help="Precision of the arithmetic: auto (default), float32 or bfloat16."
        ),
    ] = None
    num_devices: Annotated[
        int | None, typer.Option("--devices", metavar="N", help="Number of GPUs, with the extra 'train'; default 1.")
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Start of the random numbers; default 0.")] = (
        None
    )
    resume: Annotated[bool, typer.Option("--resume", help="Fail unless there is an unfinished run to resume.")] = False
    overwrite: OverwriteOption = False

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
    """Fine-tune and print the progress; raises as ``fine_tune``."""
    from napari_sam2.training.finetune import fine_tune

    def chosen(value: T | None, default: T) -> T:
        return default if value is None else value

    is_first = os.environ.get("LOCAL_RANK", "0") == "0"  # of several processes, one writes and prints
    with StopRequest("step") as stop, reserved(output) if is_first else nullcontext():
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
    if is_first:
        _print_result(result)
    if result.stopped == "asked":
        say("interrupted; the same command resumes", err=True)
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
        "minutes": "time limit reached",
        "patience": "stopped early: no more improvement",
        "asked": "stopped",
    }
    say(f"{why[result.stopped]}; trained on {counted(result.num_tuning_objects, 'object')}: {result.summary()}")


class _Reports:
    """Prints one line per validation."""

    def __init__(self) -> None:
        self._before: FineTuneReport | None = None

    def __call__(self, report: FineTuneReport) -> None:
        loss = "start" if report.loss is None else f"loss {report.loss:.3f}"
        rate = ""
        if self._before is not None:
            seconds = max(report.seconds - self._before.seconds, 1e-9)
            rate = f"  ({60 * (report.step - self._before.step) / seconds:.0f} steps/min)"
        best = "  best" if report.is_best and report.step else ""
        say(f"{report.step}  {loss}  click {report.click:.3f}  box {report.box:.3f}{best}{rate}")
        self._before = report
