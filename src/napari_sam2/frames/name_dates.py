"""Dates in the names of files, rewritten so that they sort in the order of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from napari_sam2._errors import warn_caller

__all__ = ["dates_in_order"]

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?<![a-z])(?P<m>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)(?![a-z])"
)
_SPACE = r"[-._ ,]{0,2}"
_DAY = r"(?<!\d)(?P<d>\d{1,2})(?:st|nd|rd|th)?(?!\d)"
_YEAR = r"(?<!\d)(?P<y>(?:19|20)\d\d)(?!\d)"
_WITH_MONTHS = tuple(
    re.compile(_SPACE.join(parts), re.IGNORECASE)
    for parts in (
        (_YEAR, _MONTH, _DAY),
        (_DAY, _MONTH, _YEAR),
        (_MONTH, _DAY, _YEAR),
        (_YEAR, _MONTH),
        (_MONTH, _YEAR),
        (_DAY, _MONTH),
        (_MONTH, _DAY),
        (_MONTH,),
    )
)
_LONG = re.compile(r"(?<!\d)(?P<a>\d{1,2})(?P<s>[-._ ])(?P<b>\d{1,2})(?P=s)(?P<y>(?:19|20)\d\d)(?!\d)")
_COMPACT = re.compile(r"(?<!\d)(?P<a>\d\d)(?P<b>\d\d)(?P<y>(?:19|20)\d\d)(?!\d)")
_SHORT = re.compile(r"(?<!\d)(?P<a>\d\d)(?P<s>[-._])(?P<b>\d\d)(?P=s)(?P<y>\d\d)(?!\d)")
_CLOCK = re.compile(
    r"(?<!\d)(?P<h>\d{1,2})(?P<rest>(?:[-.:_h ]\d\d){1,2})[ _-]?(?P<half>[ap])\.?m(?![a-z])", re.IGNORECASE
)
_SHORT_YEARS = range(10, 40)  # that two digits may mean
_MAX_YEARS = 2  # of a series, where a year is not certain


class _Date(NamedTuple):
    year: int
    month: int
    day: int

    @property
    def text(self) -> str:
        return f"date{self.year:04d}_{self.month:02d}_{self.day:02d}"


def dates_in_order(names: Sequence[str], folder: str = "") -> list[str]:
    """Names with the year, month and day of their dates in this order, and with hours from 0 to 23.

    Parameters
    ----------
    names : sequence of str
        Names of files, with ASCII digits. Nothing is changed unless all have a date of one kind: ``02-01-2026``,
        ``02012026``, ``02-01-26``, ``2 Jan 2026``, ``Jan 2``.
    folder : str, optional
        Where they are, for warnings. Default: there are none.

    Returns
    -------
    list of str
        For sorting only.

    Warns
    -----
    UserWarning
        If the order depends on whether the day or the month is first, or the last two digits are a year.
    """
    texts = list(names)
    if len(texts) < 2:
        return texts
    texts = _with_hours(texts)
    for pattern in _WITH_MONTHS:
        found = _one_each(pattern, texts)
        if found is not None:
            return _replaced(texts, found, [_named_date(match).text for match in found])
    for pattern, is_plausible in ((_LONG, None), (_COMPACT, _is_compact), (_SHORT, _is_short)):
        found = _one_each(pattern, texts)
        if found is not None and (is_plausible is None or is_plausible(found)):
            return _numeric(texts, found, folder, is_certain=pattern is _LONG)
    return texts


def _one_each(pattern: re.Pattern[str], texts: Sequence[str]) -> list[re.Match[str]] | None:
    """The only match in each text; None if some have none or several."""
    found = []
    for text in texts:
        matches = list(pattern.finditer(text))
        if len(matches) != 1:
            return None
        found.append(matches[0])
    return found


def _replaced(texts: Sequence[str], found: Sequence[re.Match[str]], parts: Sequence[str]) -> list[str]:
    return [
        text[: match.start()] + part + text[match.end() :]
        for text, match, part in zip(texts, found, parts, strict=True)
    ]


def _with_hours(texts: list[str]) -> list[str]:
    """Hours of am and pm as those of a day."""
    found = _one_each(_CLOCK, texts)
    if found is None:
        return texts
    hours = [int(match["h"]) % 12 + 12 * (match["half"].lower() == "p") for match in found]
    return _replaced(texts, found, [f"{hour:02d}{match['rest']}" for hour, match in zip(hours, found, strict=True)])


def _named_date(match: re.Match[str]) -> _Date:
    given = match.groupdict()
    return _Date(int(given.get("y") or 0), 1 + _MONTHS.index(match["m"][:3].lower()), int(given.get("d") or 0))


def _numeric(texts: list[str], found: Sequence[re.Match[str]], folder: str, *, is_certain: bool) -> list[str]:
    firsts, seconds = [int(match["a"]) for match in found], [int(match["b"]) for match in found]
    years = [int(match["y"]) for match in found]
    if not all(1 <= number <= 31 for number in firsts + seconds):
        return texts
    if max(firsts) > 12 and max(seconds) > 12:
        if is_certain and folder:
            warn_caller(
                f"some dates in the names of {folder} have the day first, some the month, such as "
                f"{found[firsts.index(max(firsts))][0]} and {found[seconds.index(max(seconds))][0]}; files are in the "
                "order of the numbers: write the year first (2026-01-31)"
            )
        return texts
    by_day = [_Date(*each) for each in zip(years, seconds, firsts, strict=True)]
    by_month = [_Date(*each) for each in zip(years, firsts, seconds, strict=True)]
    dates = by_month if max(seconds) > 12 else by_day
    is_doubtful = max(firsts + seconds) <= 12 and _order(by_day) != _order(by_month)
    plain = list(zip(firsts, seconds, years, strict=True))
    if folder and (is_doubtful or (not is_certain and _order(dates) != _order(plain))):
        last = found[_order(dates)[-1]][0]
        first = "month" if dates is by_month else "day"
        warn_caller(
            f"the dates in the names of {folder} are read with the {first} first and the year last, so that {last} is "
            "the latest; if that is wrong, write the year first (2026-01-31)"
        )
    return _replaced(texts, found, [date.text for date in dates])


def _order(values: Sequence[tuple[int, ...]]) -> list[int]:
    return sorted(range(len(values)), key=values.__getitem__)


def _is_compact(found: Sequence[re.Match[str]]) -> bool:
    """Whether eight digits are day, month and year, not the year first or a counter."""
    years = {match["y"] for match in found}
    year_first = all(
        match[0][:2] in ("19", "20") and 1 <= int(match[0][4:6]) <= 12 and 1 <= int(match[0][6:]) <= 31
        for match in found
    )
    return not year_first and len(years) <= _MAX_YEARS


def _is_short(found: Sequence[re.Match[str]]) -> bool:
    """Whether the last of three numbers of two digits are likely to be years, and the first are not."""

    def may_be_years(name: str) -> bool:
        values = {int(match[name]) for match in found}
        return len(values) <= _MAX_YEARS and values <= set(_SHORT_YEARS)

    return may_be_years("y") and not may_be_years("a")
