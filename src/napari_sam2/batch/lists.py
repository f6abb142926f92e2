"""Lists of inputs of a batch, as CSV or TOML: files with their axes, channels, labels and prompts."""

from __future__ import annotations

import csv
import os
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_sam2._errors import FrameError
from napari_sam2._messages import shown
from napari_sam2.batch.pieces import Source

__all__ = ["LIST_SUFFIXES", "input_path", "joined", "read_list"]

LIST_SUFFIXES = (".csv", ".toml")
_PROMPTS = ("object", "point", "negative", "box", "mask")
_COLUMNS = ("file", "axes", "position", "channels", "labels", "frame", *_PROMPTS)


def read_list(path: Path) -> list[Source]:
    """The files of a list; entries of one file and position belong together.

    Raises FrameError if the list cannot be read, or an entry does not fit.
    """
    sources: dict[tuple[Path, int | None], Source] = {}
    for source, where in _entries(path):
        before = sources.get(source.key)
        sources[source.key] = source if before is None else joined(before, source, where)
    return list(sources.values())


def joined(first: Source, more: Source, where: str) -> Source:
    """Two entries of one file as one; raises FrameError if they contradict each other."""
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


def input_path(path: str | os.PathLike[str]) -> Path:
    """From the root, as workers need it; raises FrameError if it is no path."""
    if "\0" in str(path):
        raise FrameError(f"{shown(str(path))} is not a file name; a name cannot contain a null character")
    try:
        return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links stay as the user named them
    except (RuntimeError, ValueError) as error:
        raise FrameError(f"{path} is not a valid file name ({error}); give the path of a file or folder") from error


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
    rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
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
