"""The drawings of the architecture page are the imports of the package."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

from places import ROOT

SOURCE = ROOT / "src" / "napari_sam2"
BASE = (
    "_types",
    "_arguments",
    "_checks",
    "_dask",
    "_errors",
    "_files",
    "_messages",
    "_packed_mask",
    "_threads",
    "_torch_import",
)
Arrows = set[tuple[str, str]]


@functools.cache
def imported_modules(path: Path) -> list[tuple[str, ...]]:
    """Places in the package that a module imports, also inside functions and for type checking."""
    found: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(*str(node.module).split("."), alias.name) for alias in node.names]
    return [name[1:] for name in found if name[0] == "napari_sam2"]


def imports_between_rooms(inside: str | None) -> Arrows:
    """Rooms of the package, or of one of its rooms, and the rooms that they import."""
    start = () if inside is None else (inside,)
    arrows = set()
    for path in SOURCE.joinpath(*start).rglob("*.py"):
        importer = path.relative_to(SOURCE).with_suffix("").parts
        if importer[-1] in ("__init__", "__main__"):
            continue
        for imported in imported_modules(path):
            if imported[: len(start)] != start or len(imported) <= len(start):
                continue
            ends = (importer[len(start)], imported[len(start)])
            arrows.add(tuple("base" if end in BASE else end for end in ends))
    return {(a, b) for a, b in arrows if a != b}


def drawn_arrows(heading: str) -> Arrows:
    """Arrows of the first drawing under a heading."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    drawing = page.split(f"## {heading}\n", 1)[1].split("```mermaid\n", 1)[1].split("```", 1)[0]
    return set(re.findall(r"(\w+) --> (\w+)", drawing))


def reachable(arrows: Arrows, start: str) -> set[str]:
    found: set[str] = set()
    new = {start}
    while new:
        new = {b for a, b in arrows if a in new} - found
        found |= new
    return found


@pytest.mark.parametrize(
    ("heading", "inside"),
    [
        ("The rooms", None),
        ("Inside `inference`", "inference"),
        ("Inside `batch`", "batch"),
        ("Inside `session`", "session"),
    ],
    ids=["package", "inference", "batch", "session"],
)
def test_each_arrow_is_an_import_and_each_import_follows_from_the_arrows(heading: str, inside: str | None) -> None:
    drawn, imported = drawn_arrows(heading), imports_between_rooms(inside)
    assert drawn - imported == set()
    assert {(a, b) for a, b in imported if b not in reachable(drawn, a)} == set()
    rooms = {end for arrow in imported for end in arrow}
    assert [room for room in sorted(rooms) if room in reachable(drawn, room)] == []  # no circles
    assert {end for arrow in drawn for end in arrow} == rooms
