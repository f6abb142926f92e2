"""What commands write beside labels: pictures and tables, checked before the work and put in place whole."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from napari_sam2._checks import check_spares
from napari_sam2._errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["check_outputs", "print_table", "put_in_place", "save_picture", "save_table"]


def check_outputs(
    sources: Sequence[Path], labels: Path, others: Sequence[tuple[Path | None, str]], *, overwrite: bool
) -> None:
    """Raise OutputError unless every output can be put in its place without harm.

    Parameters
    ----------
    sources : sequence of Path
        The inputs, which are never written over or into.
    labels : Path
        The label file; its own suffix and place are checked by `LabelWriter`.
    others : sequence of (Path or None, str)
        Other outputs with the suffix each must have; None is not asked for.
    overwrite : bool
        Whether existing files may be replaced.
    """
    wanted = [(path, suffix) for path, suffix in others if path is not None]
    places = [labels.expanduser().resolve(), *(path.expanduser().resolve() for path, _ in wanted)]
    if len(set(places)) != len(places):
        raise OutputError("two outputs were given the same name; give each its own")
    for source in sources:
        for output in (labels, *(path for path, _ in wanted)):
            check_spares(output, source)
    if labels.expanduser().exists() and not overwrite:
        raise OutputError(f"{labels} exists already; choose another name, or give --overwrite")
    for path, suffix in wanted:
        place = path.expanduser()
        if place.suffix.lower() != suffix:
            raise OutputError(f"{path} was given; its name must end in {suffix}")
        if not place.parent.is_dir():
            raise OutputError(f"the folder {place.parent} does not exist; make it first, or write elsewhere")
        if place.is_dir() or (place.exists() and not overwrite):
            raise OutputError(f"{path} exists already; choose another name, or give --overwrite")


def save_picture(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a PNG, whole or not at all; raises OutputError."""
    from PIL import Image

    picture = Image.fromarray(image)
    put_in_place(path.expanduser(), lambda part: picture.save(part, format="PNG", optimize=True))


def save_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all; raises OutputError."""

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            _write_rows(file, header, rows)

    put_in_place(path.expanduser(), write)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, numbers to the right."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        typer.echo("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def _write_rows(file: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(rows)


def put_in_place(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make a file beside ``path`` and give it that name, whole or not at all; raises OutputError."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            write(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written ({reason}); free space or write elsewhere") from error
