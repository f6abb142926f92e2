"""The benchmarks count, time and report what they say, on networks small enough for a test."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from factories import make_model
from places import BENCHMARKS

pytest.importorskip("psutil")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    """A module of the benchmarks folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def make_machine(measuring: ModuleType, **over: object):
    values = {
        "processor": "Test CPU",
        "num_threads": 2,
        "capability": "AVX2",
        "device": "cpu",
        "torch": "2.0",
        "python": "3.11",
        "load_before": 0.5,
        "gemm_gflops": {"float32": 100.0},
    }
    return measuring.Machine(**values | over)


def make_row(against: ModuleType, **over: object):
    costs = [
        against.Cost("napari-sam2", "float32", [0.2, 0.1, 0.3], gflop=10.0, peak_mib=50.0),
        against.Cost("transformers", "float32", [0.5, 0.4, 0.6], gflop=12.0, peak_mib=80.0),
    ]
    values = {"case": "click", "num_objects": 4, "image_size": 512, "costs": costs, "max_difference": 2e-5}
    return against.Row(**values | over)


def make_memory_run(memory: ModuleType, **over: float):
    values = {
        "num_frames": 2000,
        "num_objects": 3,
        "side": 256,
        "after_20_mib": 500.0,
        "peak_mib": 510.0,
        "end_mib": 505.0,
        "own_mib": 4.0,
        "frames_per_s": 10.0,
        "mean_iou": 0.9,
    }
    return memory.MemoryRun(**values | over)


# ---------------------------------------------------------------------- operations
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda: torch.ones(3, 5) @ torch.ones(5, 7), 2 * 3 * 5 * 7, id="matrix-product"),
        pytest.param(lambda: torch.nn.Linear(5, 7)(torch.ones(2, 3, 5)), 2 * 6 * 5 * 7, id="linear-in-a-batch"),
        pytest.param(
            lambda: torch.nn.Conv2d(2, 4, 3, padding=1)(torch.ones(1, 2, 8, 8)), 2 * 64 * 2 * 4 * 9, id="convolution"
        ),
        pytest.param(
            lambda: torch.nn.functional.scaled_dot_product_attention(
                torch.ones(1, 2, 6, 8), torch.ones(1, 2, 10, 8), torch.ones(1, 2, 10, 8)
            ),
            2 * 2 * 6 * 10 * (8 + 8),
            id="fused-attention",
        ),
    ],
)
def test_operations_are_two_per_multiply_add(load, call, expected: int):
    measuring = load("measuring")
    with torch.inference_mode():
        assert measuring.count_flop(call) == expected


def test_blockwise_attention_counts_as_the_fused_kernel_does(load):
    from napari_sam2.network.attention import attend

    query, key, value = torch.randn(1, 300, 16), torch.randn(1, 1100, 16), torch.randn(1, 1100, 4)
    with torch.inference_mode():
        assert load("measuring").count_flop(lambda: attend(query, key, value)) == 2 * 300 * 1100 * (16 + 4)


# ---------------------------------------------------------------------- time and memory
def test_sides_are_timed_in_turns_from_a_prepared_state(load):
    measuring = load("measuring")
    calls: list[str] = []
    workloads = {
        name: measuring.Workload(
            lambda name=name: calls.append(name), lambda name=name: calls.append(f"prepare {name}")
        )
        for name in ("a", "b")
    }
    times = measuring.interleaved(workloads, 3)
    assert [len(times["a"]), len(times["b"])] == [3, 3]
    assert calls == ["prepare a", "a", "prepare b", "b"] * 4


def test_a_spent_budget_still_leaves_one_round(load):
    measuring = load("measuring")
    times = measuring.interleaved({"a": measuring.Workload(lambda: None)}, 5, budget_s=0.0)
    assert len(times["a"]) == 1


def test_peak_memory_sees_a_block_that_is_gone_afterwards():
    # In a process of its own: here the allocator may hold freed memory that a new block takes without growth.
    program = (
        "import numpy as np, measuring\n"
        "with measuring.peak_memory() as memory:\n"
        "    block = np.ones(64 * 2**20 // 8)\n"
        "    for _ in range(20): block += 1\n"
        "    del block\n"
        "print(memory.growth)\n"
    )
    folder = BENCHMARKS
    shown = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert 50 < float(shown.stdout) < 200


# ---------------------------------------------------------------------- reports
def test_report_shows_medians_rates_and_ratios(load):
    against, measuring = load("against_transformers"), load("measuring")
    row = make_row(against)
    assert row.speedup("float32", "float32") == pytest.approx(2.5)
    report = against.format_report([row], make_machine(measuring)).splitlines()
    ours = next(line for line in report if "napari-sam2" in line)
    assert ours.split() == ["click", "512", "4", "napari-sam2", "float32", "200.0", "3", "10.0", "50", "50%", "50",
                            "2.50", "2.0e-05"]  # fmt: skip
    theirs = next(line for line in report if line.strip().startswith("transformers"))
    assert theirs.split() == ["transformers", "float32", "500.0", "3", "12.0", "24", "24%", "80", "1.00"]


def test_what_was_not_measured_is_a_dash(load):
    against, measuring = load("against_transformers"), load("measuring")
    costs = [against.Cost("napari-sam2", "bfloat16", [0.1]), against.Cost("transformers", "bfloat16", [0.2])]
    row = make_row(against, costs=costs, max_difference=None)
    assert row.speedup("bfloat16", "float32") is None
    ours = next(
        line for line in against.format_report([row], make_machine(measuring)).splitlines() if "napari-sam2" in line
    )
    assert ours.split()[5:] == ["100.0", "1", "-", "-", "-", "-", "-"]


def test_results_survive_json_and_become_a_table(load, tmp_path: Path):
    against, measuring, tables = load("against_transformers"), load("measuring"), load("tables")
    row = make_row(against)
    against.write_json(tmp_path / "speed.json", [row], make_machine(measuring))
    results = json.loads((tmp_path / "speed.json").read_text())
    assert against.row_from_json(results["rows"][0]) == row
    table = tables.table_of(results)
    assert (
        "| click | 512 | 4 | float32 | 200.0 | 500.0 | 2.50 | 2.50 | 10.0 | 12.0 | 50% | 50 | 80 | 2.0e-05 |" in table
    )
    assert "100 GFLOP/s float32" in table


def test_tables_replace_what_stands_between_the_markers(load):
    tables = load("tables")
    text = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    once = tables.replace_between_markers(text, "new\n")
    assert once == f"before\n{tables.BEGIN}\n\nnew\n\n{tables.END}\nafter\n"
    assert tables.replace_between_markers(once, "new") == once
    with pytest.raises(ValueError, match="once each"):
        tables.replace_between_markers("no markers", "new")


def test_the_readme_has_a_place_for_the_tables(load):
    tables = load("tables")
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    assert "table" in tables.replace_between_markers(text, "table")


def test_unknown_results_are_refused(load):
    with pytest.raises(ValueError, match="expected against_transformers"):
        load("tables").table_of({"kind": "guess"})


@pytest.mark.parametrize(
    ("peak_mib", "passes"), [pytest.param(595.0, True, id="95-MiB"), pytest.param(596.0, False, id="96-MiB")]
)
def test_memory_may_grow_by_100_megabytes(load, peak_mib: float, passes: bool):
    memory = load("constant_memory")
    run = make_memory_run(memory, peak_mib=peak_mib)
    assert run.passes is passes
    assert ("PASS" if passes else "FAIL") in memory.format_run(run)


# ---------------------------------------------------------------------- clips and agreement
def test_discs_are_where_they_say(load):
    clips = load("clips")
    discs = clips.MovingDiscs(5, 64, 3)
    frame = discs[3]
    assert frame.shape == (64, 64, 3)
    assert np.array_equal(frame, discs[3])
    for disc in range(3):
        inside = discs.mask(3, disc)
        x, y = discs.centre_xy(3, disc)
        assert inside[round(y), round(x)]
        assert frame[inside].mean() > frame[~inside].mean() + 50


def test_rounding_mode_rounds_results_and_spares_views_and_integers(load):
    agreement = load("bf16_agreement")
    third = torch.tensor([1.0, 2.0]) / 3
    with agreement.RoundToBfloat16():
        product = third * 1.0
        view = third[:1]
        count = torch.arange(300) + 1
    assert torch.equal(product, third.to(torch.bfloat16).float())
    assert torch.equal(view, third[:1])
    assert count[-1] == 300
    assert torch.equal(third * 1.0, third)


def test_empty_masks_do_not_count_as_agreement(load):
    agreement = load("bf16_agreement")
    mask = np.zeros((4, 4), bool)
    half = mask.copy()
    half[:2] = True
    quarter = mask.copy()
    quarter[:1] = True
    found = agreement.compare({(0, 1): half, (1, 1): mask}, {(0, 1): quarter, (1, 1): mask})
    assert [a.iou for a in found] == [0.5, 1.0]
    text = agreement.format_agreement(found, "test", "of everything")
    assert "mean IoU with float32 0.5000 over 1 masks" in text
    assert "1 empty" in text
    assert "MISSED" in text


@pytest.mark.slow
def test_both_sides_do_the_same_work(load, tmp_path: Path):
    pytest.importorskip("transformers")
    pairs, measuring = load("pairs"), load("measuring")
    pairs.make_weights(tmp_path, 128)
    sides = [
        pairs.PairSide(who, tmp_path, 128, torch.float32, torch.device("cpu")) for who in (pairs.OURS, pairs.THEIRS)
    ]
    for case in (pairs.Case("image encoding"), pairs.Case("click", 2), pairs.Case("video frame", 2)):
        results = []
        for side in sides:
            workload = side.workload(case)
            workload.restore()
            results.append(workload.run().float())
            assert measuring.count_flop(workload.run) > 0
        assert (results[0].reshape_as(results[1]) - results[1]).abs().max() < 1e-3
        assert results[1].std() > 0


def test_precision_counts_matches_false_objects_and_misses(load):
    masks = load("automatic_masks")
    truth = np.zeros((20, 30), np.int32)
    truth[2:8, 2:8], truth[2:8, 20:26], truth[12:18, 2:8] = 1, 2, 3
    labels = np.zeros_like(truth)
    labels[2:8, 2:8], labels[2:8, 20:23], labels[12:18, 20:26] = 5, 6, 7  # right, half (no match), not there
    assert masks.average_precision(labels, truth) == pytest.approx(1 / 5)
    assert masks.average_precision(truth, truth) == 1
    assert masks.average_precision(0 * truth, truth) == 0


def test_watershed_parts_touching_discs(load):
    y, x = np.mgrid[:60, :80]
    truth = np.where((y - 30) ** 2 + (x - 25) ** 2 < 200, 1, 0) + np.where((y - 30) ** 2 + (x - 54) ** 2 < 200, 2, 0)
    image = (20 + 150 * (truth > 0)).astype(np.uint8)
    assert load("automatic_masks").average_precision(load("automatic_masks").watershed_labels(image), truth) == 1


def test_calibration_knows_honest_from_proud_scores(load):
    calibration = load("calibration")
    true = np.linspace(0.05, 0.95, 200)
    honest, proud = calibration.calibrate(true, true), calibration.calibrate(np.full(200, 0.95), true)
    assert honest.error < 0.01
    assert honest.rank == pytest.approx(1)
    assert proud.bias == pytest.approx(0.45)
    assert proud.error == pytest.approx(0.45)
    assert [b.count for b in proud.bins] == [200]


def test_calibration_measures_clicks_boxes_and_tracked_frames(load, tmp_path):
    calibration = load("calibration")
    y, x = np.mgrid[:64, :64]
    labels = np.stack([((x - 20 - t) ** 2 + (y - 30) ** 2 < 100) * 1 for t in range(5)]).astype(np.uint16)
    np.savez(tmp_path / "discs.npz", image=(labels * 200).astype(np.uint8), labels=labels, axes="TYX")
    found = calibration.measure(make_model(), tmp_path, limit=2, images=1)
    assert {"click", "box"} <= set(found)
    assert found["box"].count == 1


def test_scaling_counts_the_time_that_pieces_cost_beside_their_own_work(load):
    pytest.importorskip("distributed")
    from napari_sam2.batch.pieces import DONE, RUNNING, Outcome, Piece, PieceRecord, Source
    from napari_sam2.batch.report import BatchReport

    scaling = load("scaling")
    pieces = tuple(Piece(name, Source(Path(name)), Path(name)) for name in "abcd")
    watch = scaling.Watch()
    watch.on_piece(PieceRecord("a", RUNNING))
    records = tuple(PieceRecord(piece.name, DONE, outcome=Outcome(1, 1, seconds=2.0)) for piece in pieces)
    for record in records:
        watch.on_piece(record)
    watch.begin, watch.end = 10.0, 15.0
    found = watch.measured("files", 2, BatchReport(pieces, records, 0, 5.0))
    assert (found.pieces, found.seconds) == (4, 5.0)
    assert found.overhead_ms == pytest.approx(500.0)
    with pytest.raises(RuntimeError, match="not all pieces"):
        watch.measured("files", 2, BatchReport(pieces, (*records[:3], PieceRecord("d", "not run")), 0, 5.0))


@pytest.mark.slow
def test_a_server_and_a_slow_connection_are_measured(tmp_path: Path):
    pytest.importorskip("distributed")
    sizes = ("--side", "64", "--frames", "3", "--clicks", "3", "--rounds", "2")
    waits = ("--delay-ms", "1", "--frame-ms", "1")
    command = [sys.executable, str(BENCHMARKS / "elsewhere.py"), *sizes, *waits, "--json", str(tmp_path / "found.json")]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "found.json").read_text())
    assert {"frame_ratio_there_here", "frame_ratio_far_here"} <= found.keys()
