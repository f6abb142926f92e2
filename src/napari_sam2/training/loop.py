"""The training loop: constant rate then decay, averaged weights, checkpoints that resume exactly."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from safetensors.torch import save
from torch import nn
from torch.utils.data import DataLoader

from napari_sam2._errors import TrainingError
from napari_sam2._files import write_whole
from napari_sam2._messages import one_line, shown
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.batches import Batch, BatchPlan, BatchStream
from napari_sam2.training.dataset import ClipSampler, ClipSource, CropConfig
from napari_sam2.training.growth import deepen
from napari_sam2.training.half_products import multiply_in_bfloat16
from napari_sam2.training.heap import heap_kept
from napari_sam2.training.initialise import initialise
from napari_sam2.training.losses import LossWeights
from napari_sam2.training.memory_lessons import MemoryLessons, start_memory_on, teach_memory
from napari_sam2.training.muon import Muon, linear_matrices
from napari_sam2.training.steps import MEMORY_ONLY_SHARE, StepLog, clip_step, still_step
from napari_sam2.weights.files import read_weights
from napari_sam2.weights.loading import find_weights

__all__ = ["Phase", "TrainConfig", "Trainer", "load_train_config", "save_weights"]

logger = logging.getLogger(__name__)

_MIN_PROMPTED = 28.0  # crop pixels
_FINE_BLOCKS = "sam_mask_decoder.fine_blocks."
_LATER_PARTS = ("dense_head.", _FINE_BLOCKS)  # of which earlier weights have none

OptimizerName: TypeAlias = Literal["adamw", "muon"]
ProductPrecision: TypeAlias = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one kind of batch.

    Attributes
    ----------
    steps : int
        Number of batches.
    plan : BatchPlan
        What they hold.
    num_corrections : int
        Correction clicks at most after each first prompt of a still; drawn from 0 to this.
    weights : LossWeights
        Of the loss terms.
    source_weights : dict of str to float, optional
        Relative frequency of the data sources by name; the sampler's own if not given.
    """

    steps: int
    plan: BatchPlan = field(default_factory=BatchPlan)
    num_corrections: int = 1
    weights: LossWeights = field(default_factory=LossWeights)
    source_weights: dict[str, float] | None = None


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes
    ----------
    model : str
        Row of ``CONFIGS``.
    start_from : str, optional
        Model name or checkpoint path whose weights the run starts from, of this model or of one with fewer blocks
        in its image encoder (``growth.deepen``), without dense head, or with fewer fine blocks in its mask decoder;
        fresh weights if not given.
    memory_lessons : MemoryLessons
        Updates before the first step in which the memory alone is taught, from new starting values, on the clips of
        the first phase.
    phases : tuple of Phase
        One after the other.
    seed : int
        Of weights, batches and simulated clicks.
    optimizer : {"adamw", "muon"}
        "muon" updates the matrices of linear layers with orthogonalised momentum, and the rest with AdamW; it
        learns more per step. See ``muon.Muon``.
    learning_rate, weight_decay : float
        Of the optimizer.
    new_rate : float
        Factor of the learning rate for layers that ``start_from`` does not have (but not new blocks of the encoder),
        for all fine blocks if some of them are new, and for ``fast_parts``.
    fast_parts : tuple of str
        Names of further parameters that learn at this rate, or the beginnings of their names.
    warmup_steps : int
        Steps from zero to the full rate.
    decay_share : float
        Last part of the run in which the rate falls to zero; a run can be prolonged from before it.
    average : float
        Per-step decay of the exponential average of the weights, which is what is saved.
    clip_norm : float
        Largest norm of the gradient.
    correction_share : float
        Share of clip batches with a corrected frame.
    memory_only_share : float
        Share of clip batches whose objects are tracked from memory alone, without the last mask as a prompt.
    products : {"float32", "tf32", "bfloat16"}
        Precision in which matrices are multiplied: "tf32" is faster on GPUs with tensor cores, "bfloat16", for linear
        layers only, on CPUs with such instructions.
    """

    model: str = "sam2_micro"
    start_from: str | None = None
    memory_lessons: MemoryLessons = field(default_factory=MemoryLessons)
    phases: tuple[Phase, ...] = (Phase(1000),)
    seed: int = 0
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    new_rate: float = 1.0
    fast_parts: tuple[str, ...] = ()
    warmup_steps: int = 100
    decay_share: float = 0.3
    average: float = 0.998
    clip_norm: float = 1.0
    correction_share: float = 0.25
    memory_only_share: float = MEMORY_ONLY_SHARE
    products: ProductPrecision = "float32"

    @property
    def num_steps(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> tuple[Phase, int]:
        """The phase that a step lies in, and the first step after it."""
        end = 0
        for phase in self.phases:
            end += phase.steps
            if step < end:
                return phase, end
        raise TrainingError(f"step {step} was requested; the run has {end} steps")


def load_train_config(path: Path) -> TrainConfig:
    """Read a run from a JSON file with the fields of ``TrainConfig``.

    Raises
    ------
    TrainingError
        If the file is not JSON or a field is unknown.
    """
    try:
        fields = json.loads(path.read_text())
        phases = tuple(
            Phase(**{**p, "plan": BatchPlan(**p.get("plan", {})), "weights": LossWeights(**p.get("weights", {}))})
            for p in fields.pop("phases")
        )
        lessons = MemoryLessons(**fields.pop("memory_lessons", {}))
        return TrainConfig(phases=phases, memory_lessons=lessons, **fields)
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise TrainingError(
            f"{path} cannot be read as a training configuration ({one_line(error)}); "
            "give a JSON file with the fields of TrainConfig"
        ) from error


def _sampler(sources: Sequence[ClipSource], phase: Phase) -> ClipSampler:
    """Crops of any side that show objects at the sizes, in pixels, at which the model will be used."""
    side = phase.plan.crop
    shown = CropConfig(
        reference_size=side,
        extent_low=10.0,
        extent_high=max(min(150.0, 0.8 * side), phase.plan.extents[1]),
        extent_core=phase.plan.extents,
        zoom_low=0.2,
        zoom_high=10.0,
        min_area=_MIN_PROMPTED,
        wrong_share=phase.plan.wrong_windows,
    )
    return ClipSampler(sources, size=side, crop=shown, weights=phase.source_weights)


def _make_optimizers(config: TrainConfig, model: SAM2, new: Collection[str] = ()) -> list[torch.optim.Optimizer]:
    """One optimizer, or two: Muon for the matrices of linear layers, AdamW for all else.

    Groups of parameters whose names are in ``new`` have the ``factor`` ``config.new_rate``.
    """
    if config.optimizer not in get_args(OptimizerName):
        raise TrainingError(
            f"optimizer {shown(config.optimizer)} was given; expected {' or '.join(get_args(OptimizerName))}"
        )
    matrices: list[nn.Parameter] = []
    if config.optimizer == "muon":
        matrices = linear_matrices(model)
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    faster = {id(p) for name, p in model.named_parameters() if name in new}

    def groups(parameters: list[nn.Parameter], **settings: float) -> list[dict[str, Any]]:
        known = {"params": [p for p in parameters if id(p) not in faster], **settings}
        fresh = {"params": [p for p in parameters if id(p) in faster], "factor": config.new_rate, **settings}
        return [group for group in (known, fresh) if group["params"]]

    adamw = torch.optim.AdamW(
        [
            *groups([p for p in rest if p.ndim > 1], weight_decay=config.weight_decay),
            *groups([p for p in rest if p.ndim <= 1], weight_decay=0.0),
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    if not matrices:
        return [adamw]
    muon = Muon(groups(matrices), lr=config.learning_rate, weight_decay=config.weight_decay)
    return [muon, adamw]


@contextmanager
def _matmul_precision(products: ProductPrecision) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if products == "tf32" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _starting_model(config: TrainConfig) -> tuple[SAM2, set[str]]:
    """The model, and the names of parameters that learn at the rate of new layers."""
    model = SAM2(CONFIGS[config.model])
    initialise(model, config.seed)
    fast = {name for name in model.state_dict() if name.startswith(tuple(config.fast_parts))}
    if config.start_from is None:
        return model, fast
    tensors = dict(read_weights(find_weights(config.start_from)).tensors)
    own = model.state_dict()
    new = {name for name in own if name.startswith(_LATER_PARTS) and name not in tensors}
    fine = {name for name in own if name.startswith(_FINE_BLOCKS)}
    if new & fine and fine - new:  # further blocks: they change nothing at first
        for name in new & fine:
            if ".mlp.layers.1." in name:
                own[name].zero_()
        new |= fine
    model.load_state_dict(deepen(model, {name: own[name].clone() for name in new} | tensors))
    return model, new | fast


def save_weights(model: nn.Module, path: Path, *, metadata: dict[str, str]) -> None:
    """Write a state dict as fp16 safetensors, whole or not at all, with ``metadata`` in its header."""
    tensors = {name: t.detach().to("cpu", torch.float16).contiguous() for name, t in model.state_dict().items()}
    content = save(tensors, metadata=metadata)
    write_whole(path, lambda part: part.write_bytes(content))


class Trainer:
    """Trains one model and can be stopped and resumed at any step.

    Parameters
    ----------
    config : TrainConfig
        The run.
    sources : sequence of ClipSource
        Where clips come from.
    folder : Path
        Where ``state.pt`` (resumable), ``weights.safetensors`` (averaged, fp16) and ``log.jsonl`` go.
    device : torch.device
        Where to train.
    num_workers : int, default 1
        Processes that prepare batches.
    """

    def __init__(
        self,
        config: TrainConfig,
        sources: Sequence[ClipSource],
        folder: Path,
        *,
        device: torch.device,
        num_workers: int = 1,
    ) -> None:
        self.config = config
        self.sources = tuple(sources)
        self.folder = folder
        self.device = device
        self.num_workers = num_workers
        folder.mkdir(parents=True, exist_ok=True)
        self.memory_matched = config.start_from is not None
        if config.products not in get_args(ProductPrecision):
            allowed = ", ".join(get_args(ProductPrecision))
            raise TrainingError(f"products {shown(config.products)} was given; expected {allowed}")
        model, new = _starting_model(config)
        self.model = model.to(device)
        if config.products == "bfloat16":
            multiply_in_bfloat16(self.model)
        self.average = SAM2(CONFIGS[config.model]).to(device)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizers = _make_optimizers(config, self.model, new)
        self.step = 0
        self.seconds = 0.0
        if (folder / "state.pt").exists():
            self._resume()

    def run(
        self,
        *,
        stop: int | None = None,
        report_every: int = 50,
        on_report: Callable[[int, dict[str, float]], None] | None = None,
    ) -> None:
        """Train to step ``stop`` (default: the end), saving at every report."""
        stop = self.config.num_steps if stop is None else min(stop, self.config.num_steps)
        if not self.step and self.config.memory_lessons.steps:
            self._teach_memory()
        while self.step < stop:
            phase, phase_end = self.config.phase_at(self.step)
            loader = self._loader(phase, phase.plan, self.config.seed, self.step, min(phase_end, stop))
            with heap_kept(), _matmul_precision(self.config.products):
                self._run_phase(phase, loader, report_every, on_report)
        self.save()

    def _loader(self, phase: Phase, plan: BatchPlan, seed: int, start: int, stop: int) -> DataLoader:  # type: ignore[type-arg]
        """Batches from ``start`` to ``stop``, prepared ahead in the processes of the run."""
        stream = BatchStream(_sampler(self.sources, phase), plan, seed=seed, start=start, stop=stop)
        ahead = 4 if self.num_workers else None
        return DataLoader(stream, batch_size=None, num_workers=self.num_workers, prefetch_factor=ahead)

    def _run_phase(
        self,
        phase: Phase,
        loader: DataLoader,  # type: ignore[type-arg]
        report_every: int,
        on_report: Callable[[int, dict[str, float]], None] | None,
    ) -> None:
        log = StepLog()
        losses: list[float] = []
        started = time.perf_counter()
        for batch in loader:
            rng = np.random.default_rng([self.config.seed, self.step, 1])
            self._set_rate()
            if batch.num_frames == 1:
                rounds = int(rng.integers(0, phase.num_corrections + 1))
                loss = still_step(
                    self.model, batch, weights=phase.weights, rng=rng, num_corrections=rounds, log=log,
                )  # fmt: skip
            else:
                self._match_memory(batch)
                loss = clip_step(
                    self.model, batch, weights=phase.weights, rng=rng,
                    correction_share=self.config.correction_share,
                    memory_only_share=self.config.memory_only_share, log=log,
                )  # fmt: skip
            losses.append(self._update(loss))
            self.step += 1
            if self.step % report_every == 0:
                now = time.perf_counter()
                self.seconds += now - started
                started = now
                report = {"loss": float(np.mean(losses)), "seconds": self.seconds, **log.means()}
                losses.clear()
                self._report(report, on_report)
                if self.step % (4 * report_every) == 0:
                    self.save()

    def _teach_memory(self) -> None:
        """Teach the memory alone; it starts again from the beginning if the run ends before its first step is saved."""
        phase = self.config.phases[0]
        lessons = self.config.memory_lessons
        clips = replace(phase.plan, clip_share=1.0)
        loader = self._loader(phase, clips, self.config.seed + 1, 0, lessons.steps)
        with heap_kept(), _matmul_precision(self.config.products):
            teach_memory(
                self.model, loader, lessons, weight_decay=self.config.weight_decay, clip_norm=self.config.clip_norm,
                seed=self.config.seed,
            )  # fmt: skip
        self.memory_matched = True
        self.average.load_state_dict(self.model.state_dict())

    def _match_memory(self, batch: Batch) -> None:
        """Once, before the first clip: the memory starts from the features as they have become."""
        if self.memory_matched:
            return
        for model in (self.model, self.average):
            start_memory_on(model, batch, self.config.seed)
        self.memory_matched = True

    def _update(self, loss: torch.Tensor) -> float:
        value = float(loss.detach())
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(value):
            logger.warning("step %d: the loss is %s; the step is skipped", self.step, value)
            return 0.0
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        keep = min(self.config.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
        return value

    def _set_rate(self) -> None:
        done = self.step / self.config.num_steps
        decay = min(1.0, (1 - done) / self.config.decay_share) if self.config.decay_share else 1.0
        warm = min(1.0, (self.step + 1) / self.config.warmup_steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * warm * decay * group.get("factor", 1.0)

    def _report(self, report: dict[str, float], on_report: Callable[[int, dict[str, float]], None] | None) -> None:
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps({"step": self.step, **{k: round(v, 4) for k, v in report.items()}}) + "\n")
        if on_report is not None:
            on_report(self.step, report)

    def save(self) -> None:
        """Write the resumable state and the averaged weights."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "memory_matched": self.memory_matched,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        write_whole(self.folder / "state.pt", lambda part: torch.save(state, part))
        save_weights(self.average, self.folder / "weights.safetensors", metadata=self.metadata())

    def metadata(self) -> dict[str, str]:
        """What made these weights: configuration, data, step and time."""
        return {
            "model": self.config.model,
            "config": json.dumps(asdict(self.config)),
            "sources": json.dumps([source.name for source in self.sources]),
            "step": str(self.step),
            "training_seconds": f"{self.seconds:.0f}",
            "torch": torch.__version__,
        }

    def _resume(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step = int(state["step"])
        self.seconds = float(state["seconds"])
        self.memory_matched = bool(state.get("memory_matched", False))
        logger.info("resumed at step %d", self.step)
