"""``napari-sam2 train``: fine-tuning on one's own labels, or a training run from a configuration."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import OutputError, TrainingError
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._fine_tuning import FineTuneOptions, run_fine_tuning
from napari_sam2.cli._options import DeviceOption, OverwriteOption

if TYPE_CHECKING:
    from napari_sam2.training.loop import Trainer

__all__ = ["train"]


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
        typer.Option("-o", "--output", metavar="FILE|FOLDER", help="Takes the weights (with --config: a folder)."),
    ],
    start_from: Annotated[
        str | None, typer.Option("--from", metavar="NAME|FILE", help="What is fine-tuned; default: sam2_micro.")
    ] = None,
    part: Annotated[
        str | None, typer.Option("--part", metavar="NAME", help="decoder (default: fast), adapters or all.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="At most; default 300 without --minutes.")
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", metavar="N", help="At most.")] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", metavar="N", help="Reports without a better one; default 8.")
    ] = None,
    validation_share: Annotated[
        float | None, typer.Option("--validation-share", metavar="S", help="Of the objects held out; default 0.2.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="R", help="Default: 3e-4, released models 1e-4.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", help="Crops per step and device.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", metavar="N", help="Side of the model's input; less is faster.")
    ] = None,
    unlinked: Annotated[bool, typer.Option("--unlinked", help="Ids start anew on each frame of a stack.")] = False,
    all_labelled: Annotated[
        bool,
        typer.Option("--all-labelled", help="No object is without a label: background teaches what is no object."),
    ] = False,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="NAME", help="auto (default), float32 or bfloat16.")
    ] = None,
    num_devices: Annotated[
        int | None, typer.Option("--devices", metavar="N", help="GPUs, with the extra 'train'; default 1.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Default 0.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Insist that an unfinished run goes on.")] = False,
    overwrite: OverwriteOption = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="JSON", help="A whole run: fields of TrainConfig.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="With --config: data packs (.npz) to train on.")
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option("--hold-out", metavar="NAME", help="With --config: leave out this pack. Repeatable."),
    ] = None,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Of torch; default: as many as it likes.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes that prepare batches.")] = 1,
    report_every: Annotated[
        int | None,
        typer.Option("--report-every", metavar="STEPS", min=1, help="A line so often; default 25, with --config 50."),
    ] = None,
) -> None:
    """Make a model better at your own images; or train one from a configuration.

    Of IMAGES and LABELS (folders with files of the same names, or two files) a part is held out. Each report is a line
    with the IoU of clicks and boxes on it, and the weights that are best there are kept in FILE, which can be given as
    --model to every command. Ctrl-C keeps them too. After that, or after a crash, the same command goes on.

    With --config and --data, FOLDER takes state.pt (from which the same command goes on), weights.safetensors
    (averaged, fp16) and log.jsonl. State is saved every four reports and at the end.

    \b
    Examples:
      napari-sam2 train images labels -o mine.safetensors --minutes 10
      napari-sam2 train images labels -o mine.safetensors --from sam2.1_hiera_tiny --part adapters --image-size 512
      napari-sam2 train --config run.json --data packs --hold-out fib25 -o run1 --threads 2
    """
    options = FineTuneOptions(
        start_from, part, steps, minutes, patience, validation_share, learning_rate, batch_size, image_size,
        precision, num_devices, seed, unlinked, all_labelled, resume, overwrite,
    )  # fmt: skip
    if images is None and config is None:
        raise TrainingError("nothing to train on was given; give IMAGES and LABELS, or --config and --data")
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if config is None:
        if images is None or labels is None:
            raise TrainingError(f"the images {images} were given without labels; give IMAGES and LABELS")
        if data is not None or hold_out:
            raise TrainingError("--data and --hold-out belong to --config; leave them out beside IMAGES and LABELS")
        run_fine_tuning(images, labels, output, options, device=device, report_every=report_every, num_workers=workers)
        return
    if images is not None:
        raise TrainingError("both IMAGES and --config were given; give IMAGES and LABELS, or --config and --data")
    if data is None:
        raise TrainingError("--config was given without --data; give the folder of data packs to train on")
    if options.given():
        raise TrainingError(f"{', '.join(options.given())} belong to IMAGES and LABELS; with --config, set them in it")
    _run_config(config, data, output, tuple(hold_out or ()), device, workers=workers, report_every=report_every or 50)


def _run_config(
    config: Path, data: Path, output: Path, hold_out: tuple[str, ...], device: str, *, workers: int, report_every: int
) -> None:
    """A training run from a configuration and a folder of data packs, resumable."""
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
        typer.echo(f"{'at' if trainer.step else 'from'} step {trainer.step} of {run.num_steps}, {chosen.type}")
        trainer.run(report_every=report_every, on_report=_Reports(trainer.step))
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{output} cannot be written ({reason}); free space or write elsewhere") from error
    except KeyboardInterrupt:
        at = "" if trainer is None else f" at step {trainer.step}"
        typer.echo(f"interrupted{at}; the same command goes on from the state that was saved last", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"done: {folder / 'weights.safetensors'}")


class _Reports:
    """One line per report."""

    def __init__(self, step: int) -> None:
        self._step, self._time = step, time.perf_counter()

    def __call__(self, step: int, report: dict[str, float]) -> None:
        now = time.perf_counter()
        rate = 60 * (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        figures = "  ".join(f"{name} {value:.3f}" for name, value in report.items() if name != "seconds")
        typer.echo(f"{step}  {figures}  ({rate:.0f} steps/min)")
