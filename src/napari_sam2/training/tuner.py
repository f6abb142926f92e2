"""The fine-tuning loop: steps, held-out measurements, the best weights kept, and a state to go on from."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from napari_sam2._errors import TrainingError
from napari_sam2._messages import OVERWRITE, Message
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.adapters import plain_state
from napari_sam2.training.batches import Batch, BatchStream
from napari_sam2.training.dataset import ClipSampler
from napari_sam2.training.hardware import Hardware
from napari_sam2.training.steps import StepLog, clip_step, still_step
from napari_sam2.training.tuning_files import TuningFiles
from napari_sam2.training.tuning_settings import FineTuneReport, StopReason, TuningLimits, TuningSettings
from napari_sam2.training.validation import HeldOutObjects

__all__ = ["Tuner"]

_MANY = 10**9  # steps, where only the time is limited
_MIN_GAIN = 1e-4  # of IoU


class Tuner:
    """Fine-tunes a network on one process of one or several.

    Parameters
    ----------
    model : SAM2
        On the hardware's device, with its part prepared.
    sampler : ClipSampler
        Of what it learns from.
    held_out : HeldOutObjects
        What it is measured on.
    settings : TuningSettings
        What is computed.
    hardware : Hardware
        Where.
    files : TuningFiles
        Take weights and state.
    metadata : dict of str to str
        Goes into the weights file, besides the measurements.
    fingerprint : str
        Of settings, data and starting weights; a state with another one is refused.
    num_workers : int, default 0
        Processes that prepare batches; 0: none but this one.
    """

    def __init__(
        self,
        model: SAM2,
        sampler: ClipSampler,
        held_out: HeldOutObjects,
        *,
        settings: TuningSettings,
        hardware: Hardware,
        files: TuningFiles,
        metadata: dict[str, str],
        fingerprint: str,
        num_workers: int = 0,
    ) -> None:
        self.model = model
        self.settings = settings
        self.history: list[FineTuneReport] = []
        self.step = 0
        self.seconds = 0.0
        self._sampler = sampler
        self._held_out = held_out
        self._hardware = hardware
        self._files = files
        self._metadata = metadata
        self._fingerprint = fingerprint
        self._num_workers = num_workers
        self._trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._trained.items()}
        self._optimizer = _optimizer(self._trained, settings)
        self._base_rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._log = StepLog()
        self._losses: list[float] = []
        self._clock = time.perf_counter()
        hardware.setup(model, self._optimizer)

    @property
    def best(self) -> FineTuneReport:
        """The measurement whose weights are on disk."""
        return next(report for report in reversed(self.history) if report.is_best)

    def run(
        self,
        limits: TuningLimits,
        *,
        on_report: Callable[[FineTuneReport], None] | None = None,
        on_step: Callable[[int, float], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> StopReason:
        """Train until a limit is met, and say which.

        Raises
        ------
        TrainingError
            If the loss or its gradient is not finite. The best weights stay on disk.
        OutputError
            If weights or state cannot be written.
        """
        self._clock = time.perf_counter()
        if self.step == 0:
            self._measure(on_report)
        settings, rank = self.settings, self._hardware.rank
        stream = BatchStream(
            self._sampler, settings.plan, seed=settings.seed + 7919 * rank, start=self.step, stop=limits.steps or _MANY
        )
        loader: DataLoader[Batch] = DataLoader(
            stream,
            batch_size=None,
            num_workers=self._num_workers,
            prefetch_factor=2 if self._num_workers else None,
            worker_init_fn=_ignore_interrupt,
        )
        reason: StopReason | None = None
        for batch in loader:
            reason = self._hardware.shared(self._reason(limits, should_stop))
            if reason is not None:
                break
            self._train_step(batch, limits)
            if on_step is not None and rank == 0:
                on_step(self.step, self._losses[-1])
            if self.step % settings.validate_every == 0:
                self._measure(on_report)
        if self._losses:
            self._measure(on_report)
        self.history = self._hardware.shared(self.history)
        return reason or "steps"

    # -------------------------------------------------------------- one step
    def _train_step(self, batch: Batch, limits: TuningLimits) -> None:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.step, 1 + self._hardware.rank])
        for group, rate in zip(self._optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * self._rate(limits)

        def loss_of(model: SAM2) -> Tensor:
            if batch.num_frames > 1:
                return clip_step(
                    model, batch, weights=settings.weights, rng=rng,
                    correction_share=settings.correction_share, log=self._log,
                )  # fmt: skip
            rounds = int(rng.integers(0, settings.num_corrections + 1))
            return still_step(model, batch, weights=settings.weights, rng=rng, num_corrections=rounds, log=self._log)

        loss, is_finite = self._hardware.step(loss_of, settings.clip_norm)
        if not is_finite:
            self._files.forget_state()
            raise TrainingError(
                f"the loss or its gradient became infinite or not a number at step {self.step + 1}; stopped. "
                f"{self._files.weights} keeps the best weights so far (step {self.best.step if self.history else 0}); "
                f"try a lower learning rate than {settings.learning_rate:g}, float32 precision, and look for "
                "damaged images"
            )
        self._losses.append(loss)
        self.step += 1
        keep = min(settings.average, self.step / (5 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self._average.values()), [p.detach() for p in self._trained.values()], 1 - keep)

    def _rate(self, limits: TuningLimits) -> float:
        """Share of the full learning rate."""
        done = max(
            self.step / limits.steps if limits.steps else 0.0,
            self._seconds() / (60 * limits.minutes) if limits.minutes else 0.0,
        )
        warm = min(1.0, (self.step + 1) / max(self.settings.warmup_steps, 1))
        decay = max(0.0, 1 - done) / self.settings.decay_share if self.settings.decay_share else 1.0
        return warm * min(1.0, decay)

    def _reason(self, limits: TuningLimits, should_stop: Callable[[], bool] | None) -> StopReason | None:
        if should_stop is not None and should_stop():
            return "asked"
        if limits.minutes is not None and self._seconds() >= 60 * limits.minutes:
            return "minutes"
        if self.history:
            best = self.history.index(self.best)
            if len(self.history) - 1 - best >= limits.patience:
                return "patience"
        return None

    def _seconds(self) -> float:
        return self.seconds + time.perf_counter() - self._clock

    # -------------------------------------------------------------- measuring and saving
    def _measure(self, on_report: Callable[[FineTuneReport], None] | None) -> None:
        """Measure the averaged weights, keep them if they are the best, and save the state."""
        if self._hardware.rank == 0:
            with self._averaged():
                score = self._held_out.score(self.model)
                is_best = not self.history or score.mean > self.best.iou + _MIN_GAIN
                loss = float(np.mean(self._losses)) if self._losses else None
                report = FineTuneReport(self.step, self._seconds(), loss, score.click, score.box, is_best)
                self.history.append(report)
                if is_best:
                    self._files.save_weights(plain_state(self.model), self._described())
            if self.step:
                self._save_state()
            if on_report is not None:
                on_report(report)
        self._losses.clear()
        self._log.means()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within it, the model has the averaged weights."""
        current = {name: p.detach().clone() for name, p in self._trained.items()}
        try:
            self._put(self._average)
            yield
        finally:
            self._put(current)

    def _put(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(values[name])

    def _described(self) -> dict[str, str]:
        curve = "; ".join(f"{r.step}: {r.click:.4f} {r.box:.4f}" for r in self.history)
        return {**self._metadata, "step": str(self.step), "held_out_iou_click_box": curve}

    def _save_state(self) -> None:
        self._files.save_state(
            {
                "fingerprint": self._fingerprint,
                "step": self.step,
                "seconds": self._seconds(),
                "trained": {name: p.detach() for name, p in self._trained.items()},
                "average": self._average,
                "optimizer": self._optimizer.state_dict(),
                "history": [list(astuple(report)) for report in self.history],
            }
        )

    def resume(self) -> None:
        """Go on from the state on disk.

        Raises
        ------
        TrainingError
            If it is damaged, or of another run.
        """
        state = self._files.load_state(self._hardware.device)
        if state.get("fingerprint") != self._fingerprint:
            raise TrainingError(
                Message(
                    f"{self._files.state} is the state of a run with other images, labels, settings or starting "
                    "weights; give the same ones to resume, or ",
                    OVERWRITE,
                    " to start a new run",
                )
            )
        try:
            self._put(cast("dict[str, Tensor]", state["trained"]))
            self._average = {name: cast("dict[str, Tensor]", state["average"])[name] for name in self._trained}
            self._optimizer.load_state_dict(cast("dict[str, object]", state["optimizer"]))
            self.step = int(cast("int", state["step"]))
            self.seconds = float(cast("float", state["seconds"]))
            rows = cast("list[list[float]]", state["history"])
            self.history = [FineTuneReport(*row) for row in rows]  # type: ignore[arg-type]
            _ = self.best
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, StopIteration) as error:
            raise self._files.damaged(error) from error


def _ignore_interrupt(_worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the one that trains decides what it means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _optimizer(trained: dict[str, torch.nn.Parameter], settings: TuningSettings) -> torch.optim.AdamW:
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in trained.items():
        is_adapter = ".parametrizations." in name
        share = 1.0 if name.startswith("sam_") else 3.0 if is_adapter else 1 / 3
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((settings.learning_rate * share, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()],
        betas=(0.9, 0.98),
    )
