"""Golden outputs of the reference, and networks with the seeded weights they were made with."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from devices import CUDA, used_exactly
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2
from places import SHARED

REFERENCE = SHARED / "reference"


def existing(path: Path) -> Path:
    """The path; the test is skipped where only a part of the reference's outputs was brought along."""
    if not path.exists():
        pytest.skip(f"{path.name} is not among the reference's outputs here")
    return path


def _load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """The folder of golden outputs; tests that need it are skipped where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip("the reference's golden outputs are not beside this checkout")
    return REFERENCE


@pytest.fixture(scope="session")
def golden(reference_folder: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """Arrays of one golden file."""

    @cache
    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(existing(reference_folder / "golden" / f"{name}.npz")) as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def seeded_state(reference_folder: Path) -> Callable[[str], dict[str, torch.Tensor]]:
    """State dict of seeded pseudo-weights of one variant."""
    seeded = _load_module(existing(reference_folder / "seeded_weights.py"))

    @cache
    def make(name: str) -> dict[str, torch.Tensor]:
        keys = json.loads(existing(reference_folder / "keys" / f"{name}.json").read_text())
        return {key: torch.from_numpy(value) for key, value in seeded.make_state_dict(keys, seed=0).items()}

    return make


@pytest.fixture(scope="session", params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where networks with seeded weights compute."""
    with used_exactly(request.param) as device:
        yield device


@pytest.fixture(scope="session")
def seeded_model(seeded_state: Callable[[str], dict[str, torch.Tensor]], device: torch.device) -> Callable[[str], SAM2]:
    """A network with seeded weights, loaded strictly."""

    @cache
    def make(name: str) -> SAM2:
        model = SAM2(CONFIGS[name])
        model.load_state_dict(seeded_state(name), strict=True)
        return model.to(device).eval()

    return make


@pytest.fixture(scope="session")
def truck(reference_folder: Path) -> np.ndarray:
    """(256, 384, 3) uint8."""
    return np.asarray(Image.open(existing(reference_folder / "golden" / "truck_384x256.png")).convert("RGB"))


@pytest.fixture(scope="session")
def bedroom(reference_folder: Path) -> np.ndarray:
    """(8, 192, 320, 3) uint8."""
    folder = existing(reference_folder / "golden" / "video_frames")
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))])
