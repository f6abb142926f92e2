"""Options of several commands, and how their values are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._checks import numbers_in
from napari_sam2._errors import FrameError

if TYPE_CHECKING:
    from napari_sam2.frames import Contrast, Frames

__all__ = [
    "AxesOption",
    "AxisOption",
    "CertificatesOption",
    "ChannelsOption",
    "ComputeOption",
    "ContrastOption",
    "DeviceOption",
    "DtypeOption",
    "FixOption",
    "FullResolutionOption",
    "GammaOption",
    "InsecureOption",
    "LabelsOption",
    "LevelOption",
    "ModelOption",
    "OverwriteOption",
    "PreviewOption",
    "QuietOption",
    "RequiredLabelsOption",
    "ZoomOption",
    "open_input",
    "parse_channels",
    "parse_contrast",
    "parse_fixed",
]

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME|FILE", help="Name of a model ('napari-sam2 models' lists them) or weights file."
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps. auto: a GPU if there is one.")
]
ZoomOption = Annotated[
    str,
    typer.Option(
        "--zoom",
        metavar="off|auto",
        help="auto: crop windows around the prompts for models that otherwise see the whole image; for small objects.",
    ),
]
DtypeOption = Annotated[
    str, typer.Option("--dtype", metavar="NAME", help="Precision of the model: auto, float32, bfloat16 or float16.")
]
ComputeOption = Annotated[
    str | None,
    typer.Option(
        "--compute",
        metavar="ADDRESS",
        help="Compute on a server started with 'napari-sam2 serve', such as tls://box:8786; default: on this computer.",
    ),
]
CertificatesOption = Annotated[
    Path | None,
    typer.Option(
        "--certificates",
        metavar="FOLDER",
        help="Certificates for --compute tls://...: the folder 'client' that was made on the server "
        "[default: certificates in the configuration folder of napari-sam2].",
    ),
]
KeepApartOption = Annotated[
    bool,
    typer.Option(
        "--keep-apart",
        help="Where masks of several objects overlap, the model remembers the pixel for the best one only; helps if "
        "tracks of touching objects merge.",
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option("--insecure", help="Allow --compute tcp://... on another computer, without encryption."),
]
AxesOption = Annotated[
    str | None,
    typer.Option(
        "--axes", metavar="LETTERS", help="Axes of the file, letters of TCZYX such as TZYX; default: those in the file."
    ),
]
AxisOption = Annotated[
    str | None, typer.Option("--axis", metavar="Z|T", help="Axis along which the frames lie, if the file has both.")
]
FixOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fix",
        metavar="AXIS=INDEX",
        help="Which time point, position or slice to use, such as T=3 or P=2; default 0. A position or scene also by "
        "its name: P=NAME.",
    ),
]
LevelOption = Annotated[
    int | None, typer.Option("--level", metavar="N", help="Level of a multiscale file; 0 is full resolution.")
]
FullResolutionOption = Annotated[
    bool | None,
    typer.Option(
        "--full-resolution/--same-level",
        help="With --level: write labels at full resolution, each object refined in a window around it. "
        "[default: for labels that go into an OME-Zarr image]",
        show_default=False,
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--channels",
        metavar="C[,C[,C]]",
        help="One to three channels to show to the model: numbers from 0, or names in the file, such as DAPI.",
    ),
]
ContrastOption = Annotated[
    str,
    typer.Option(
        "--contrast",
        metavar="auto|dtype|LOW,HIGH",
        help="Values shown as black and white, for the whole stack. auto: percentiles 0.1 and 99.9; dtype: the range "
        "of the type; or two numbers, or two for each channel.",
    ),
]
GammaOption = Annotated[float, typer.Option("--gamma", metavar="G", help="Below 1 brightens, above 1 darkens.")]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="LABELS",
        help="Labels to write: .tif, .ome.tif, .zarr, .zip (ROIs), .geojson, .json (COCO), or IMAGE.zarr/labels/NAME "
        "[default: inside the image, as labels/napari_sam2, where it is OME-Zarr].",
    ),
]
RequiredLabelsOption = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="LABELS",
        help="Labels to write: .tif, .ome.tif, .zarr, .zip (ROIs), .geojson, .json (COCO), or IMAGE.zarr/labels/NAME.",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")]
PreviewOption = Annotated[
    Path | None,
    typer.Option("--preview", metavar="PNG", help="Write an image with outlines, clicks and boxes, for checking."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")]


def open_input(
    path: Path,
    *,
    axes: str | None,
    axis: str | None,
    fix: Sequence[str] | None,
    level: int | None,
    channels: str | None,
    contrast: str,
    gamma: float,
) -> Frames:
    """Open the input of a command as frames.

    Raises
    ------
    FrameError
        If an option cannot be understood, or the file cannot be read that way.
    """
    # mistakes that can be found without opening the file are reported first
    chosen_contrast = parse_contrast(contrast)
    chosen_channels = None if channels is None else parse_channels(channels)
    fixed = parse_fixed(fix or ())
    from napari_sam2.frames import open_frames

    return open_frames(
        path,
        axes=axes,
        frame_axis=axis,
        fixed=fixed or None,
        channels=chosen_channels,
        contrast=chosen_contrast,
        gamma=gamma,
        level=level,
    )


def parse_contrast(text: str) -> Contrast:
    """The value of --contrast; raises FrameError."""
    if text in ("auto", "dtype"):
        return "auto" if text == "auto" else "dtype"
    try:
        values = numbers_in(text)
    except ValueError:
        values = []
    if len(values) == 2:
        return values[0], values[1]
    if not values or len(values) % 2:
        raise FrameError(
            f"--contrast {text} was given; expected auto, dtype, LOW,HIGH, or one such pair for each channel"
        )
    return [(values[i], values[i + 1]) for i in range(0, len(values), 2)]


def parse_channels(text: str) -> list[int | str]:
    """The value of --channels: numbers, and names as they are; raises FrameError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise FrameError(f"--channels {text} was given; expected numbers or names, such as 0,2 or DAPI")
    return [int(part) if part.isascii() and part.lstrip("-").isdecimal() else part for part in parts]


def parse_fixed(texts: Sequence[str]) -> dict[str, int | str]:
    """The values of --fix; raises FrameError."""
    fixed: dict[str, int | str] = {}
    for text in texts:
        axis, _, index = text.partition("=")
        is_number = index.removeprefix("-").isdecimal() and index.isascii()
        if len(axis) != 1 or not axis.isalpha() or not (is_number or (axis.upper() == "P" and index.strip())):
            raise FrameError(
                f"--fix {text} was given; expected AXIS=INDEX, such as --fix T=0 or --fix P=2, or the name of a "
                "position, --fix P=NAME"
            )
        fixed[axis.upper()] = int(index) if is_number else index.strip()
    return fixed
