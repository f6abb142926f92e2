"""``napari-sam2 download``: download a released checkpoint before its first use."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_sam2.cli._terminal import say
from napari_sam2.weights.downloads import download_model

__all__ = ["download"]


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a model, as listed by 'napari-sam2 models'.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")] = False,
) -> None:
    """Download a released checkpoint, verify its SHA-256, and print its path.

    A complete file is not downloaded again. Ctrl-C leaves nothing behind.
    NAPARI_SAM2_MIRROR is the address of a mirror, NAPARI_SAM2_CACHE another folder, and
    NAPARI_SAM2_OFFLINE_FOLDER a folder with files to use instead of downloading.
    """
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, desc=name, disable=quiet or None, delay=0.2) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        path = download_model(name, progress=show)
    say(path)
