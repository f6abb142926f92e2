"""Take the pictures of tracks in docs/images: an object lost and found, a division accepted, and a lineage tree.

The lineage needs a window; on a machine without one: ``xvfb-run -a python docs/make_track_pictures.py``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_sam2 import Prompt, Session, import_tracks, propose_divisions
from napari_sam2.labels.contact_sheet import PreviewTile, draw_contact_sheet

FOLDER = Path(__file__).parent / "images"
SIDE = 80  # pixels of the drawn movies
ENLARGED = 3  # the drawn movies are that much larger in the pictures
TREE_SIZE = (760, 600)

Cell = tuple[float, float, float, float]
"""y, x, half length along x, half width."""


def draw_movie(frames: Sequence[Sequence[Cell]], seed: int = 7) -> NDArray[np.uint8]:
    """Movie (T, H, W) of bright cells; a frame without any is blank."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:SIDE, :SIDE]
    movie = np.zeros((len(frames), SIDE, SIDE))
    for plane, cells in zip(movie, frames, strict=True):
        for cy, cx, length, width in cells:
            depth = 1 - ((x - cx) / length) ** 2 - ((y - cy) / width) ** 2
            plane[:] = np.maximum(plane, 110 * np.sqrt(depth.clip(0)))
        if cells:
            plane[:] = plane + 25 + rng.normal(0, 4, plane.shape)
    return movie.clip(0, 255).astype(np.uint8)


def tile(movie: NDArray[np.uint8], session: Session, frame: int, caption: str, clicks: bool = False) -> PreviewTile:
    """One frame with the labels that a session has now."""

    def enlarged(image: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.kron(image, np.ones((ENLARGED, ENLARGED), image.dtype))

    grey = enlarged(movie[frame])
    prompts = []
    for (object_id, plane), entry in session.store.prompts.items():
        prompt = entry.prompt
        if clicks and plane == frame and len(prompt.points):
            points = (np.asarray(prompt.points) + 0.5) * ENLARGED
            prompts.append((object_id, Prompt(points=points, labels=prompt.labels)))
    return PreviewTile(
        np.stack([grey] * 3, -1), enlarged(session.labels[frame]), f"frame {frame}: {caption}", tuple(prompts)
    )


def save(sheet: NDArray[np.uint8], output: Path) -> None:
    """Write a picture with few colours and at 5/8 of its size, which keeps the file small."""
    image = Image.fromarray(sheet)
    image.resize((image.width * 5 // 8, image.height * 5 // 8), Image.Resampling.LANCZOS).quantize(128).save(output)


def take_lost_and_found(output: Path) -> None:
    """A cell that is clicked on once, while three frames of the movie are blank."""
    blank = (3, 4, 5)
    cells = [[] if t in blank else [(40, 22 + 4 * t, 11, 8), (14 + t, 60, 9, 7)] for t in range(9)]
    movie = draw_movie(cells)
    with Session(movie) as session:
        session.add_points([[0, 40, 22]])
        session.propagate()
        shown = ((0, "clicked on"), (2, "tracked"), (4, "blank, skipped"), (6, "found again"), (8, "tracked on"))
        tiles = [tile(movie, session, frame, caption, clicks=frame == 0) for frame, caption in shown]
    save(draw_contact_sheet(tiles, zoom_in=False), output)


def take_division(output: Path) -> None:
    """A cell that is clicked on once; its division is proposed, accepted and tracked on."""
    divides = 3
    cells = [[(40, 40, 13, 8)]] * divides
    for t in range(6):
        apart = 7 + 0.9 * t
        cells.append([(40 - 0.4 * t, 40 - apart, 7, 6.5), (40 + 0.4 * t, 40 + apart, 7, 6.5)])
    movie = draw_movie(cells)
    with Session(movie) as session:
        cell = session.add_points([[0, 40, 40]])
        session.propagate()
        (found,) = propose_divisions(session)
        tiles = [
            tile(movie, session, 0, "clicked on", clicks=True),
            tile(movie, session, found.frame, "may have divided"),
        ]
        session.divide(cell, found.frame)
        tiles.append(tile(movie, session, found.frame, "accepted: two daughters"))
        session.propagate()
        tiles.append(tile(movie, session, len(movie) - 1, "both tracked on"))
    save(draw_contact_sheet(tiles, zoom_in=False), output)


def take_lineage(output: Path) -> None:
    """The tree of a movie whose labels know no parents, after all proposed divisions were accepted."""
    from qtpy.QtWidgets import QApplication

    from napari_sam2._qt.lineage_view import LineageTree, TreeTrack

    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from link_dividing_cells import dividing_movie

    labels = dividing_movie(201).labels
    with Session(np.zeros(labels.shape, np.uint8)) as session:
        import_tracks(session, labels, {})
        for found in propose_divisions(session):
            session.divide(found.object_id, found.frame, found.daughters or None)
        tracks = [
            TreeTrack(row.object, row.first, row.last, row.parent or None, f"cell {row.object}")
            for row in session.lineage.itertuples()
            if row.first >= 0
        ]
    app = QApplication.instance() or QApplication([])
    tree = LineageTree()
    tree.resize(*TREE_SIZE)
    tree.show_tracks(tracks, len(labels))
    tree.show()
    app.processEvents()
    tree.grab().save(str(output))
    tree.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", choices=["lost_and_found", "division", "lineage"])
    options = parser.parse_args()
    takes = {"lost_and_found": take_lost_and_found, "division": take_division, "lineage": take_lineage}
    for name in options.only or takes:
        takes[name](options.folder / f"{name}.png")


if __name__ == "__main__":
    main()
