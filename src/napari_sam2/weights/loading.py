"""Load networks: find the weights of a name or file, recognise their architecture, move them to a device."""

from __future__ import annotations

import logging
from dataclasses import replace
from numbers import Integral
from pathlib import Path

import torch

from napari_sam2._arguments import checked
from napari_sam2._errors import CheckpointError
from napari_sam2._messages import shown
from napari_sam2._types import Zoom
from napari_sam2.network.sam2 import SAM2
from napari_sam2.weights.architecture import build_network
from napari_sam2.weights.devices import resolve_device, resolve_dtype, reuse_freed_memory
from napari_sam2.weights.downloads import (
    BUNDLED_FILE,
    BUNDLED_MODEL,
    RELEASES,
    ModelInfo,
    download_model,
    list_models,
    model_hash,
)
from napari_sam2.weights.files import IMAGE_SIZES, is_image_size, read_weights

__all__ = [
    "BUNDLED_MODEL",
    "ModelInfo",
    "download_model",
    "ensure_model",
    "list_models",
    "load_model",
    "model_hash",
    "resolve_device",
    "resolve_dtype",
]

logger = logging.getLogger(__name__)

_ZOOM = 4  # an object that fills a window of a quarter of the input is seen at four times its size


@checked(CheckpointError)
def load_model(
    name_or_path: str | Path = BUNDLED_MODEL,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    image_size: int | None = None,
    zoom: Zoom = "off",
) -> SAM2:
    """Load a network by name or from a file.

    Parameters
    ----------
    name_or_path : str or Path, default "sam2_micro"
        The bundled model; one of the eight released names, downloaded on first use; or a path: ``.pt`` and
        ``.pth`` (read without running any code in them), ``.safetensors``, or a folder as saved by transformers.
        The architecture is recognised from names and shapes.
    device : str or torch.device, default "auto"
        "auto": the first available of CUDA, MPS and CPU.
    dtype : str or torch.dtype, default "auto"
        "auto": bfloat16 on CUDA devices that compute it natively, float32 elsewhere. Or "float32",
        "bfloat16", "float16" or a torch dtype. On a CPU, half precision is used for the largest products only;
        ``.to(torch.bfloat16)`` on the result rounds everything.
    image_size : int, optional
        Side of the model's square input in pixels, a multiple of 32 up to 4096. Default: the one that the file
        states (metadata, the ``config.json`` of transformers, 512 for files named MedSAM2*), else the configuration's.
    zoom : {"off", "auto"}, default "off"
        What a model sees that was trained on whole images: "off" the whole image, as in the reference; "auto" windows
        around the prompt, scaled to the object, as ``sam2_micro`` does. That is for objects that are small in their
        image. Each click is then decoded in several windows, each of which has to be encoded.

    Returns
    -------
    SAM2
        In evaluation mode, on the requested device and in the requested precision.

    Raises
    ------
    CheckpointError
        If the name is unknown, or the file is missing, damaged or of another architecture.
    DownloadError
        If the checkpoint is not on this computer and cannot be downloaded.
    DeviceError
        If the device or precision is unknown or not available.
    """
    chosen_device = resolve_device(device)
    chosen_dtype = resolve_dtype(dtype, chosen_device)
    if image_size is not None:
        _check_image_size(image_size)
    path = find_weights(name_or_path)
    weights = read_weights(path)
    network = build_network(weights, str(path))
    if image_size is not None:
        network.image_size = int(image_size)
    _check_image_size(network.image_size)
    if zoom == "auto" and network.config.native_window is None:
        network.config = replace(network.config, native_window=network.image_size // _ZOOM)
    logger.info(
        "%s: %s, image_size %d, %s on %s",
        path,
        network.config.name,
        network.image_size,
        str(chosen_dtype).removeprefix("torch."),
        chosen_device,
    )
    if chosen_device.type == "cpu":
        reuse_freed_memory()
    return network.to(chosen_device).compute_in(chosen_dtype).eval()


def ensure_model(model: SAM2 | str | Path | None) -> SAM2:
    """Return a network, loading it if a name or path is given.

    Parameters
    ----------
    model : SAM2, str, Path or None
        A network is returned as it is, in evaluation mode; a name or path goes to ``load_model``;
        ``None`` is the bundled model.

    Returns
    -------
    SAM2

    Raises
    ------
    CheckpointError, DownloadError, DeviceError
        As ``load_model``.
    """
    if isinstance(model, SAM2):
        return model.eval()
    return load_model(BUNDLED_MODEL if model is None else model)


def find_weights(name_or_path: str | Path) -> Path:
    """The weights file of a name or path; a model's name wins over a file of that name in the working folder."""
    name = str(name_or_path)
    if name == BUNDLED_MODEL:
        if not BUNDLED_FILE.is_file():
            raise CheckpointError(
                f"the bundled weights {BUNDLED_FILE} are missing from this installation; install napari-sam2 again"
            )
        return BUNDLED_FILE
    if name in RELEASES:
        return download_model(name)
    try:
        path = Path(name_or_path).expanduser()
        exists = path.exists()
    except (TypeError, OSError, RuntimeError) as error:  # no path; too long a name; no such user
        raise CheckpointError(f"{shown(name)} is not the path of a weights file ({error})") from error
    if not exists:
        raise CheckpointError(
            f"{shown(name)} is neither a file nor the name of a model; names are "
            f"{', '.join((BUNDLED_MODEL, *RELEASES))}"
        )
    return path


def _check_image_size(image_size: object) -> None:
    is_whole = isinstance(image_size, Integral) and not isinstance(image_size, bool)
    if not is_whole or not is_image_size(int(image_size)):  # type: ignore[call-overload]
        raise CheckpointError(f"image_size={shown(image_size)} was given; expected {IMAGE_SIZES}")
