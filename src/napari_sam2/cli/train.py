"""``napari-sam2 train``: a training run from a configuration and a folder of data packs, resumable."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import OutputError
from napari_sam2.cli._errors import INTERRUPTED
from napari_sam2.cli._options import DeviceOption

if TYPE_CHECKING:
    from napari_sam2.training.loop import Trainer

__all__ = ["train"]


def train(
    config: Annotated[Path, typer.Option("--config", metavar="JSON", help="The run: fields of TrainConfig.")],
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Data packs (.npz) to train on.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Takes state, weights and log; made if needed.")
    ],
    hold_out: Annotated[
        list[str] | None, typer.Option("--hold-out", metavar="NAME", help="Leave out this pack. Repeatable.")
    ] = None,
    device: DeviceOption = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Of torch; default: as many as it likes.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Processes that prepare batches.")] = 1,
    report_every: Annotated[int, typer.Option("--report-every", metavar="STEPS", min=1, help="A line so often.")] = 50,
) -> None:
    """Train a model, or go on with a run that was interrupted.

    FOLDER takes state.pt (from which the same command goes on), weights.safetensors (averaged, fp16, can be given as
    --model to every command) and log.jsonl. State is saved every four reports and at the end. Each report is one line:
    step, loss, IoU by kind of prompt, steps per minute.

    \b
    Example:
      napari-sam2 train --config run.json --data packs --hold-out fib25 -o run1 --threads 2
    """
    folder = output.expanduser()
    from napari_sam2.checkpoints import resolve_device
    from napari_sam2.training.dataset import load_sources
    from napari_sam2.training.loop import Trainer, load_train_config

    run = load_train_config(config.expanduser())
    chosen = resolve_device(device)
    sources = load_sources(data.expanduser(), hold_out=tuple(hold_out or ()))
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
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
