"""What a fine-tuning computes, when it ends, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from napari_sam2.training.batches import BatchPlan
from napari_sam2.training.crops import CropConfig
from napari_sam2.training.losses import LossWeights
from napari_sam2.training.validation import ValidationScore

__all__ = ["FineTuneReport", "StopReason", "TuningLimits", "TuningSettings"]

StopReason = Literal["steps", "minutes", "patience", "asked"]


@dataclass(frozen=True)
class TuningSettings:
    """Everything that decides what a fine-tuning computes; the same settings on the same data give the same weights.

    Attributes
    ----------
    part : str
        See ``prepare_part``.
    adapter_rank : int
        See ``prepare_part``.
    learning_rate : float
        Of the decoder; adapters learn three times as fast, the rest of the network a third as fast.
    plan : BatchPlan
        What a step shows.
    crop : CropConfig
        At what sizes objects are shown.
    weights : LossWeights
        Of the loss terms.
    num_corrections : int
        Correction clicks at most after each first prompt.
    correction_share : float
        Share of clips with a corrected frame.
    validate_every : int
        Steps between two measurements.
    average : float
        Per-step decay of the average of the weights, which is what is measured and saved.
    weight_decay, clip_norm : float
        Of AdamW, and the largest norm of the gradient.
    warmup_steps : int
        Steps from zero to the full rate.
    decay_share : float
        Last part of the steps or minutes in which the rate falls to zero.
    seed : int
        Of batches and clicks.
    """

    part: str = "decoder"
    adapter_rank: int = 8
    learning_rate: float = 3e-4
    plan: BatchPlan = field(default_factory=BatchPlan)
    crop: CropConfig = field(default_factory=CropConfig)
    weights: LossWeights = field(default_factory=lambda: LossWeights(focal=10.0, balanced=0.2, iou=4.0, dense=0.3))
    num_corrections: int = 1
    correction_share: float = 0.25
    validate_every: int = 25
    average: float = 0.98
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup_steps: int = 10
    decay_share: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class TuningLimits:
    """When to end: after ``steps`` or ``minutes``, or after ``patience`` measurements without a better one."""

    steps: int | None
    minutes: float | None
    patience: int


@dataclass(frozen=True)
class FineTuneReport:
    """One measurement during fine-tuning.

    Attributes
    ----------
    step : int
        Steps done; 0 is the model that it started from.
    seconds : float
        Of training and measuring so far, interrupted runs together.
    loss : float or None
        Mean since the report before; None at step 0.
    click, box : float
        Mean IoU on the held-out objects.
    is_best : bool
        Whether these weights are better than all before, and were saved.
    """

    step: int
    seconds: float
    loss: float | None
    click: float
    box: float
    is_best: bool

    @property
    def iou(self) -> float:
        """Mean of click and box: what decides."""
        return ValidationScore(self.click, self.box).mean
