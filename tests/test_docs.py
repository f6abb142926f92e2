"""What the documentation says of keys, pictures, pages and scripts is so."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_sam2
from factories import make_model, make_movie
from napari_sam2 import NapariSAM2Error, Session
from napari_sam2._qt.keys import SHORTCUTS
from places import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
LARGEST_PICTURE = 200_000  # bytes


def python_block(page: Path, heading: str) -> str:
    """The first block of Python under a heading."""
    text = page.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1]
    return text.split("```python\n", 1)[1].split("```", 1)[0]


def test_page_of_shortcuts_lists_them_all_in_order_and_no_other():
    page = (DOCS / "reference" / "shortcuts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \|$", page, re.MULTILINE)
    assert rows == [(shortcut.key, shortcut.text) for shortcut in SHORTCUTS]


def test_tutorials_name_only_keys_that_are_bound():
    short = {s.key.replace("Control", "Ctrl") for s in SHORTCUTS}
    for page in (DOCS / "tutorials" / "first_stack.md", DOCS / "how-to" / "correct-a-track.md"):
        named = set(re.findall(r"\*\*((?:(?:Ctrl|Shift|Alt)-)*(?:[A-Z0-9]|F\d|Delete))\*\*", page.read_text("utf-8")))
        assert named
        assert named <= short, page.name


def test_everything_on_the_page_of_python_can_be_imported_from_the_package_and_nothing_is_missing():
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    paths = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    documented = {"__version__"}
    for path in paths:
        home, _, name = path.rpartition(".")
        value = getattr(importlib.import_module(home), name)
        if name == "_errors":
            classes = {each: getattr(value, each) for each in value.__all__ if isinstance(getattr(value, each), type)}
            documented |= {each for each, of in classes.items() if issubclass(of, NapariSAM2Error)}
        else:
            assert getattr(napari_sam2, name) is value, path
            documented.add(name)
    assert documented == set(napari_sam2.__all__)


TEXTS = [*PAGES, *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "THIRD_PARTY"))]


def lines_of_text(page: Path) -> list[tuple[int, str]]:
    """Lines of a page that can be wrapped: no tables, pictures, code and addresses."""
    lines, is_code = [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code and not line.startswith(("|", "!")) and " " in line.strip():
            lines.append((number, line))
    return lines


@pytest.mark.parametrize("page", [p for p in TEXTS if p.name != "model_card.md"], ids=lambda page: page.name)
def test_lines_have_120_columns_at_most(page):
    assert [f"line {number}: {line}" for number, line in lines_of_text(page) if len(line) > 120] == []


def test_tests_that_pages_name_exist():
    defined = {n for path in TESTS for n in re.findall(r"^ *def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)}
    named = {name for page in TEXTS for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    assert named - defined == set()


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n", 1)[1]
    named = set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))
    assert named == {page.relative_to(DOCS).as_posix() for page in PAGES}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [t for t in links if "://" not in t and not (page.parent / t).resolve().is_file()] == []


def test_pictures_are_small_and_those_of_the_plugin_complete():
    pictures = [p for p in (DOCS / "images").glob("*.png") if p.name != "demo.png"]
    others = {"gallery.png", "labels_in_zarr.png", "lost_and_found.png", "division.png", "lineage.png"}
    assert len([p for p in pictures if p.name not in others]) == 6
    assert [p.name for p in pictures if p.stat().st_size > LARGEST_PICTURE] == []


def test_script_of_the_readme_is_that_of_the_page_on_scripts():
    page = python_block(DOCS / "how-to" / "script-it.md", "Without a viewer")
    assert python_block(ROOT / "README.md", "Use it in napari") == page


def test_script_runs_and_writes_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movie = make_movie(num_frames=24, hw=(64, 128))
    tifffile.imwrite("cells.ome.tif", movie, metadata={"axes": "ZYX"})
    script = python_block(DOCS / "how-to" / "script-it.md", "Without a viewer")
    assert script.count('Session("cells.ome.tif")') == 1
    scope = {"tiny": make_model(image_size=64)}
    exec(script.replace('Session("cells.ome.tif")', 'Session("cells.ome.tif", model=tiny)'), scope)
    session = scope["session"]
    session.close()
    assert (scope["nucleus"], scope["other"]) == (1, 2)
    assert sorted(set(session.scores["frame"])) == list(range(10, 17))
    np.testing.assert_array_equal(tifffile.imread("labels.ome.tif"), session.labels)
    with Session.load("cells.sam2", model=scope["tiny"]) as again:
        np.testing.assert_array_equal(again.labels, session.labels)


GALLERY = sorted((DOCS / "gallery").glob("*.py"))


@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_script_of_the_gallery_runs_on_its_own(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_every_script_of_the_gallery_is_described():
    page = (DOCS / "gallery" / "index.md").read_text(encoding="utf-8")
    described = dict(re.findall(r"^\| \[(\w+\.py)\]\(\1\) \| (.+) \|$", page, re.MULTILINE))
    assert set(described) == {script.name for script in GALLERY}
