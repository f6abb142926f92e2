"""Fine-tuning on a user's own images and labels: a start model goes in, a better weights file comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from napari_sam2._arguments import checked
from napari_sam2._errors import OutputError, TrainingError
from napari_sam2._messages import OVERWRITE, Message, given
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.adapters import Part, prepare_part
from napari_sam2.training.batches import BatchPlan
from napari_sam2.training.crops import CropConfig, StackSource
from napari_sam2.training.dataset import ClipSampler
from napari_sam2.training.hardware import Precision, choose_hardware
from napari_sam2.training.heap import heap_kept
from napari_sam2.training.tuner import Tuner
from napari_sam2.training.tuning_files import TuningFiles, fingerprint
from napari_sam2.training.tuning_settings import FineTuneReport, StopReason, TuningLimits, TuningSettings
from napari_sam2.training.user_labels import Images, count_objects, hold_out, labelled_items
from napari_sam2.training.validation import HeldOutObjects, ValidationScore
from napari_sam2.weights.loading import BUNDLED_MODEL, load_model

if TYPE_CHECKING:
    from napari_sam2.training.packs import LabelledStack

__all__ = ["FineTuneReport", "FineTuneResult", "fine_tune"]

_STEPS = 300
_SOURCE = "own"
_EMPTY_SHARE = 0.4  # of the images, as in the training of the bundled model: one click more lies on background


@dataclass(frozen=True)
class FineTuneResult:
    """What a fine-tuning did.

    Attributes
    ----------
    weights : Path
        The best weights; ``load_model`` and every ``--model`` take it. The starting weights if none were better.
    start_from : str
        Name or path of the starting weights.
    part : str
        What was trained.
    before, after : ValidationScore
        Mean IoU on the held-out objects of the starting weights, and of the best.
    best_step, steps : int
        At which step the weights are the best, and how many were done.
    num_tuning_objects, num_held_out_objects : int
        How many were learned from, and on how many was measured; an object on five frames counts five times.
    seconds : float
        Of training and measuring.
    history : tuple of FineTuneReport
        All measurements, the first at step 0.
    stopped : {"steps", "minutes", "patience", "asked"}
        Why it ended.
    """

    weights: Path
    start_from: str
    part: str
    before: ValidationScore
    after: ValidationScore
    best_step: int
    steps: int
    num_tuning_objects: int
    num_held_out_objects: int
    seconds: float
    history: tuple[FineTuneReport, ...]
    stopped: StopReason

    @property
    def improved(self) -> bool:
        """Whether some weights were better on the held-out objects than those it started from."""
        return self.best_step > 0

    def summary(self) -> str:
        """One or two sentences for a person."""
        if not self.improved:
            return (
                f"not better than {self.start_from} on {self.num_held_out_objects} held-out objects (IoU of click "
                f"{self.before.click:.3f}, box {self.before.box:.3f}); {self.weights} holds the starting weights. "
                "More labels, more steps or another part may help."
            )
        return (
            f"better on {self.num_held_out_objects} held-out objects: click {self.before.click:.3f} -> "
            f"{self.after.click:.3f}, box {self.before.box:.3f} -> {self.after.box:.3f} (step {self.best_step} of "
            f"{self.steps}); saved as {self.weights}"
        )


@checked(TrainingError)
def fine_tune(
    images: Images,
    labels: Images,
    output: str | Path,
    *,
    start_from: str | Path = BUNDLED_MODEL,
    part: Part = "decoder",
    steps: int | None = None,
    minutes: float | None = None,
    patience: int = 8,
    validation_share: float = 0.2,
    validation_objects: int = 24,
    validate_every: int = 25,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    crop: int | None = None,
    image_size: int | None = None,
    adapter_rank: int = 8,
    linked: bool = True,
    all_labelled: bool = False,
    device: str | torch.device = "auto",
    num_devices: int = 1,
    precision: Precision = "auto",
    num_workers: int = 0,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    on_report: Callable[[FineTuneReport], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> FineTuneResult:
    """Make a model better at one's own images.

    A part of the labelled objects is held out: every ``validate_every`` steps a click and a box are tried on them, and
    the weights with the best mean IoU are kept on disk. What is not labelled counts as unknown, not as background, so
    it does no harm to label only some objects of an image; if none is left out, say so with ``all_labelled``.

    Parameters
    ----------
    images, labels : str, Path, array, or sequence of these
        Two folders with files of the same names, two files, two arrays, or two sequences of equal length. Images are
        (H, W), (H, W, 3) or stacks of these; labels are (H, W) or (T, H, W) whole numbers, 0 background.
    output : str or Path
        Takes the best weights; ends in ``.safetensors``. An unfinished run leaves its state beside it
        (``.state.pt``), and the same call goes on from there.
    start_from : str or Path, default "sam2_micro"
        Name of a model or weights file.
    part : {"decoder", "adapters", "all"}
        What is trained: prompt encoder and mask decoder; these and low-rank adapters in the image encoder; everything.
    steps : int, optional
        To be done at most; 300 if neither steps nor minutes are given.
    minutes : float, optional
        To be spent at most.
    patience : int, default 8
        Measurements without a better one after which it ends.
    validation_share : float, default 0.2
        Of the objects that is held out: whole images, the last frames of a single stack, or a strip of a single image.
    validation_objects : int, default 24
        Held-out objects measured at most.
    validate_every : int, default 25
        Steps between two measurements.
    learning_rate : float, optional
        Of the decoder; default 3e-4 for ``sam2_micro`` and 1e-4 for the released models.
    batch_size : int, optional
        Crops per step and device; default 4 or 2 (released models), on CUDA 12 or 4.
    crop : int, optional
        Side of the crops in model pixels, a multiple of 32; default 192 for models that look through windows, else the
        model's input.
    image_size : int, optional
        Side of the model's input; default the file's. Less than 1024 makes the released models faster and coarser; the
        new weights remember it.
    adapter_rank : int, default 8
        Of the adapters.
    linked : bool, default True
        An id means the same object on all frames of a stack.
    all_labelled : bool, default False
        There is no object without a label in the images: clicks on their background then teach what is no object, which
        automatic masks are judged by.
    device : str or torch.device, default "auto"
        See ``load_model``.
    num_devices : int, default 1
        GPUs; above 1 from a script or the command line only, with the extra ``train``.
    precision : {"auto", "float32", "bfloat16"}
        "auto": bfloat16 on CUDA if the extra ``train`` is installed, else float32.
    num_workers : int, default 0
        Processes that prepare batches.
    seed : int, default 0
        Of the held-out choice, crops and clicks.
    resume : bool, default False
        Require an unfinished run, and continue it.
    overwrite : bool, default False
        Start again although the output or an unfinished run exists.
    on_report : callable, optional
        Called with each ``FineTuneReport``, first with that of the starting weights.
    on_step : callable, optional
        Called with the number of steps done and the loss of the last one, after each step.
    should_stop : callable, optional
        Asked before each step; True ends the run, and the best weights stay.

    Returns
    -------
    FineTuneResult
        Also says if nothing became better (``improved``); the output then holds the starting weights.

    Raises
    ------
    TrainingError
        If the labels are too few, empty or do not fit the images, a setting is not allowed, the state is of another
        run, or the loss is not finite (the best weights stay on disk).
    OutputError
        If the output exists, or cannot be written.
    CheckpointError, DownloadError, DeviceError
        As ``load_model``.

    Examples
    --------
    >>> result = fine_tune("images", "labels", "mine.safetensors", minutes=10)
    >>> print(result.summary())
    >>> predictor = SAM2ImagePredictor(result.weights)
    """
    limits = _limits(steps, minutes, patience, validate_every)
    files = TuningFiles(output)
    _check_files(files, start_from, resume=resume, overwrite=overwrite)
    items = labelled_items(images, labels, linked=linked)
    tuning, held_out = hold_out(items, validation_share, seed=seed)
    objects = HeldOutObjects(held_out, limit=validation_objects, seed=seed)
    hardware = choose_hardware(device, num_devices=num_devices, precision=precision)
    model = load_model(start_from, device=hardware.device, dtype="float32", image_size=image_size)
    if not model.maskmem_tpos_enc.any():
        raise TrainingError(f"{start_from} is an image model without memory; start from weights that can track too")
    on_gpu = hardware.device.type == "cuda"
    plan = _plan(model, tuning, batch_size=batch_size, crop=crop, on_gpu=on_gpu, all_labelled=all_labelled)
    looks_closely = model.config.native_window is not None
    settings = TuningSettings(
        part=part,
        adapter_rank=adapter_rank,
        learning_rate=learning_rate if learning_rate is not None else (3e-4 if looks_closely else 1e-4),
        plan=plan,
        crop=_crop_config(model, tuning, plan.crop),
        validate_every=validate_every,
        seed=seed,
    )
    key = fingerprint((settings, model.image_size, validation_objects), model.state_dict(), [*tuning, *held_out])
    prepare_part(model, part, rank=adapter_rank, seed=seed)
    tuner = Tuner(
        model,
        ClipSampler([StackSource(_SOURCE, tuning)], size=plan.crop, crop=settings.crop, weights={_SOURCE: 1.0}),
        objects,
        settings=settings,
        hardware=hardware,
        files=files,
        metadata=_metadata(model, start_from, settings, [item.name for item in items], hardware.description),
        fingerprint=key,
        num_workers=num_workers,
    )
    if files.state.exists() and not overwrite:
        tuner.resume()
    with heap_kept():
        stopped = tuner.run(limits, on_report=on_report, on_step=on_step, should_stop=should_stop)
    if stopped != "asked" and hardware.rank == 0:
        files.forget_state()
    first, best = tuner.history[0], tuner.best
    return FineTuneResult(
        weights=files.weights,
        start_from=str(start_from),
        part=part,
        before=ValidationScore(first.click, first.box),
        after=ValidationScore(best.click, best.box),
        best_step=best.step,
        steps=tuner.step,
        num_tuning_objects=count_objects(tuning),
        num_held_out_objects=objects.num_objects,
        seconds=tuner.history[-1].seconds,
        history=tuple(tuner.history),
        stopped=stopped,
    )


def _limits(steps: int | None, minutes: float | None, patience: int, validate_every: int) -> TuningLimits:
    numbers = {"steps": steps, "minutes": minutes, "patience": patience, "validate_every": validate_every}
    for name, value in numbers.items():
        if value is not None and value <= 0:
            raise TrainingError(Message(given(name, value), " was given; it must be above 0"))
    return TuningLimits(_STEPS if steps is None and minutes is None else steps, minutes, patience)


def _check_files(files: TuningFiles, start_from: str | Path, *, resume: bool, overwrite: bool) -> None:
    if Path(start_from).expanduser().resolve() == files.weights.resolve():
        raise OutputError(
            f"{files.weights} is the model that the run starts from and is not overwritten; give another output"
        )
    if resume and overwrite:
        raise TrainingError("resume and overwrite were both given; give only one of them")
    files.check_writable()
    if files.state.exists() or overwrite:
        return
    if resume:
        raise TrainingError(f"there is no unfinished run to resume: {files.state} does not exist")
    if files.weights.exists():
        raise OutputError(Message(f"{files.weights} already exists; choose another name, or ", OVERWRITE))


def _plan(
    model: SAM2,
    stacks: Sequence[LabelledStack],
    *,
    batch_size: int | None,
    crop: int | None,
    on_gpu: bool,
    all_labelled: bool,
) -> BatchPlan:
    looks_closely = model.config.native_window is not None
    if crop is None:
        crop = min(192, model.image_size) if looks_closely else model.image_size
    if crop < 32 or crop % 32:
        raise TrainingError(f"crop={crop} was given; it must be a multiple of 32")
    if batch_size is None:
        batch_size = (12 if on_gpu else 4) if looks_closely else (4 if on_gpu else 2)
    if batch_size < 1:
        raise TrainingError(Message(given("batch_size", batch_size), " was given; it must be at least 1"))
    return BatchPlan(
        crop=crop,
        stills=batch_size,
        objects_per_still=5 if looks_closely else 8,
        clips=max(1, batch_size // 3),
        objects_per_clip=4,
        num_frames=4 if looks_closely else 3,
        # clips made of stills keep the memory in tune with the decoder; true ones also teach motion
        clip_share=0.25 if any(stack.is_sequence for stack in stacks) else 0.1,
        empty_share=_EMPTY_SHARE if all_labelled else 0.0,
        empty_sources=(_SOURCE,) if all_labelled else (),
        incomplete_sources=() if all_labelled else (_SOURCE,),
    )


def _crop_config(model: SAM2, stacks: Sequence[LabelledStack], side: int) -> CropConfig:
    """Objects are shown at the sizes at which the model will see them."""
    if model.config.native_window is not None:
        return CropConfig(reference_size=side, extent_high=min(150.0, 0.8 * side))
    longest = sorted(max(stack.labels.shape[1:]) for stack in stacks)[len(stacks) // 2]
    zoom = model.image_size / longest
    return CropConfig(
        extent_low=4.0,
        extent_high=float(side),
        core_share=0.0,
        zoom_low=0.9 * zoom,
        zoom_high=1.8 * zoom,
        min_area=24.0,
        margin=2.0,
        reference_size=side,
    )


def _metadata(
    model: SAM2, start_from: str | Path, settings: TuningSettings, names: Sequence[str], hardware: str
) -> dict[str, str]:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return {
        "model": model.config.name,
        "image_size": str(model.image_size),
        "fine_tuned_from": str(start_from),
        "part": settings.part,
        "images": ", ".join(names[:20]) + more,
        "settings": repr(settings),
        "hardware": hardware,
        "napari_sam2": version("napari-sam2"),
        "torch": torch.__version__,
    }
