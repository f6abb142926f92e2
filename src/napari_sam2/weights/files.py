"""Weights files: read without running any code in them, their tensors renamed to the released names."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from napari_sam2._errors import CheckpointError
from napari_sam2._messages import one_line, shown
from napari_sam2.weights.huggingface import HUGGING_FACE_ANCHOR, from_hugging_face

__all__ = ["IMAGE_SIZES", "Weights", "is_image_size", "read_weights"]

_LARGEST_SIZE = 4096  # attention over the whole image grows with the fourth power of the side
IMAGE_SIZES = f"multiples of 32 from 32 to {_LARGEST_SIZE}"
_DIGITS = re.compile(r"[0-9]{1,9}")

_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
_CONTAINERS = ("model", "state_dict", "model_state_dict", "module")
_ANCHORS = ("image_encoder.trunk.pos_embed", HUGGING_FACE_ANCHOR)
_UNREADABLE = (
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    OverflowError,
    ImportError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)
_SCALAR = cast("Callable[..., object]", np.float64(0).__reduce__()[0])
_ARRAY = cast("Callable[..., object]", np.zeros(0).__reduce__()[0])
# Training scripts save these beside the weights; none of them can run code. numpy 2 renamed two of them.
_INERT_TYPES: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_ARRAY, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)),
]


@dataclass(frozen=True, eq=False)
class Weights:
    """Content of a weights file.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Under the released names, on the CPU, in the precision of the file.
    model : str or None
        Name of the configuration, if the file states one.
    image_size : int or None
        Side of the model's input in pixels, if the file or the configuration beside it states one.
    """

    tensors: dict[str, Tensor]
    model: str | None = None
    image_size: int | None = None


def read_weights(path: Path) -> Weights:
    """Read a weights file, or a folder as saved by transformers.

    Parameters
    ----------
    path : Path
        ``.pt``, ``.pth`` (also ``.bin``, ``.ckpt``), ``.safetensors``, or a folder with ``model.safetensors``.

    Returns
    -------
    Weights

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, contains code, or contains no SAM 2 weights.
    """
    if path.is_dir():
        if not (path / "model.safetensors").is_file():
            raise CheckpointError(f"the folder {path} contains no model.safetensors; give a weights file instead")
        path = path / "model.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give the path of a weights file, or a name from list_models()")
    if path.suffix.lower() not in (".safetensors", *_TORCH_SUFFIXES):
        raise CheckpointError(
            f"{path} {f'ends in {shown(path.suffix)}' if path.suffix else 'has no suffix'}; expected .safetensors, "
            f"{', '.join(_TORCH_SUFFIXES)}"
        )
    _check_beginning(path)
    read = _read_safetensors if path.suffix.lower() == ".safetensors" else _read_torch
    weights = read(path)
    size = weights.image_size or _size_of_folder(path) or _size_of_name(path)
    return Weights(_released_names(weights.tensors, path), weights.model, size)


def _check_beginning(path: Path) -> None:
    """Name the usual files that are not weights: empty ones, pointers of Git LFS, web pages."""
    try:
        with path.open("rb") as file:
            beginning = file.read(64).lstrip()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error
    if not beginning:
        raise CheckpointError(f"{path} is empty; download it again")
    if beginning.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights; run 'git lfs pull' where it came from")
    if beginning[:1] == b"<":
        raise CheckpointError(f"{path} is a web page, not a weights file; download it again from a direct address")


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({_reason(error)}); download it again"
        ) from error
    return Weights(tensors, metadata.get("model"), _as_size(metadata.get("image_size"), path))


def _read_torch(path: Path) -> Weights:
    try:
        with torch.serialization.safe_globals(_INERT_TYPES), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # a foreign file gets an error below
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise CheckpointError(f"{path} is damaged or not a torch checkpoint; download it again") from error
        raise CheckpointError(
            f"{path} contains more than weights ({named.group(1)}), which could run code, and was not loaded; if you "
            "trust the file, load it yourself and save its weights with torch.save({'model': state_dict}, ...)"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({_reason(error)}); download it again") from error
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} is damaged or not a torch checkpoint ({_reason(error)}); download it again"
        ) from error
    tensors, outer = _find_tensors(content, path)
    name = outer.get("model_name")
    return Weights(tensors, name if isinstance(name, str) else None, _as_size(outer.get("image_size"), path))


def _find_tensors(content: object, path: Path) -> tuple[dict[str, Tensor], Mapping[str, object]]:
    """The state dict of a checkpoint, bare or in one of the usual containers, and the other items of the container."""
    if isinstance(content, Mapping):
        for inner in (content, *(content.get(name) for name in _CONTAINERS)):
            if isinstance(inner, Mapping):
                tensors = {str(key): value for key, value in inner.items() if isinstance(value, Tensor)}
                if len(tensors) > 1:
                    return tensors, {str(key): value for key, value in content.items()}
    raise CheckpointError(
        f"{path} contains no state dict; expected is {{'model': state_dict}} or the state dict itself, "
        f"but found {_summary(content)}"
    )


def _summary(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a dictionary with {', '.join(repr(str(key)) for key in list(content)[:5]) or 'nothing'}"
    return f"a {type(content).__name__}"


def _released_names(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    tensors = {key.replace("_orig_mod.", ""): tensor for key, tensor in tensors.items()}
    anchor, prefix = _find_anchor(tensors, path)
    tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return from_hugging_face(tensors, str(path)) if anchor == HUGGING_FACE_ANCHOR else tensors


def _find_anchor(tensors: Mapping[str, Tensor], path: Path) -> tuple[str, str]:
    """The naming scheme of a file, and the prefix of its names ("module.", "model.", ...)."""
    for anchor in _ANCHORS:
        for key in tensors:
            if key == anchor or key.endswith("." + anchor):
                return anchor, key.removesuffix(anchor)
    first = ", ".join(list(tensors)[:3])
    raise CheckpointError(
        f"{path} contains no SAM 2 weights but {len(tensors)} tensors, first {first}; expected the names of the "
        f"released checkpoints ({_ANCHORS[0]}, ...) or of transformers ({_ANCHORS[1]}, ...)"
    )


def _size_of_folder(path: Path) -> int | None:
    """``image_size`` of the ``config.json`` that transformers writes beside the weights."""
    config = path.with_name("config.json")
    if not config.is_file():
        return None
    try:
        content: object = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{config} cannot be read ({_reason(error)}); repair or remove it") from error
    for keys in (("image_size",), ("prompt_encoder_config", "image_size")):
        value = content
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            return _as_size(value, config)
    return None


def _size_of_name(path: Path) -> int | None:
    """MedSAM2 is published for 512 pixels, which only the names of its files tell."""
    return 512 if path.name.lower().startswith("medsam2") else None


def _as_size(value: object, path: Path) -> int | None:
    """The input size that a file states, as a number, as digits, or as height and width; None if it states none."""
    if value is None:
        return None
    first = value[0] if isinstance(value, list | tuple) and value else value
    size = int(first) if isinstance(first, str) and _DIGITS.fullmatch(first) else first
    if isinstance(size, bool) or not isinstance(size, int) or not is_image_size(size):
        text = repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:37]}..."
        raise CheckpointError(f"{path} states image_size={text}; expected {IMAGE_SIZES}")
    return size


def is_image_size(size: int) -> bool:
    """Whether a network can take square inputs of this side."""
    return 32 <= size <= _LARGEST_SIZE and size % 32 == 0


def _reason(error: Exception) -> str:
    return one_line(error, longest=160)
