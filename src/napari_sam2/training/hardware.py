"""Where fine-tuning computes: one device in plain torch; mixed precision and several GPUs in Lightning Fabric."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, get_args

import torch
from torch import Tensor, nn

from napari_sam2._errors import TrainingError
from napari_sam2._messages import Message, given
from napari_sam2.network.sam2 import SAM2
from napari_sam2.weights.loading import resolve_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Hardware", "Precision", "choose_hardware"]

Precision = Literal["auto", "float32", "bfloat16"]
T = TypeVar("T")
LossOfModel = Callable[[SAM2], Tensor]


class Hardware(Protocol):
    """What a tuning loop asks of where it runs.

    Attributes
    ----------
    device : torch.device
        Of this process.
    rank, num_processes : int
        Which of how many processes this is; number 0 measures, saves and reports.
    description : str
        For the report.
    """

    device: torch.device
    rank: int
    num_processes: int
    description: str

    def setup(self, model: SAM2, optimizer: torch.optim.Optimizer) -> None:
        """Take over the model, which is on ``device``, and its optimizer."""

    def step(self, loss_of: LossOfModel, clip_norm: float) -> tuple[float, bool]:
        """One update; the loss and whether the gradient was finite. Where it was not, nothing changes."""

    def shared(self, value: T) -> T:
        """The value that process 0 has."""


class OneDevice:
    """Plain torch in full precision; see ``Hardware``."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank = 0
        self.num_processes = 1
        self.description = f"{device.type}, float32"
        self._model: SAM2 | None = None
        self._optimizer: torch.optim.Optimizer | None = None

    def setup(self, model: SAM2, optimizer: torch.optim.Optimizer) -> None:
        """See ``Hardware``."""
        self._model, self._optimizer = model, optimizer

    def step(self, loss_of: LossOfModel, clip_norm: float) -> tuple[float, bool]:
        """See ``Hardware``."""
        assert self._model is not None
        assert self._optimizer is not None
        self._optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self._model)
        loss.backward()
        norm = nn.utils.clip_grad_norm_([p for p in self._model.parameters() if p.requires_grad], clip_norm)
        is_finite = math.isfinite(float(norm)) and math.isfinite(float(loss.detach()))
        if is_finite:
            self._optimizer.step()
        return float(loss.detach()), is_finite

    def shared(self, value: T) -> T:
        """See ``Hardware``."""
        return value


class _LossModule(nn.Module):
    """Gives a loss a ``forward``, which is where mixed precision and the averaging of gradients begin."""

    def __init__(self, model: SAM2) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss_of: LossOfModel) -> Tensor:
        return loss_of(self.model)


class FabricDevices:
    """Mixed precision and several processes through Lightning Fabric; see ``Hardware``."""

    def __init__(self, fabric: Fabric, description: str) -> None:
        fabric.launch()
        self._fabric = fabric
        self.device = fabric.device
        self.rank = fabric.global_rank
        self.num_processes = fabric.world_size
        self.description = description

    def setup(self, model: SAM2, optimizer: torch.optim.Optimizer) -> None:
        """See ``Hardware``."""
        self._module, self._optimizer = self._fabric.setup(_LossModule(model), optimizer)

    def step(self, loss_of: LossOfModel, clip_norm: float) -> tuple[float, bool]:
        """See ``Hardware``."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._module(loss_of)
        self._fabric.backward(loss)
        norm = self._fabric.clip_gradients(self._module, self._optimizer, max_norm=clip_norm, error_if_nonfinite=False)
        # the norm is that of the averaged gradient, so all processes decide alike
        is_finite = norm is not None and math.isfinite(float(norm))
        if is_finite:
            self._optimizer.step()
        return float(loss.detach()), is_finite

    def shared(self, value: T) -> T:
        """See ``Hardware``."""
        return self._fabric.broadcast(value) if self.num_processes > 1 else value


def choose_hardware(
    device: str | torch.device = "auto", *, num_devices: int = 1, precision: Precision = "auto"
) -> Hardware:
    """Where to compute.

    Parameters
    ----------
    device : str or torch.device, default "auto"
        See ``load_model``.
    num_devices : int, default 1
        GPUs (or, for a test, CPU processes), each with its own share of every step. Above 1, the program is started
        once more for each further one, so this works from a script or the command line, not from napari.
    precision : {"auto", "float32", "bfloat16"}
        Of the computation; weights stay float32. "auto": bfloat16 on CUDA devices that compute it natively, if
        Lightning Fabric is installed, else float32.

    Returns
    -------
    Hardware

    Raises
    ------
    DeviceError
        If the device is not there.
    TrainingError
        If the precision is not known, or an option needs the extra ``train``.
    """
    if precision not in get_args(Precision):
        allowed = ", ".join(get_args(Precision))
        raise TrainingError(Message(given("precision", precision), f" was given; expected {allowed}"))
    if num_devices < 1:
        raise TrainingError(Message(given("num_devices", num_devices), " was given; it must be at least 1"))
    chosen = resolve_device(device)
    has_fabric = find_spec("lightning_fabric") is not None
    is_asked = num_devices > 1 or precision == "bfloat16"
    if is_asked and not has_fabric:
        raise TrainingError(
            "several devices and bfloat16 need Lightning Fabric, which is not installed; "
            "run: pip install 'napari-sam2[train]'"
        )
    if not has_fabric or not (is_asked or chosen.type == "cuda"):
        return OneDevice(chosen)
    return _fabric_devices(chosen, num_devices, precision)


def _fabric_devices(device: torch.device, num_devices: int, precision: Precision) -> FabricDevices:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    if device.type == "cuda" and num_devices > torch.cuda.device_count():
        there = f"there are {torch.cuda.device_count()} CUDA devices"
        raise TrainingError(Message(given("num_devices", num_devices), f" was given; {there}"))
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    single = [device.index or 0] if device.type == "cuda" else 1
    fabric = Fabric(
        accelerator=device.type,
        devices=single if num_devices == 1 else num_devices,
        # a step does not use every weight: a click has no mask, a still no memory
        strategy=DDPStrategy(find_unused_parameters=True) if num_devices > 1 else "auto",
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
    )
    times = f"{num_devices} x " if num_devices > 1 else ""
    return FabricDevices(fabric, f"{times}{device.type}, {precision}")
