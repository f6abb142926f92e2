"""The prompts of a session as a list of files for a batch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2 import FrameError, OutputError, Prompt
from napari_sam2.batch.inputs import find_sources
from napari_sam2.batch.journal import reserved_folder
from napari_sam2.batch.session_prompts import PROMPTS_NAME, list_with_prompts

CLICK = {(1, 0): Prompt(points=[[3, 4]], labels=[1])}


def save_image(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8))
    return path


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("cells \N{MICROSCOPE}.tif", id="beyond 16 bits"),
        pytest.param("Zelle \xe4 \u7d30\u80de.tif", id="letters"),
        *(
            pytest.param(name, id=kind, marks=pytest.mark.skipif(os.name == "nt", reason="no such names"))
            for name, kind in (('"q"\\.tif', "quotes"), ("del\x7f.tif", "delete"), ("new\nline.tif", "new line"))
        ),
    ],
)
def test_a_list_holds_names_of_any_characters(tmp_path: Path, name: str):
    path = save_image(tmp_path / "in" / name)
    given = list_with_prompts(CLICK, [tmp_path / "in"], None, tmp_path / "out")
    assert [source.path for source in find_sources([given])] == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="names are always text")
def test_a_name_that_is_no_text_is_refused(tmp_path: Path):
    save_image(tmp_path / "in" / os.fsdecode(b"\xff.tif"))
    with pytest.raises(FrameError, match=r"'.*\\udcff\.tif' is not UTF-8 .*; rename the file"):
        list_with_prompts(CLICK, [tmp_path / "in"], None, tmp_path / "out")


def test_each_position_of_a_file_gets_the_prompts(tmp_path: Path):
    (tmp_path / "in").mkdir()
    with tifffile.TiffWriter(tmp_path / "in" / "a.ome.tif", ome=True) as tif:
        for _ in range(2):
            tif.write(np.zeros((3, 8, 8), np.uint8), metadata={"axes": "ZYX"}, photometric="minisblack")
    given = list_with_prompts(CLICK, [tmp_path / "in"], None, tmp_path / "out")
    sources = find_sources([given])
    assert [(source.position, source.prompts[-1]) for source in sources] == [
        (0, ("--point", "0,4,3")),
        (1, ("--point", "0,4,3")),
    ]


def test_masks_that_are_the_same_need_no_new_results(tmp_path: Path):
    save_image(tmp_path / "in" / "a.tif")

    def fingerprint(side: int) -> str:
        mask = np.zeros((8, 8), bool)
        mask[:side, :side] = True
        given = list_with_prompts({(1, 0): Prompt(mask=mask)}, [tmp_path / "in"], None, tmp_path / "out")
        return find_sources([given])[0].fingerprint()

    fingerprint(2)
    (saved,) = (tmp_path / "out" / "prompt_masks").iterdir()
    os.utime(saved, ns=(0, 0))  # however coarse the clock
    first = fingerprint(2)
    assert saved.stat().st_mtime_ns == 0
    assert fingerprint(2) == first
    assert fingerprint(3) != first


def test_the_list_of_a_batch_that_runs_is_not_replaced(tmp_path: Path):
    save_image(tmp_path / "in" / "a.tif")
    (tmp_path / "out").mkdir()
    with reserved_folder(tmp_path / "out"), pytest.raises(OutputError, match="another batch is writing to"):
        list_with_prompts(CLICK, [tmp_path / "in"], None, tmp_path / "out")
    assert not (tmp_path / "out" / PROMPTS_NAME).exists()
    assert list_with_prompts(CLICK, [tmp_path / "in"], None, tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path):
    save_image(tmp_path / "in" / "a.tif")
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out is a file; give the name of a folder"):
        list_with_prompts(CLICK, [tmp_path / "in"], None, tmp_path / "out")
