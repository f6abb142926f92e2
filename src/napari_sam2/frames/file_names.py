"""Numbers in the names of files: their order, and axes as microscopes write them, ``img_t003_z01_ch0.tif``."""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from napari_sam2._errors import FrameError, warn_caller
from napari_sam2.frames.name_dates import dates_in_order

__all__ = ["FileGrid", "by_numbers", "grid_of_names"]

_DIGITS = re.compile(r"(\d+)")
_MINUS = "-\N{MINUS SIGN}"
_SIGNS = f"{_MINUS}+"
_POINTS = (".", ",")
_SHOWN = 3  # names in a message

_WORDS = {
    "t": "T",
    "time": "T",
    "timepoint": "T",
    "z": "Z",
    "c": "C",
    "ch": "C",
    "channel": "C",
    "w": "C",  # wavelengths of MetaMorph
    "p": "P",
    "pos": "P",
    "position": "P",
    "s": "P",
    "scene": "P",
    "series": "P",
    "f": "P",
    "fov": "P",
    "field": "P",
    "xy": "P",
    "m": "M",
}
_ALONE = {"t", "time", "timepoint", "ch", "channel", "pos", "position", "fov", "scene"}  # clear without other axes
_HARMONY = {"f": "P", "p": "Z", "ch": "C", "sk": "T"}  # of Opera and Operetta: r01c02f03p04-ch1sk1fk1fl1
_IS_HARMONY = re.compile(r"r\d+c\d+f\d+p\d+-ch\d+sk\d+", re.IGNORECASE)
_EVOS = {"f": "P", "d": "C", "z": "Z", "t": "T"}  # d: dyes
_IS_EVOS = re.compile(r".*_(?P<W>[A-P]\d\d)f\d+d\d+", re.IGNORECASE)  # scan_Plate_R_p00_z00_0_A01f00d0
_MICRO_MANAGER = re.compile(r"img_(?P<T>\d{9})_(?P<C>.+)_(?P<Z>\d{3,})")  # 1.4; C is the name of the channel
_WITH_NAMED_CHANNELS = (  # in groups of the letters of axes, W of the well, and N of numbers that order the channels
    _MICRO_MANAGER,
    re.compile(r".*--W(?P<W>\d+)--P(?P<P>\d+)--Z(?P<Z>\d+)--T(?P<T>\d+)--(?P<C>.+)"),  # scan^R
    re.compile(  # IN Cell Analyzer
        r"(?P<W>[A-P] - \d+)\(fld (?P<P>\d+) wv (?P<C>.+?)( z (?P<Z>\d+))?( time (?P<T>\d+))?\)", re.IGNORECASE
    ),
    re.compile(  # Incucyte, with the time since the start or the date: VID1_Phase_A1_1_00d02h00m
        r"(?:.*_)?(?P<C>[^_]+)_(?P<W>[A-P]\d{1,2})_(?P<P>\d+)_(?P<T>(?:\d+y\d\dm)?\d+d_?\d\dh\d\dm)", re.IGNORECASE
    ),
    re.compile(  # Gen5 of BioTek: A1_01_2_4_GFP_001 is well, run, channel, field, name of the channel and time
        r"(?P<W>[A-Z]{1,2}\d{1,2})_(?P<N>-?\d+_\d+)_(?P<P>\d+)(?:Z(?P<Z>\d+))?_(?P<C>[^_]+)_-?(?P<T>\d+)"
    ),
    re.compile(r"-(?P<W>[A-P]\d{3})--PO(?P<P>\d+)--LO(?P<T>\d+)--(?P<C>CO\d+)--SL(?P<Z>\d+)--PX\d+.*"),  # Acquifer
)
_META_XPRESS = re.compile(  # with a GUID for each file: plate_A01_s1_w1B4A0D9E2-5B3C-4F43-9C53-2F1B6A7C8D9E
    r"(?P<name>.+_w\d)_?[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}", re.IGNORECASE
)
_IS_NIKON = re.compile(r".*[a-z]xy\d+([ztc]\d+)+", re.IGNORECASE)  # name and positions together: cellsxy01z02c1
_WELL = re.compile(r"r\d+c\d+", re.IGNORECASE)
_WELL_OF_META_XPRESS = re.compile(r"_([A-P]\d\d)(?:_s\d+)?_w\d$", re.IGNORECASE)
_LAST_WORD = re.compile(r"(?P<word>[A-Za-z]+)[ _-]?$")
_NOT_DIGITS = re.compile(r"\D")
_DATE = re.compile(r"date\d{4}_\d\d_\d\d|(?<!\d)(?:19|20)\d\d([-_. ]?)[01]\d\1[0-3]\d(?!\d)")
_COPY = re.compile(r"(?P<original>.*?)( \(\d+\)|\(\d+\)| - Copy( \(\d+\))?| copy( \d+)?)", re.IGNORECASE)
_ORDER = "PMTCZ"
_MIN_GRID = 0.75  # share of the combinations of two numbers that are files, from which these are counted independently
_BASES = (60, 24)  # minutes of an hour, hours of a day


class FileGrid(NamedTuple):
    """Files along axes.

    Attributes
    ----------
    axes : str
        Letters of the axes along which the numbers in the names vary, of ``PMTCZ`` in this order.
    shape : tuple of int
        Their lengths.
    order : tuple of int
        Index of the file at each place, the last axis fastest.
    channels : tuple of str
        Names of the channels, where the names of the files hold them.
    """

    axes: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    channels: tuple[str, ...] = ()


class _Named(NamedTuple):
    """The place of each file along axes, and the names of the channels in their order."""

    places: list[dict[str, Decimal]]
    channels: tuple[str, ...]


def grid_of_names(names: Sequence[str], folder: str, channels: Sequence[str] = ()) -> FileGrid | None:
    """The axes along which files are numbered by words for axes, such as ``t``, ``z``, ``ch`` and ``pos``.

    Parameters
    ----------
    names : sequence of str
        Names of the files, without suffixes.
    folder : str
        Where they are, for messages.
    channels : sequence of str, optional
        Names of the channels in their order, for files that Micro-Manager names after them. Default: alphabetical.

    Returns
    -------
    FileGrid or None
        None if no such word has a number that varies, or a number is missing in some names.

    Raises
    ------
    FrameError
        If the numbers vary along several axes and some files are missing, or several wells are mixed.
    """
    meta_xpress = _meta_xpress(names)
    is_meta_xpress = meta_xpress is not None
    names = meta_xpress or names
    wells = {well[0].lower() for name in names if _IS_HARMONY.match(name) and (well := _WELL.findall(name))}
    if is_meta_xpress:
        wells = {match[1].lower() for name in names if (match := _WELL_OF_META_XPRESS.search(name))}
    evos = [match["W"].lower() for name in names if (match := _IS_EVOS.fullmatch(name)) is not None]
    is_evos = len(evos) == len(names)
    _check_one_well(wells | (set(evos) if is_evos else set()), folder)
    texts = dates_in_order([_plain(name) for name in names])
    numbered = _numbered(texts)
    named = _with_named_channels(names, channels, folder)
    found = (
        [_axes_of(name, numbers) for name, numbers in zip(names, numbered, strict=True)]
        if named is None
        else named.places
    )
    letters = [axis for axis in _ORDER if len({each.get(axis) for each in found}) > 1]
    is_unclear = not letters or any(axis not in each for each in found for axis in letters)
    is_known = is_meta_xpress or is_evos or named is not None
    if is_unclear or (len(letters) == 1 and not is_known and not _is_clear(numbered, letters[0])):
        if not _tell_series(names, texts, numbered, folder):
            _tell_numbers(names, texts, numbered, folder)
        return None
    numbers = {axis: sorted({each[axis] for each in found}) for axis in letters}
    grid = itertools.product(*numbers.values())  # may be far larger than the number of files
    places = {tuple(each[axis] for axis in letters): index for index, each in enumerate(found)}
    if len(places) < len(names):  # other numbers tell them apart
        if not _tell_series(names, texts, numbered, folder):
            _tell_shared(names, [tuple(each[axis] for axis in letters) for each in found], letters, folder)
        return None
    shape = tuple(len(numbers[axis]) for axis in letters)
    if len(places) < math.prod(shape):
        missing = next(place for place in grid if place not in places)
        lengths = ", ".join(f"{n} of {axis}" for axis, n in zip(letters, shape, strict=True))
        where = ", ".join(f"{axis}={number}" for axis, number in zip(letters, missing, strict=True))
        raise FrameError(
            f"the files of {folder} are numbered along several axes ({lengths}), and {math.prod(shape) - len(places)} "
            f"of {math.prod(shape)} are missing, such as the one with {where}; add them, or move the files of one axis "
            "to a folder of their own"
        )
    order = tuple(places[place] for place in grid)
    return FileGrid("".join(letters), shape, order, () if named is None else named.channels)


def _tell_series(
    names: Sequence[str], texts: Sequence[str], numbered: Sequence[Sequence[_Number]], folder: str
) -> bool:
    """Warn of several series of numbers under different names, such as ``DAPI_1`` and ``GFP_1``; whether there are."""
    series: dict[tuple[str, ...], list[str]] = {}
    for name, text, numbers in zip(names, texts, numbered, strict=True):
        if numbers and _COPY.fullmatch(name) is None:
            words = (*(number.before.lower() for number in numbers), _DIGITS.split(text)[-1].lower())
            series.setdefault(words, []).append(name)
    if len(series) < 2 or min(len(each) for each in series.values()) < 2:
        return False
    shown = " and ".join(sorted(each[0] for each in series.values())[:2])
    warn_caller(
        f"{folder} holds {len(series)} series of files, such as {shown}, which are all read as the frames of one "
        "stack, in the order of their names; if they are channels or several images, give each a folder of its own"
    )
    return True


def _tell_numbers(
    names: Sequence[str], texts: Sequence[str], numbered: Sequence[Sequence[_Number]], folder: str
) -> None:
    """Warn of names with numbers at several places that are counted independently, such as ``a_1_1`` to ``a_3_4``."""
    if len({tuple(slot for slot, _ in _slots(numbers)) for numbers in numbered}) != 1:
        return
    if len({tuple(match[0] for match in _DATE.finditer(text)) for text in texts}) > 1:  # dates are not counted so
        return
    columns = list(zip(*([number.value for number in numbers] for numbers in numbered), strict=True))
    varying = [column for column in columns if len(set(column)) > 1]
    for first, second in itertools.combinations(varying, 2):
        places = list(zip(first, second, strict=True))
        lengths = len(set(first)), len(set(second))
        pairs = set(places)
        if len(pairs) <= max(_MIN_GRID * math.prod(lengths), *lengths) or _is_clock(pairs):
            continue
        other = next(at for at, (one, two) in enumerate(places) if one != first[0] and two != second[0])
        warn_caller(
            f"the names of {folder} have two numbers that are counted independently ({lengths[0]} and {lengths[1]} "
            f"values, as in {names[0]} and {names[other]}), and all files are read as the frames of one stack, in the "
            "order of their names; if one is a time point, channel or position, write t, ch or pos before it "
            "(a_pos1_t1), or give each image a folder of its own"
        )
        return


def _is_clock(pairs: set[tuple[Decimal, Decimal]]) -> bool:
    """Whether pairs of numbers are hours and minutes, minutes and seconds, or days and hours, at equal intervals."""
    for base in _BASES:
        if all(0 <= small < base for _, small in pairs):
            times = sorted(base * large + small for large, small in pairs)
            steps = {after - before for before, after in itertools.pairwise(times)}
            if len(steps) == 1 and steps != {1}:
                return True
    return False


def _tell_shared(
    names: Sequence[str], places: Sequence[tuple[Decimal, ...]], letters: Sequence[str], folder: str
) -> None:
    """Warn of files of the same time, position, ..., which are not laid out along these axes."""
    first: dict[tuple[Decimal, ...], str] = {}
    for name, place in zip(names, places, strict=True):
        other = first.setdefault(place, name)
        if other is not name:
            where = ", ".join(f"{axis}={number}" for axis, number in zip(letters, place, strict=True))
            warn_caller(
                f"{other} and {name} in {folder} both have {where}, so that all files are read as the frames of one "
                "stack, in the order of their names; if they belong to several images, give each a folder of its own"
            )
            return


@dataclass(frozen=True, slots=True)
class _Number:
    """Digits in a name, with the text before them."""

    before: str
    whole: str
    point: str = ""  # the decimal point or comma
    fraction: str = ""
    sign: str = ""

    @property
    def value(self) -> Decimal:
        number = Decimal(f"{self.whole}.{self.fraction}") if self.point else Decimal(self.whole)
        return -number if self.sign and self.sign in _MINUS else number


def by_numbers(names: Sequence[str], folder: str = "") -> list[int]:
    """The order of names in which ``z-1`` is before ``z0``, ``z0.25`` before ``z0.5``, and ``z2`` before ``z10``.

    A hyphen is a minus only where other names have the same number without it: ``frame-1`` and ``frame-2`` are in
    this order. A point is a decimal point unless the digits after it count (``1.9``, ``1.10``). Dates are in the order
    of time, however they are written.

    Parameters
    ----------
    names : sequence of str
        Names of files, without suffixes.
    folder : str, optional
        Where they are, for warnings. Default: there are none.

    Returns
    -------
    list of int
        Indices of the names.

    Warns
    -----
    UserWarning
        If two names have the same numbers, such as ``z1`` and ``z01``, if it is not clear whether points are decimal
        points or whether days or months are first and the order depends on it, or if files are named like copies of
        others.
    """
    names = _meta_xpress(names) or names
    texts = dates_in_order([_plain(name) for name in names], folder)
    numbered = _numbered(texts, folder)
    keys = [_key(text, numbers) for text, numbers in zip(texts, numbered, strict=True)]
    order = sorted(range(len(names)), key=lambda at: (keys[at], names[at]))
    if folder:
        same = next((at for at in range(1, len(order)) if keys[order[at - 1]] == keys[order[at]]), None)
        if same is not None:
            warn_caller(
                f"{names[order[same - 1]]} and {names[order[same]]} in {folder} have the same number, and are read as "
                "two frames; if one of them is a copy, move it to another folder"
            )
        _tell_copies(names, folder)
    return order


def _tell_copies(names: Sequence[str], folder: str) -> None:
    """Warn of names such as ``a (1)`` among several that are no copies; a whole series may be named like this."""
    known = set(names)
    copies = [name for name in names if (match := _COPY.fullmatch(name)) and match["original"] in known]
    if copies and len(known) - len(copies) > 1:
        warn_caller(
            f"{len(copies)} of {len(names)} files of {folder} are named like copies of others, such as {copies[0]}, "
            "and are read as frames; if they are copies, move them to another folder"
        )


_Key = list[tuple[int, Decimal, str]]


def _key(name: str, numbers: Sequence[_Number]) -> _Key:
    key: _Key = []
    for number in numbers:
        if number.before:
            key.append((1, Decimal(0), number.before.lower()))
        key.append((0, number.value, ""))
    rest = _DIGITS.split(_plain(name))[-1]
    return [*key, (1, Decimal(0), rest.lower())] if rest else key


def _plain(name: str) -> str:
    """A name whose digits are ASCII, also if they are written in full width, raised, or in another script."""
    name = unicodedata.normalize("NFKC", name)
    return "".join(str(unicodedata.decimal(letter)) if letter.isdecimal() else letter for letter in name)


def _numbered(names: Sequence[str], folder: str = "") -> list[list[_Number]]:
    """The numbers of all names: what a hyphen or point means follows from the names together."""
    found = [_split(name) for name in names]
    signs: dict[tuple[str, ...], set[str]] = {}
    fractions: dict[tuple[str, ...], list[_Number]] = {}
    for numbers in found:
        for slot, number in _slots(numbers):
            signs.setdefault(slot, set()).add(number.sign)
            fractions.setdefault(slot, []).append(number)
    is_signed = {slot for slot, given in signs.items() if len(given) > 1 and not given.isdisjoint(_MINUS)}
    is_decimal = {slot for slot, given in fractions.items() if _is_decimal(given, folder)}
    result = []
    for numbers in found:
        read: list[_Number] = []
        for slot, number in _slots(numbers):
            if slot not in is_signed:
                number = replace(number, before=number.before + number.sign, sign="")  # noqa: PLW2901
            if number.point and slot not in is_decimal:
                read += [replace(number, point="", fraction=""), _Number(number.point, number.fraction)]
            else:
                read.append(number)
        result.append(read)
    return result


def _slots(numbers: Sequence[_Number]) -> list[tuple[tuple[str, ...], _Number]]:
    """Each number with its place: the texts up to it."""
    texts = tuple(number.before.lower() for number in numbers)
    return [(texts[: at + 1], number) for at, number in enumerate(numbers)]


def _split(name: str) -> list[_Number]:
    parts = _DIGITS.split(_plain(name))
    numbers: list[_Number] = []
    at = 0
    while at + 1 < len(parts):
        before, whole = parts[at], parts[at + 1]
        sign = before[-1:] if before[-1:] and before[-1] in _SIGNS and (at == 0 or len(before) > 1) else ""
        number = _Number(before.removesuffix(sign), whole, sign=sign)
        is_chain = before in _POINTS or parts[at + 4 : at + 5] in [[point] for point in _POINTS]  # as in 2024.01.09
        if parts[at + 2] in _POINTS and not is_chain:
            number = replace(number, point=parts[at + 2], fraction=parts[at + 3])
            at += 2
        numbers.append(number)
        at += 2
    return numbers


def _is_decimal(numbers: Sequence[_Number], folder: str) -> bool:
    """Whether the points of numbers at one place of the names are decimal points."""
    digits = {number.fraction for number in numbers if number.point}
    if len({len(each) for each in digits}) < 2:
        return bool(digits)  # the order is the same
    if any(each.startswith("0") and len(each) > 1 for each in digits):  # 1.05
        return True
    if any(each.endswith("0") and len(each) > 1 for each in digits):  # 1.9, 1.10
        return False
    if folder:
        read = sorted({number.value: f"{number.whole}{number.point}{number.fraction}" for number in numbers}.items())
        counted = sorted(numbers, key=lambda number: (Decimal(number.whole), Decimal(number.fraction or "-1")))
        if [number.value for number in counted] != sorted(number.value for number in numbers):
            shown = ", ".join(text for _, text in read[:_SHOWN])
            warn_caller(
                f"numbers in the names of {folder} are read as decimal numbers, in the order {shown}, ...; if the "
                "digits after the point count, give them one length (1.01, 1.02, ..., 1.11)"
            )
    return True


def _meta_xpress(names: Sequence[str]) -> list[str] | None:
    """Names of MetaXpress without the number at their end, which says nothing; None for other names."""
    found = [match["name"] for name in names if (match := _META_XPRESS.fullmatch(name)) is not None]
    return found if found and len(found) == len(names) else None


def _with_named_channels(names: Sequence[str], listed: Sequence[str], folder: str) -> _Named | None:
    """What names say whose channels are words, in the order listed, of their numbers, or of the alphabet; else None.

    Raises FrameError if several wells are mixed.
    """
    for pattern in _WITH_NAMED_CHANNELS:
        matches = [match.groupdict() for name in names if (match := pattern.fullmatch(name)) is not None]
        if len(matches) == len(names):
            break
    else:
        return None
    _check_one_well({match.get("W", "") for match in matches}, folder)
    order = [re.sub(r"[^\w-]", "_", name) for name in listed]  # as in names of files
    numbers: dict[str, Sequence[int]] = {}
    for each in matches:
        given = each.get("N") or ""
        numbers.setdefault(each["C"], [int(number) for number in given.split("_") if number])
    used = sorted(numbers, key=lambda channel: (numbers[channel], channel))
    channels = order if set(used) <= set(order) else list(listed) if set(used) <= set(listed) else used
    places = [
        {axis: Decimal(_NOT_DIGITS.sub("", match[axis])) for axis in "PTZ" if match.get(axis)}
        | {"C": Decimal(channels.index(match["C"]))}
        for match in matches
    ]
    return _Named(places, tuple(channels))


def _check_one_well(wells: set[str], folder: str) -> None:
    if len(wells) > 1:
        raise FrameError(f"the files of {folder} are of several wells; move those of each well to a folder of its own")


def _axes_of(name: str, numbers: Sequence[_Number]) -> dict[str, Decimal]:
    """Axis -> number in a name; nothing for an axis that is named twice."""
    words = _HARMONY if _IS_HARMONY.match(name) else _EVOS if _IS_EVOS.fullmatch(name) else _WORDS
    found: dict[str, Decimal] = {}
    twice: set[str] = set()
    for word, number in _words(numbers):
        if word.endswith("xy") and _IS_NIKON.fullmatch(name):
            word = "xy"  # noqa: PLW2901
        axis = words.get(word)
        if axis is not None:
            twice |= {axis} & found.keys()
            found[axis] = number.value
    return {axis: number for axis, number in found.items() if axis not in twice}


def _words(numbers: Sequence[_Number]) -> list[tuple[str, _Number]]:
    """Numbers after words, such as ``ch`` and 2 of ``a_ch-2``."""
    found = [(_LAST_WORD.search(number.before), number) for number in numbers]
    return [(match["word"].lower(), number) for match, number in found if match is not None]


def _is_clear(numbered: Sequence[Sequence[_Number]], axis: str) -> bool:
    """Whether the word for the only axis is clear enough; a letter such as s may stand for slices or for scenes."""
    used = {word for numbers in numbered for word, _ in _words(numbers)}
    return any(_WORDS.get(word) == axis for word in used & _ALONE)
