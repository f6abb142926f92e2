"""Images that are more than one file: folders that are one image, and files that belong to one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_sam2._errors import FrameError
from napari_sam2.batch.pieces import Source
from napari_sam2.frames.file_names import by_numbers
from napari_sam2.frames.files import holds_images
from napari_sam2.frames.micro_manager import INDEX_NAME, is_folder_of_planes
from napari_sam2.frames.tiff import TIFF_SUFFIXES, ome_files

__all__ = ["ImagesInFiles", "folders_with_images", "is_dataset_folder"]

_OME_TIFF = tuple(f".ome{suffix}" for suffix in TIFF_SUFFIXES)


def is_dataset_folder(path: Path) -> bool:
    """Whether a folder is one image by what lies in it: a dataset of Micro-Manager."""
    try:
        return path.is_dir() and ((path / INDEX_NAME).is_file() or is_folder_of_planes(path))
    except OSError:  # a folder that cannot be read fails by itself, and not the batch
        return False


def folders_with_images(path: Path) -> list[str]:
    """Names of the folders inside a folder that hold images, in natural order."""
    names = [p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and holds_images(p)]
    return [names[at] for at in by_numbers(names)]


class ImagesInFiles:
    """Each image once, also where it is spread over several files, each of which opens as the whole image."""

    def __init__(self) -> None:
        self._parts: set[Path] = set()

    def holds_part(self, path: Path) -> bool:
        """Whether a file is a part of an image that was found before."""
        return path in self._parts

    def of(self, files: Sequence[Path]) -> list[Source]:
        """The images of files: of an NDTiff dataset its folder, of an OME-TIFF in several files one of them.

        Of an OME-TIFF with several positions, each of which has files of its own, these are one image for each
        position.
        """
        found = []
        indexed = {folder for folder in {file.parent for file in files} if (folder / INDEX_NAME).is_file()}
        for file in files:
            if file in self._parts:
                continue
            if file.parent in indexed and file.suffix.lower() in TIFF_SUFFIXES:
                self._parts.update(each for each in files if each.parent == file.parent)
                found.append(Source(file.parent))
                continue
            parts = _parts_of_ome_tiff(file)
            self._parts.update(parts)
            found.append(Source(file, parts=parts))
        return found


def _parts_of_ome_tiff(file: Path) -> tuple[Path, ...]:
    """The other files that hold planes of the image, or the position, in a file."""
    if not file.name.lower().endswith(_OME_TIFF) or not file.is_file():
        return ()
    try:
        images = ome_files(file)
    except FrameError:  # a damaged file fails by itself, and not the batch
        return ()
    own = next((names for names in images if file.name in names), ())
    others = (file.parent / name for name in own if name != file.name)
    return tuple(other for other in others if other.exists())
