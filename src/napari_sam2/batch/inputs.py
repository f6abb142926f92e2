"""Which files a batch works on: folders, patterns, and lists in CSV or TOML with prompts of each file."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

from napari_sam2._errors import FrameError, OutputError, warn_caller
from napari_sam2._messages import Message, Option
from napari_sam2.batch.datasets import ImagesInFiles, folders_with_images, is_dataset_folder
from napari_sam2.batch.lists import LIST_SUFFIXES, input_path, joined, read_list
from napari_sam2.batch.pieces import Piece, Source
from napari_sam2.frames.bioio_files import PLUGINS
from napari_sam2.frames.czi_files import CZI_SUFFIX
from napari_sam2.frames.file_names import by_numbers
from napari_sam2.frames.files import IMAGE_SUFFIXES, without_label_files
from napari_sam2.frames.sources import num_positions
from napari_sam2.frames.stack import READ_ERRORS
from napari_sam2.frames.zarr_files import is_zarr, is_zarr_folder, plate_fields
from napari_sam2.frames.zarr_zip import ZARR_ZIP_SUFFIXES

__all__ = ["find_sources", "labels_of_positions", "plan_pieces", "with_labels", "with_positions"]


def find_sources(inputs: Sequence[str | os.PathLike[str]], pattern: str | None = None) -> list[Source]:
    """The files that were named, each once.

    Parameters
    ----------
    inputs : sequence of path-like
        Folders, of which all images directly inside are taken, but not masks beside them; image files; patterns such
        as ``data/*.tif``; lists (``.csv``, ``.toml``) of files with their own axes, channels, labels and prompts,
        relative to the list.
    pattern : str, optional
        Which entries of a folder are taken, such as ``**/*_ch0.tif``; folders that match are stacks of images, unless
        files in them match too.

    Returns
    -------
    list of Source
        In the order given; files of a folder or pattern in natural order.

    Raises
    ------
    FrameError
        If nothing is found, or a list cannot be read.
    """
    found: dict[tuple[Path, int | None], Source] = {}
    images = ImagesInFiles()
    if "" in inputs:  # a variable of the shell that is not set; as a path it would be this folder
        raise FrameError("an empty name was given as an input; give a folder, files or a list, or '.' for this folder")
    places = {input_path(Path(given)): given for given in inputs}  # each once
    for path, given in places.items():
        if path.suffix.lower() in LIST_SUFFIXES and _is_file(path):
            sources = read_list(path)
        else:
            files = _files(path, pattern, folders_only=str(given).endswith(("/", os.sep)))
            sources = images.of(files)
        if not sources and not images.holds_part(path):
            raise FrameError(_nothing_found(path, given, pattern))
        for source in sources:
            before = found.get(source.key)
            found[source.key] = source if before is None else joined(before, source, str(given))
    if not found:
        raise FrameError("no input was given; give a folder, files or a list (.csv, .toml)")
    return list(found.values())


def with_positions(
    sources: Sequence[Source], *, axes: str | None = None, fixed: Sequence[tuple[str, int | str]] = ()
) -> list[Source]:
    """Each position of files that hold several as an input of its own.

    Files are opened one after the other, without reading pixels. One with labels or prompts of its own stays one input:
    these are of one position.

    Parameters
    ----------
    sources : sequence of Source
        Inputs.
    axes : str, optional
        Axes of the files, except of those that have their own.
    fixed : sequence of (str, int or str), optional
        Index on further axes. If it says which position is read, nothing changes.

    Returns
    -------
    list of Source
        In the same order. A file that cannot be read is in it as it was given.
    """
    if any(axis.upper() == "P" for axis, _ in fixed):
        return list(sources)
    listed = {source.key for source in sources}
    found = []
    for source in sources:
        is_one = source.position is not None or source.labels is not None or bool(source.prompts)
        number = 1 if is_one else _num_positions(source.path, source.axes or axes)
        each = [replace(source, position=position) for position in range(number)] if number > 1 else [source]
        found += [one for one in each if one is source or one.key not in listed]
    return found


def labels_of_positions(
    image: Path, output: Path, *, axes: str | None, fixed: Sequence[tuple[str, int | str]]
) -> list[tuple[int | None, Path]]:
    """The positions of one image with the labels of each: ``labels_pos0.tif`` and so on.

    Parameters
    ----------
    image, output : Path
        The image, and labels as given.
    axes, fixed
        As for `with_positions`.

    Returns
    -------
    list of (int or None, Path)
        One entry with None and ``output`` if the image has one position, or ``fixed`` says which is read.
    """
    sources = with_positions([Source(input_path(image))], axes=axes, fixed=fixed)
    if len(sources) == 1:
        return [(None, output)]
    stem = _stem(output)
    suffix = output.name[len(stem) :]
    return [(source.position, output.with_name(f"{stem}{_position_suffix(source)}{suffix}")) for source in sources]


def _num_positions(path: Path, axes: str | None) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pieces report them
        try:
            return num_positions(path, axes)
        except (FrameError, *READ_ERRORS):  # a file that cannot be read fails by itself, and not the batch
            return 1


def plan_pieces(sources: Sequence[Source], folder: Path, suffix: str) -> list[Piece]:
    """Give each input the name of its result.

    A result has the name of its input with another suffix, in the same sub-folder; inputs that differ in their suffix
    only keep it (``a.png`` becomes ``a_png.tif``). Of a position in a file it has the number too (``a_pos0.tif``).
    Names that not all file systems tell apart, such as ``A.tif`` and ``a.tif``, get numbers, with a warning
    (``A_tif_1.tif``, ``a_tif_2.tif``).

    Raises
    ------
    OutputError
        If the suffix is unknown, or a result would overwrite an input.
    """
    from napari_sam2.labels.files import LABEL_SUFFIXES

    if suffix not in LABEL_SUFFIXES:
        raise OutputError(f"results cannot be written as {suffix}; expected {', '.join(LABEL_SUFFIXES)}")
    inputs = {source.path for source in sources}
    pieces = []
    for source, name in zip(sources, _result_names(sources), strict=True):
        output = folder / (name + suffix)
        if output in inputs or any(parent in inputs for parent in output.parents):
            raise OutputError(f"the result {output} would overwrite an input; choose another output folder")
        pieces.append(Piece(name + suffix, source, output))
    return pieces


def _result_names(sources: Sequence[Source]) -> list[str]:
    """Names of results without suffix; those of the same inputs are the same, in any order."""
    root = _common_folder([source.path for source in sources])
    folders = [source.path.relative_to(root).parent for source in sources]
    names = [(place / _source_stem(source)).as_posix() for place, source in zip(folders, sources, strict=True)]
    often = Counter(map(_as_alike, names))
    for at, source in enumerate(sources):
        if often[_as_alike(names[at])] > 1:
            own = source.path.name.replace(".", "_") + _position_suffix(source)
            names[at] = (folders[at] / own).as_posix()
    alike: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        alike.setdefault(_as_alike(name), []).append(at)
    for places in [places for places in alike.values() if len(places) > 1]:
        numbers = count(1)
        for at in sorted(places, key=lambda at: str(sources[at].path)):
            names[at] = next(free for number in numbers if _as_alike(free := f"{names[at]}_{number}") not in alike)
            alike[_as_alike(names[at])] = [at]
        first, second = places[:2]
        warn_caller(
            f"{sources[first].path} and {sources[second].path} have names that not all file systems tell apart; their "
            f"results are called {names[first]} and {names[second]}"
        )
    return names


def _as_alike(name: str) -> str:
    """Equal for names that not all file systems tell apart: capitals and the coding of accents do not count."""
    return unicodedata.normalize("NFC", name).casefold()


def with_labels(sources: Sequence[Source], template: str) -> list[Source]:
    """Give each input the labels that belong to it.

    Parameters
    ----------
    sources : sequence of Source
        Those that already have labels keep them.
    template : str
        A folder with labels of the same names, with any suffix; or a name in which ``{stem}`` and ``{folder}``
        stand for those of the input, such as ``{folder}/{stem}_cp_masks.tif``. Of a position in a file, the stem ends
        as that of its result: ``a_pos0``.

    Raises
    ------
    FrameError
        If there are none, or several, for an input.
    """
    if "{" in template:
        return [s if s.labels else replace(s, labels=_filled(template, s)) for s in sources]
    folder = input_path(template)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise FrameError(
            f"labels {template} were given ({error.strerror or error}); expected a folder, or a name with {{stem}} "
            "such as '{folder}/{stem}_cp_masks.tif'"
        ) from error
    by_stem: dict[str, list[Path]] = {}
    for path in entries:
        if not path.name.startswith("."):
            by_stem.setdefault(_stem(path), []).append(path)
    given = []
    for source in sources:
        if source.labels is None:
            stem = _source_stem(source)
            fitting = by_stem.get(stem, [])
            if len(fitting) != 1:
                names = ", ".join(path.name for path in fitting) or "none"
                raise FrameError(f"{folder} must hold one file of labels named {stem}.*; it holds {names}")
            source = replace(source, labels=fitting[0])  # noqa: PLW2901
        given.append(source)
    return given


def _filled(template: str, source: Source) -> Path:
    try:
        name = template.format(stem=_source_stem(source), folder=source.path.parent)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise FrameError(f"labels {template} were given; only {{stem}} and {{folder}} can be used in braces") from None
    return input_path(Path(name))


def _nothing_found(path: Path, given: str | os.PathLike[str], pattern: str | None) -> Message:
    """What is said of an input in which nothing is found."""
    is_list = path.suffix.lower() in LIST_SUFFIXES
    if pattern is None and path.is_dir() and (inside := folders_with_images(path)):
        return Message(
            f"{given} holds no image but folders with images, such as {inside[0]}; to process each of them as one "
            "stack, give ",
            Option("pattern", "pattern='*/'", "--pattern '*/'"),
            ", or to process each file in them, ",
            Option("pattern", "pattern='*/*.tif'", "--pattern '*/*.tif'"),
        )
    missing = "file" if is_list else f"file that matches {pattern}" if pattern else "image"
    return Message(
        f"{given} holds no {missing}; expected folders, "
        "image files, patterns in quotes such as 'data/*.tif', and lists (.csv, .toml)"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # what is wrong is told where it is searched
        return False


def _files(path: Path, pattern: str | None, *, folders_only: bool = False) -> list[Path]:
    try:
        if path.is_dir() and not is_zarr_folder(path):
            if pattern is not None:
                return _fields(_matching(path.glob(pattern), path, pattern))
            if is_dataset_folder(path):
                return [path]
            images = _sorted(p for p in path.iterdir() if not p.name.startswith(".") and _is_image(p))
            return _fields(without_label_files(path, images))
        if path.exists():
            return _fields([path])
        anchor = next((parent for parent in path.parents if not _has_magic(str(parent))), None)
        if anchor is not None and _has_magic(str(path)):
            within = path.relative_to(anchor).as_posix() + "/" * folders_only
            return _fields(_matching(anchor.glob(within), anchor, within))
    except (OSError, ValueError) as error:
        raise FrameError(f"{path} cannot be searched ({error}); give a folder, files or a pattern") from error
    raise FrameError(f"{path} does not exist; give a folder, image files, a pattern such as 'data/*.tif', or a list")


def _fields(paths: Sequence[Path]) -> list[Path]:
    """Files and folders, with all fields of plates and wells in their place."""
    found: list[Path] = []
    for path in paths:
        try:
            fields = plate_fields(path) if is_zarr(path) else ()
        except FrameError:  # a damaged folder fails by itself, and not the batch
            fields = ()
        found += fields or [path]
    return found


def _sorted(paths: Iterator[Path]) -> list[Path]:
    listed = list(paths)
    return [listed[at] for at in by_numbers([str(path) for path in listed])]


def _matching(found: Iterator[Path], root: Path, pattern: str) -> list[Path]:
    """What matches a pattern; of a folder and files in it that match, the files, or the folder if it is one image."""
    visible = _sorted(path for path in found if _is_visible(path, root))
    above = {parent for path in visible for parent in path.parents}
    matched = set(visible)
    whole = {path for path in above & matched if is_dataset_folder(path)}
    taken = [path for path in visible if path in whole or path not in above]
    taken = [path for path in taken if whole.isdisjoint(path.parents)]
    holders = {path.parent for path in taken}
    left_out = [path for path in visible if path in holders and path != root]
    if left_out and Path(pattern).name not in ("*", "**"):
        warn_caller(
            f"{pattern} matches folders, such as {left_out[0].name}, and files in them; each file is processed by "
            f"itself (to process each folder as one stack, end the pattern with /: '{pattern}/')"
        )
    return taken


def _is_visible(path: Path, root: Path) -> bool:
    inner = path.relative_to(root).parts
    return not any(part.startswith(".") for part in inner) and not any(
        part.lower().endswith(".zarr") for part in inner[:-1]
    )


def _is_image(path: Path) -> bool:
    if path.is_dir():
        return is_zarr_folder(path) or is_dataset_folder(path) or path.suffix.lower() == ".zarr"
    return path.name.lower().endswith((*IMAGE_SUFFIXES, CZI_SUFFIX, *PLUGINS, *ZARR_ZIP_SUFFIXES))


def _has_magic(text: str) -> bool:
    return any(character in text for character in "*?[")


def _stem(path: Path) -> str:
    stem = path.stem if path.suffix else path.name
    if path.name.lower().endswith(ZARR_ZIP_SUFFIXES):
        stem = stem.removesuffix(".zarr")
    return stem.removesuffix(".ome") or stem


def _source_stem(source: Source) -> str:
    return _stem(source.path) + _position_suffix(source)


def _position_suffix(source: Source) -> str:
    return "" if source.position is None else f"_pos{source.position}"


def _common_folder(paths: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError as error:  # of Windows
        raise FrameError("the inputs lie on several drives; run a batch for each drive") from error
