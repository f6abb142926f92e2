"""``napari-sam2 train``: fine-tune on your own labels, or train from a configuration."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._checks import LARGEST_THREADS
from napari_sam2._errors import OutputError, TrainingError
from napari_sam2._files import reserved
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._fine_tuning import FineTuneOptions, run_fine_tuning
from napari_sam2.cli._option_groups import with_option_groups
from napari_sam2.cli._options import DeviceOption
from napari_sam2.cli._terminal import say

if TYPE_CHECKING:
    from napari_sam2.training.loop import Trainer

__all__ = ["train"]


@dataclass(frozen=True)
class _ConfigRun:
    """A training run from a configuration."""

    config: Annotated[
        Path | None, typer.Option("--config", metavar="JSON", help="Train from a file with the fields of TrainConfig.")
    ] = None
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="With --config: data packs (.npz) to train on.")
    ] = None
    hold_out: Annotated[
        list[str] | None,
        typer.Option("--hold-out", metavar="NAME", help="With --config: leave out this pack. Repeatable."),
    ] = None


@with_option_groups
def train(
    images: Annotated[
        Path | None, typer.Argument(metavar="IMAGES", help="Your images: a folder, or one file.", show_default=False)
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Argument(metavar="LABELS", help="Their labels: files of the same names.", show_default=False),
    ] = None,
    *,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE|FOLDER", help="Weights to write (with --config: a folder)."),
    ],
    tuning: FineTuneOptions,
    run: _ConfigRun,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", metavar="N", min=1, max=LARGEST_THREADS, help="CPU threads; default: chosen by torch."
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes that prepare batches.")] = 1,
    report_every: Annotated[
        int | None,
        typer.Option(
            "--report-every", metavar="STEPS", min=1, help="Steps between two reports; default 25, with --config 50."
        ),
    ] = None,
) -> None:
    """Fine-tune a model on your own images, or train one from a configuration.

    A part of IMAGES and LABELS (folders with files of the same names, or two files) is held out for validation. Each
    report is a line with the IoU of clicks and boxes on that part, and the best weights are written to FILE, which
    every command accepts as --model. Ctrl-C keeps them too. After that, or after a crash, the same command resumes.

    With --config and --data, FOLDER receives state.pt (from which the same command resumes), weights.safetensors
    (averaged, fp16) and log.jsonl. The state is saved every four reports and at the end.

    \b
    Examples:
      napari-sam2 train images labels -o mine.safetensors --minutes 10
      napari-sam2 train images labels -o mine.safetensors --from sam2.1_hiera_tiny --part adapters --image-size 512
      napari-sam2 train --config run.json --data packs --hold-out fib25 -o run1 --threads 2
    """
    if images is None and run.config is None:
        raise TrainingError("no training data was given; give IMAGES and LABELS, or --config and --data")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if run.config is None:
        if images is None or labels is None:
            raise TrainingError(f"the images {images} were given without labels; give IMAGES and LABELS")
        if run.data is not None or run.hold_out:
            raise TrainingError("--data and --hold-out require --config, and cannot be combined with IMAGES and LABELS")
        run_fine_tuning(images, labels, output, tuning, device=device, report_every=report_every, num_workers=workers)
        return
    if images is not None:
        raise TrainingError("both IMAGES and --config were given; give IMAGES and LABELS, or --config and --data")
    if run.data is None:
        raise TrainingError("--config was given without --data; give the folder of data packs to train on")
    if tuning.given():
        raise TrainingError(
            f"{', '.join(tuning.given())} cannot be combined with --config; set them in the configuration"
        )
    with reserved(output):
        _run_config(
            run.config, run.data, output, tuple(run.hold_out or ()), device, workers=workers,
            report_every=report_every or 50,
        )  # fmt: skip


def _run_config(
    config: Path, data: Path, output: Path, hold_out: tuple[str, ...], device: str, *, workers: int, report_every: int
) -> None:
    """Train from a configuration and a folder of data packs; resumable."""
    folder = output.expanduser()
    from napari_sam2.training.dataset import load_sources
    from napari_sam2.training.loop import Trainer, load_train_config
    from napari_sam2.weights.loading import resolve_device

    run = load_train_config(config.expanduser())
    chosen = resolve_device(device)
    sources = load_sources(data.expanduser(), hold_out=hold_out)
    trainer: Trainer | None = None
    try:
        trainer = Trainer(run, sources, folder, device=chosen, num_workers=workers)
        say(f"{'at' if trainer.step else 'from'} step {trainer.step} of {run.num_steps}, {chosen.type}")
        trainer.run(report_every=report_every, on_report=_Reports(trainer.step))
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{output} cannot be written ({reason}); free space or write elsewhere") from error
    except KeyboardInterrupt:
        at = "" if trainer is None else f" at step {trainer.step}"
        say(f"interrupted{at}; the same command resumes from the last saved state", err=True)
        raise typer.Exit(INTERRUPTED) from None
    say(f"done: {folder / 'weights.safetensors'}")


class _Reports:
    """Prints one line per report."""

    def __init__(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def __call__(self, step: int, report: dict[str, float]) -> None:
        now = time.perf_counter()
        rate = 60 * (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        figures = "  ".join(f"{name} {value:.3f}" for name, value in report.items() if name != "seconds")
        say(f"{step}  {figures}  ({rate:.0f} steps/min)")
