"""Groups of options: one dataclass in the signature of a command, separate options on its command line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, cast, get_type_hints

from napari_sam2._errors import DeviceError
from napari_sam2.cli._options import (
    AxesOption,
    AxisOption,
    CertificatesOption,
    ChannelsOption,
    ComputeOption,
    ContrastOption,
    DeviceOption,
    DtypeOption,
    FixOption,
    GammaOption,
    InsecureOption,
    LevelOption,
    ModelOption,
    ZoomOption,
    open_input,
    parse_channels,
    parse_contrast,
    parse_fixed,
)

if TYPE_CHECKING:
    from napari_sam2._types import Zoom
    from napari_sam2.batch.options import ReadOptions
    from napari_sam2.frames import Frames
    from napari_sam2.network.sam2 import SAM2
    from napari_sam2.session.engines.compute_address import ComputeAddress

__all__ = ["ComputeOptions", "InputOptions", "ModelOptions", "PromptedModelOptions", "with_option_groups"]

P = ParamSpec("P")


@dataclass(frozen=True)
class ModelOptions:
    """The model, its device and precision."""

    model: ModelOption = "sam2_micro"
    device: DeviceOption = "auto"
    dtype: DtypeOption = "auto"

    def load(self) -> SAM2:
        """Load the network."""
        from napari_sam2.weights.loading import load_model

        return load_model(self.model, device=self.device, dtype=self.dtype)


@dataclass(frozen=True)
class PromptedModelOptions(ModelOptions):
    """The model, its device and precision, and what it sees around a prompt."""

    zoom: ZoomOption = "off"

    def load(self) -> SAM2:
        """Load the network."""
        from napari_sam2.weights.loading import load_model

        return load_model(self.model, device=self.device, dtype=self.dtype, zoom=cast("Zoom", self.zoom))


@dataclass(frozen=True)
class ComputeOptions:
    """A server that computes."""

    compute: ComputeOption = None
    certificates: CertificatesOption = None
    insecure: InsecureOption = False

    def address(self, device: str) -> ComputeAddress | None:
        """The server; None: this process.

        Parameters
        ----------
        device : str
            As given with ``--device``.

        Raises
        ------
        DeviceError
            If options contradict each other, or the address cannot be understood.
        """
        from napari_sam2.session.engines.compute_address import ComputeAddress

        if self.compute is not None:
            if device != "auto":
                raise DeviceError(
                    f"--device {device} was given with --compute; the server chooses its device: give one"
                )
            return ComputeAddress(self.compute, self.certificates, self.insecure)
        if self.certificates is not None or self.insecure:
            raise DeviceError("--certificates and --insecure require --compute ADDRESS; give it, or leave them out")
        return None


@dataclass(frozen=True)
class InputOptions:
    """How a file is read and shown to the model."""

    axes: AxesOption = None
    axis: AxisOption = None
    fix: FixOption = None
    level: LevelOption = None
    channels: ChannelsOption = None
    contrast: ContrastOption = "auto"
    gamma: GammaOption = 1.0

    def open(self, path: Path) -> Frames:
        """Open a file as frames; raises as `open_input`."""
        return open_input(
            path,
            axes=self.axes,
            axis=self.axis,
            fix=self.fix,
            level=self.level,
            channels=self.channels,
            contrast=self.contrast,
            gamma=self.gamma,
        )

    def as_read_options(self) -> ReadOptions:
        """The same as options of a job."""
        from napari_sam2.batch.options import ReadOptions

        channels = self.channels
        return ReadOptions(
            axes=self.axes,
            frame_axis=self.axis,
            fixed=tuple(parse_fixed(self.fix or ()).items()),
            channels=None if channels is None else tuple(parse_channels(channels)),
            contrast=parse_contrast(self.contrast),
            gamma=self.gamma,
            level=self.level,
        )


def with_option_groups(command: Callable[P, None]) -> Callable[..., None]:
    """Replace the parameters of a command that are dataclasses by one option for each of their fields.

    The annotations of the parameters must exist at run time. Groups need no default.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if not (isinstance(hint, type) and is_dataclass(hint)):
            parameters.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[name] = hint
        types = get_type_hints(hint, include_extras=True)
        parameters += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
            for f in fields(hint)
        ]

    @functools.wraps(command)
    def expanded(**given: object) -> None:
        for name, group in groups.items():
            given[name] = group(**{f.name: given.pop(f.name) for f in fields(group)})
        command(**given)  # type: ignore[arg-type,call-arg]  # the names of its own signature

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return expanded
