"""The network that the small benchmarks run: the bundled one, any other, or one with starting values alone."""

from __future__ import annotations

import argparse

from napari_sam2 import NapariSAM2Error
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training.initialise import initialise
from napari_sam2.weights.loading import load_model

__all__ = ["add_model_arguments", "open_model"]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``--model`` and ``--untrained``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--model", default="sam2_micro", help="name or path for load_model (default sam2_micro)")
    group.add_argument(
        "--untrained",
        metavar="CONFIG",
        choices=sorted(CONFIGS),
        help="a configuration with seeded starting values instead of trained weights: same cost, useless masks",
    )


def open_model(options: argparse.Namespace) -> SAM2:
    """The network that the arguments name, on the CPU in float32.

    Raises
    ------
    SystemExit
        With one line, if it cannot be loaded.
    """
    if options.untrained is not None:
        model = SAM2(CONFIGS[options.untrained])
        initialise(model, seed=0)
        return model.eval()
    try:
        return load_model(options.model, device="cpu", dtype="float32")
    except NapariSAM2Error as error:
        raise SystemExit(f"error: {error}") from error
