"""The benchmark of automatic labels: its baseline, its files for the Cell Tracking Challenge, its report."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from places import BENCHMARKS

pytest.importorskip("psutil")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("automatic")


def discs() -> np.ndarray:
    """Two discs that touch, and one apart."""
    y, x = np.mgrid[:60, :80]
    labels = np.zeros((60, 80), int)
    for number, (cy, cx) in enumerate(((20, 20), (20, 38), (45, 65)), start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 < 81] = number
    return labels


@pytest.mark.parametrize("is_dark", [False, True])
def test_baseline_splits_touching_discs_of_either_sign(benchmark: ModuleType, is_dark: bool):
    truth = discs()
    image = np.where((truth > 0) ^ is_dark, 200, 20).astype(np.uint8)
    labels = benchmark.otsu_watershed(image, has_channels=False)
    assert benchmark.average_precision(truth, labels).at(0.8).num_matched == 3
    colours = benchmark.otsu_watershed(np.repeat(image[..., None], 3, axis=-1), has_channels=True)
    np.testing.assert_array_equal(colours, labels)


def test_baseline_of_movies_keeps_names_through_frames(benchmark: ModuleType):
    truth = np.stack([np.roll(discs(), shift, axis=1) for shift in (0, 2, 4)])
    image = np.where(truth > 0, 200, 20).astype(np.uint8)
    found = benchmark.classical(benchmark.Case(image, truth, "TYX"))
    for number in (1, 2, 3):
        names = {int(np.bincount(found[t][truth[t] == number]).argmax()) for t in range(3)}
        assert len(names) == 1


def test_an_object_that_appears_gets_a_name_of_its_own(benchmark: ModuleType):
    first, second = np.zeros((2, 8, 8), np.int32)
    first[:4, :4] = 1
    second[:4, :4], second[6:, 6:] = 2, 1
    tracks = benchmark.linked([first, second])
    assert tracks[1, 0, 0] == 1
    assert tracks[1, 7, 7] == 2


def test_flat_image_has_no_object(benchmark: ModuleType):
    assert not benchmark.otsu_watershed(np.full((20, 20), 7, np.uint8), has_channels=False).any()


def test_track_that_pauses_goes_on_as_its_own_child(benchmark: ModuleType):
    labels = np.zeros((6, 4, 4), int)
    labels[[0, 1, 3, 4, 5], 0] = 70
    labels[2:4, 2] = 9
    planes, tracks = benchmark.unbroken(labels)
    assert tracks == [(1, 2, 3, 0), (2, 0, 1, 0), (3, 3, 5, 2)]
    assert [int(plane[0, 0]) for plane in planes] == [2, 2, 0, 3, 3, 3]
    np.testing.assert_array_equal(planes > 0, labels > 0)


def test_report_has_both_methods_for_images_and_stacks(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    truth = np.stack([discs()] * 3)
    image = np.where(truth > 0, 200, 20).astype(np.uint8)
    np.savez(tmp_path / "images.npz", image=image, labels=truth, axes="NYX")
    np.savez(tmp_path / "stack.npz", image=image, labels=truth, axes="ZYX")
    monkeypatch.setattr(benchmark, "automatic", lambda case, model, every: np.where(case.truth == 3, 0, case.truth))
    out = tmp_path / "out.json"
    assert benchmark.main([str(tmp_path), "--untrained", "sam2_micro", "--frames", "2", "--json", str(out)]) == 0
    results = {(r["name"], r["method"]): r for r in json.loads(out.read_text())["results"]}
    assert set(results) == {(n, m) for n in ("images", "stack") for m in ("watershed", "sam2")}
    assert results["images", "sam2"]["ap50"] == pytest.approx(2 / 3)
    assert (results["images", "sam2"]["num_true"], results["images", "sam2"]["num_found"]) == (9, 6)
    assert results["stack", "sam2"]["num_true"] == 3
    assert len(capsys.readouterr().out.splitlines()) >= 4


def test_drawn_picture_is_the_same_however_it_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    large = importlib.import_module("large_image")
    whole = large.DrawnNuclei(100)[0:100, 0:100]
    assert whole.shape == (100, 100)
    np.testing.assert_array_equal(large.DrawnNuclei(100)[33:70, 51:99], whole[33:70, 51:99])
    assert whole.max() > 3 * whole.min()
