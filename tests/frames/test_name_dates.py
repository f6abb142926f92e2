"""Dates in the names of files are in the order of time, or the order that was chosen is told."""

from __future__ import annotations

import random

import pytest

from napari_sam2.frames.file_names import by_numbers, grid_of_names

IN_ORDER = {
    "year first": ["2025-12-31", "2026-01-02", "2026-01-10", "2026-02-01"],
    "day first": ["28-01-2026", "02-02-2026", "01-03-2026", "05-01-2027"],
    "month first": ["01-28-2026", "02-02-2026", "03-01-2026", "01-05-2027"],
    "points": ["a 28.1.2026 b", "a 2.2.2026 b", "a 10.2.2026 b"],
    "same by day and by month": ["x_01_02_2026", "x_03_04_2026", "x_01_01_2027"],
    "compact, year first": ["scan20260128", "scan20260202", "scan20260301"],
    "month and day": ["Jan 2", "Jan 10", "Feb 1", "Dec 3"],
    "month, day and year": ["Dec 31, 2025", "January 2, 2026", "Feb 1, 2026"],
    "day, month and year": ["x_30-Dec-2025_a", "x_2-Jan-2026_a", "x_1-Apr-2026_a"],
    "without separators": ["05Mar2026", "02Apr2026", "01May2026"],
    "months": ["January", "February", "march", "August"],
    "year and month": ["2025_Dec", "2026_Jan", "2026_Apr"],
    "hours of half a day": ["at 9-15 am", "at 11-30 AM", "at 12-05 pm", "at 1-15 PM"],
    "date and hour": ["2-Jan-2026 11.30 am", "2-Jan-2026 01.30 pm", "1-Feb-2026 09.00 am"],
    "counters, no dates": ["00012026", "01012026", "02002026"],
    "times, no dates": ["09-59-58", "10-00-01", "10-00-59", "11-12-13"],
}


@pytest.mark.parametrize("kind", IN_ORDER)
def test_dates_are_in_the_order_of_time(kind, recwarn):
    names = IN_ORDER[kind]
    mixed = random.Random(1).sample(names, len(names))
    assert [mixed[at] for at in by_numbers(mixed, "folder")] == names
    assert grid_of_names(mixed, "folder") is None
    assert not recwarn


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["01-03-2026", "02-01-2026", "03-02-2026"], "day first and the year last, so that 01-03-2026 is the latest"),
        (["x28012026", "x02022026", "x01032026"], "day first and the year last, so that 01032026 is the latest"),
        (["30-01-26", "02-02-26", "01-03-26"], "day first and the year last, so that 01-03-26 is the latest"),
        (["31-01-2026", "01-31-2026"], "some dates in the names of folder have the day first, some the month"),
    ],
    ids=["day or month", "compact", "year of two digits", "both"],
)
def test_dates_whose_order_is_in_doubt_are_told(names, message):
    with pytest.warns(UserWarning, match=message):
        by_numbers(names, "folder")


def test_a_date_before_other_numbers_leaves_these_their_axes():
    names = [f"2-Jan-2026_t{t}_z{z}" for t in range(2) for z in range(3)]
    grid = grid_of_names(names, "folder")
    assert grid is not None
    assert (grid.axes, grid.shape) == ("TZ", (2, 3))
