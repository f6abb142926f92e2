"""``napari-sam2 models``: which models there are, and where they lie."""

from __future__ import annotations

import typer

from napari_sam2.weights.downloads import CACHE_VARIABLE, ModelInfo, cache_folder, list_models

__all__ = ["models"]


def models() -> None:
    """List the models by name: size, licence, whether each is present, and where it lies.

    A model that is not present is downloaded when it is first used, or with 'napari-sam2 download NAME'.
    """
    rows = [("name", "parameters", "size", "licence", "present", "where"), *(_row(info) for info in list_models())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            text.rjust(width) if column in (1, 2) else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        typer.echo("  ".join(cells).rstrip())
    typer.echo(f"\nDownloads lie in {cache_folder()} (another folder: {CACHE_VARIABLE}).")


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
