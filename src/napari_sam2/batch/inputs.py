"""Which files a batch works on: folders, patterns, and lists in CSV or TOML with prompts of each file."""

from __future__ import annotations

import csv
import os
import tomllib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_sam2._errors import FrameError, OutputError, warn_caller
from napari_sam2._messages import Message, Option, shown
from napari_sam2.batch.datasets import ImagesInFiles, folders_with_images, is_dataset_folder
from napari_sam2.batch.pieces import Piece, Source
from napari_sam2.frames.bioio_files import PLUGINS
from napari_sam2.frames.file_names import by_numbers
from napari_sam2.frames.files import IMAGE_SUFFIXES, without_label_files
from napari_sam2.frames.sources import num_positions
from napari_sam2.frames.stack import READ_ERRORS
from napari_sam2.frames.zarr_files import is_zarr, is_zarr_folder, plate_fields
from napari_sam2.frames.zarr_zip import ZARR_ZIP_SUFFIXES

__all__ = ["find_sources", "input_path", "plan_pieces", "with_labels", "with_positions"]

_LIST_SUFFIXES = (".csv", ".toml")
_PROMPTS = ("object", "point", "negative", "box", "mask")
_COLUMNS = ("file", "axes", "position", "channels", "labels", "frame", *_PROMPTS)

_Key = tuple[Path, int | None]


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
    found: dict[_Key, Source] = {}
    images = ImagesInFiles()
    places = {input_path(Path(given)): given for given in inputs}  # each once
    for path, given in places.items():
        if path.suffix.lower() in _LIST_SUFFIXES and _is_file(path):
            sources = _listed(path)
        else:
            files = _files(path, pattern, folders_only=str(given).endswith(("/", os.sep)))
            sources = images.of(files)
        if not sources and not images.holds_part(path):
            raise FrameError(_nothing_found(path, given, pattern))
        for source in sources:
            before = found.get(_key(source))
            found[_key(source)] = source if before is None else _joined(before, source, str(given))
    if not found:
        raise FrameError("no input was given; give a folder, files or a list (.csv, .toml)")
    return list(found.values())


def _key(source: Source) -> _Key:
    """Entries with the same file and position belong together."""
    return source.path, source.position


def with_positions(
    sources: Sequence[Source], *, axes: str | None = None, fixed: Sequence[tuple[str, int]] = ()
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
    fixed : sequence of (str, int), optional
        Index on further axes. If it says which position is read, nothing changes.

    Returns
    -------
    list of Source
        In the same order. A file that cannot be read is in it as it was given.
    """
    if any(axis.upper() == "P" for axis, _ in fixed):
        return list(sources)
    listed = {_key(source) for source in sources}
    found = []
    for source in sources:
        is_one = source.position is not None or source.labels is not None or bool(source.prompts)
        count = 1 if is_one else _num_positions(source.path, source.axes or axes)
        each = [replace(source, position=position) for position in range(count)] if count > 1 else [source]
        found += [one for one in each if one is source or _key(one) not in listed]
    return found


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

    Raises
    ------
    OutputError
        If the suffix is unknown, or a result would overwrite an input.
    """
    from napari_sam2.labels.files import LABEL_SUFFIXES

    if suffix not in LABEL_SUFFIXES:
        raise OutputError(f"results cannot be written as {suffix}; expected {', '.join(LABEL_SUFFIXES)}")
    root = _common_folder([source.path for source in sources])
    stems = [(source.path.relative_to(root).parent / _source_stem(source)).as_posix() for source in sources]
    often = Counter(stem.casefold() for stem in stems)
    pieces, inputs = [], {source.path for source in sources}
    named: dict[str, Source] = {}
    for source, stem in zip(sources, stems, strict=True):
        name = stem
        if often[stem.casefold()] > 1:
            own = source.path.name.replace(".", "_") + _position_suffix(source)
            name = (source.path.relative_to(root).parent / own).as_posix()
        output = folder / (name + suffix)
        if output in inputs or any(parent in inputs for parent in output.parents):
            raise OutputError(f"the result {output} would overwrite an input; choose another output folder")
        other = named.setdefault(name.casefold(), source)
        if other is not source:
            raise OutputError(
                f"{other.path} and {source.path} would have the same result, {name + suffix}; rename one of them"
            )
        pieces.append(Piece(name + suffix, source, output))
    return pieces


def with_labels(sources: Sequence[Source], template: str) -> list[Source]:
    """Give each input the labels that belong to it.

    Parameters
    ----------
    sources : sequence of Source
        Those that already have labels keep them.
    template : str
        A folder with labels of the same names, whatever their suffix; or a name in which ``{stem}`` and ``{folder}``
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


def input_path(path: str | os.PathLike[str]) -> Path:
    """From the root, as workers need it; raises FrameError if it is no path."""
    if "\0" in str(path):
        raise FrameError(f"{shown(str(path))} is not a file name; a name cannot contain a null character")
    try:
        return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links stay as the user named them
    except (RuntimeError, ValueError) as error:
        raise FrameError(f"{path} is not a valid file name ({error}); give the path of a file or folder") from error


def _nothing_found(path: Path, given: str | os.PathLike[str], pattern: str | None) -> Message:
    """What is said of an input in which nothing is found."""
    is_list = path.suffix.lower() in _LIST_SUFFIXES
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
    return path.name.lower().endswith((*IMAGE_SUFFIXES, *PLUGINS, *ZARR_ZIP_SUFFIXES))


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


def _listed(path: Path) -> list[Source]:
    """The files of a list; entries of one file belong together."""
    sources: dict[_Key, Source] = {}
    for source, where in _entries(path):
        before = sources.get(_key(source))
        sources[_key(source)] = source if before is None else _joined(before, source, where)
    return list(sources.values())


def _entries(path: Path) -> Iterator[tuple[Source, str]]:
    """The entries of a list, and where each of them is, for messages."""
    try:
        if path.suffix.lower() == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                delimiter = _delimiter(file.readline())
                file.seek(0)
                yield from _from_csv(csv.DictReader(file, delimiter=delimiter, skipinitialspace=True), path)
        else:
            with path.open("rb") as stream:
                yield from _from_toml(tomllib.load(stream), path)
    except (OSError, UnicodeDecodeError, csv.Error, tomllib.TOMLDecodeError, RecursionError) as error:
        raise FrameError(f"the list {path} cannot be read ({error}); expected CSV or TOML in UTF-8") from error


def _delimiter(header: str) -> str:
    """Of a table: where the comma divides decimals, programs write semicolons; copied cells have tabs."""
    return max(",;\t", key=header.count)


def _from_csv(rows: csv.DictReader[str], path: Path) -> Iterator[tuple[Source, str]]:
    """Each row is a prompt, or describes the file."""
    rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
    twice = [name for name, count in Counter(rows.fieldnames).items() if count > 1]
    if twice:
        raise FrameError(
            f"{path} has the column {shown(twice[0])} twice; give further prompts of a file in lines of their own"
        )
    _check_columns(rows.fieldnames, path)
    for row in rows:
        values = {name: value.strip() for name, value in row.items() if isinstance(value, str) and value.strip()}
        if not values:
            continue
        where = f"line {rows.line_num} of {path}"
        if None in row:
            raise FrameError(f'{where} has more values than columns; put coordinates in quotes, such as "10,84,120"')
        yield _source(values, path, where), where


def _joined(first: Source, more: Source, where: str) -> Source:
    for name in ("axes", "channels", "labels"):
        one, other = getattr(first, name), getattr(more, name)
        if one is not None and other is not None and one != other:
            raise FrameError(f"{where} gives {first.path.name} other {name} than before; give them once")
    return replace(
        first,
        axes=first.axes or more.axes,
        channels=first.channels or more.channels,
        labels=first.labels or more.labels,
        frames=tuple(dict.fromkeys((*first.frames, *more.frames))),
        prompts=first.prompts + more.prompts,
    )


def _from_toml(document: Mapping[str, object], path: Path) -> Iterator[tuple[Source, str]]:
    """``[[files]]`` tables; a prompt may be a list of texts. ``objects`` are tables of prompts of one object each."""
    entries = document.get("files")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or len(document) > 1:
        raise FrameError(f'{path} must consist of [[files]] tables, each with file = "NAME"')
    for number, entry in enumerate(entries, start=1):
        where = f"[[files]] number {number} of {path}"
        objects = entry.get("objects", [])
        if not isinstance(objects, list) or not all(isinstance(part, dict) for part in objects):
            raise FrameError(f"{where}: objects must be [[files.objects]] tables")
        own = {name: value for name, value in entry.items() if name != "objects"}
        _check_columns(own, path)
        source = _source({name: value for name, value in own.items() if name not in _PROMPTS}, path, where)
        prompts = list(_prompts(own, path))
        for part in objects:
            if not part.keys() <= set(_PROMPTS):
                raise FrameError(f"{where}: [[files.objects]] may have {', '.join(_PROMPTS)}")
            prompts += _prompts(part, path)
        yield replace(source, prompts=tuple(prompts)), where


def _source(values: Mapping[str, object], path: Path, where: str) -> Source:
    texts = {name: _text(values[name], name, where) for name in ("file", "axes", "labels") if name in values}
    if "file" not in texts:
        raise FrameError(f"{where} names no file; the column file is needed")
    return Source(
        path=_listed_path(texts["file"], path),
        axes=texts.get("axes"),
        channels=_channels(values["channels"], where) if "channels" in values else None,
        labels=_listed_path(texts["labels"], path) if "labels" in texts else None,
        frames=_integers(values["frame"], "frame", where) if "frame" in values else (),
        position=_position(values["position"], where) if "position" in values else None,
        prompts=tuple(_prompts(values, path)),
    )


def _text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise FrameError(f"{where}: {name} {shown(value)} was given; expected a non-empty string")
    return value


def _listed_path(name: str, path: Path) -> Path:
    """A file that a list names: relative to the list, unless it begins with / or ~/."""
    return input_path(name if name.startswith("~/") else path.parent / name)


def _prompts(values: Mapping[str, object], path: Path) -> Iterator[tuple[str, str]]:
    """Options of ``napari-sam2 track``, in the order that it needs; files of masks are relative to the list."""
    for name in _PROMPTS:
        given = values.get(name, [])
        is_several = isinstance(given, list) and not (given and all(isinstance(value, int | float) for value in given))
        for value in given if isinstance(given, list) and is_several else [given]:
            if isinstance(value, list):
                text = ",".join(map(str, value))
            else:
                text = "".join(str(value).split()) if name != "mask" else _mask(str(value), path)
            yield f"--{name}", text


def _mask(value: str, path: Path) -> str:
    """``FILE`` or ``FRAME:FILE`` with an absolute name."""
    index, colon, name = value.partition(":")
    has_frame = bool(colon) and index.isdecimal()
    place = _listed_path(name if has_frame else value, path)
    return f"{index}:{place}" if has_frame else str(place)


def _channels(value: object, where: str) -> tuple[int | str, ...]:
    """Numbers and names of channels; a text without commas is one name, unless it consists of numbers."""
    if isinstance(value, list):
        parts = [str(part).strip() for part in value]
    else:
        parts = [part.strip() for part in str(value).split(",")]
        apart = str(value).replace(",", " ").split()
        if all(part.isascii() and part.isdecimal() for part in apart):
            parts = apart
    if not parts or not all(parts):
        raise FrameError(f"{where}: channels {value} was given; expected numbers or names, such as 0 or 0,2 or DAPI")
    return tuple(int(part) if part.isascii() and part.isdecimal() else part for part in parts)


def _position(value: object, where: str) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal()):
        raise FrameError(
            f"{where}: position {value} was given; expected one integer from 0 (give further positions of a file in "
            "entries of their own)"
        )
    return int(text)


def _integers(value: object, name: str, where: str) -> tuple[int, ...]:
    parts = value if isinstance(value, list) else str(value).replace(",", " ").split()
    try:
        return tuple(int(str(part)) for part in parts)
    except ValueError:
        raise FrameError(f"{where}: {name} {value} was given; expected integers, such as 0 or 0,2") from None


def _check_columns(names: Sequence[str] | Mapping[str, object], path: Path) -> None:
    unknown = [name for name in names if name not in _COLUMNS]
    if unknown or "file" not in names:
        what = f"has the unknown column {shown(unknown[0])}" if unknown else "has no column file"
        raise FrameError(f"{path} {what}; expected {', '.join(_COLUMNS)}")
