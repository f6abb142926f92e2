"""``napari-sam2 models``: list the models and their files."""

from __future__ import annotations

from napari_sam2.cli._terminal import say
from napari_sam2.weights.downloads import CACHE_VARIABLE, ModelInfo, cache_folder, list_models

__all__ = ["models"]


def models() -> None:
    """List the models: size, licence, whether each is on this computer, and where.

    A model that is not present is downloaded on first use, or with 'napari-sam2 download NAME'.
    """
    rows = [("name", "parameters", "size", "licence", "present", "where"), *(_row(info) for info in list_models())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            text.rjust(width) if column in (1, 2) else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        say("  ".join(cells).rstrip())
    say(f"\nDownloads are stored in {cache_folder()}; set {CACHE_VARIABLE} for another folder.")


def _row(info: ModelInfo) -> tuple[str, ...]:
    where = str(info.path) if info.is_present else info.url or "missing from this installation"
    return (
        info.name,
        f"{info.parameters / 1e6:.1f} M",
        f"{info.size_mb:.0f} MB",
        info.licence,
        "yes" if info.is_present else "no",
        where,
    )
