"""Markdown tables from the JSON files that the benchmarks wrote, so that no number is typed by hand.

python benchmarks/tables.py speed.json memory.json micro.json agreement.json
python benchmarks/tables.py --into benchmarks/README.md speed.json ...   # replaces what stands between its markers
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from against_transformers import Row, row_from_json
from measuring import Machine
from pairs import OURS, THEIRS

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def table_of(results: dict[str, Any]) -> str:
    """One benchmark's results as Markdown, with the machine they were measured on.

    Raises
    ------
    ValueError
        If the results are of no known kind.
    """
    makers = {
        "against_transformers": _against_transformers,
        "constant_memory": _constant_memory,
        "micro_speed": _micro_speed,
        "bf16_agreement": _bf16_agreement,
    }
    kind = results.get("kind")
    if kind not in makers:
        raise ValueError(f"results of kind {kind!r} were given; expected {', '.join(makers)}")
    machine = Machine(**results["machine"])
    return f"{makers[kind](results, machine)}\n\n{_machine_line(machine)}\n"


def _machine_line(machine: Machine) -> str:
    rates = ", ".join(f"{rate:.0f} GFLOP/s {dtype}" for dtype, rate in machine.gemm_gflops.items())
    device = "" if machine.device == "cpu" else f"{machine.device}, "
    clock = "" if machine.clock == "wall" else f"; {machine.clock} time, the machine being shared"
    threads = f"{machine.num_threads} thread{'s' * (machine.num_threads != 1)}"
    return (
        f"*{device}{machine.processor} ({machine.capability}), {threads}, torch {machine.torch}, "
        f"Python {machine.python}; matrix products {rates}; load before the run {machine.load_before:.1f}{clock}.*"
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _against_transformers(results: dict[str, Any], machine: Machine) -> str:
    rows = [row_from_json(values) for values in results["rows"]]
    dtypes = list(dict.fromkeys(cost.dtype for row in rows for cost in row.costs))
    header = ["case", "size", "objects", "precision", "ours ms", "transformers ms", "theirs / ours",
              "their float32 / ours", "our GFLOP", "their GFLOP", "our share of ceiling", "our peak MiB",
              "their peak MiB", "largest difference"]  # fmt: skip
    body = [_comparison(row, dtype, machine) for row in rows for dtype in dtypes]
    return f"### Against transformers, `sam2.1_hiera_tiny`\n\n{markdown(header, body)}"


def _comparison(row: Row, dtype: str, machine: Machine) -> list[str]:
    ours, theirs = row.cost(OURS, dtype), row.cost(THEIRS, dtype)
    assert ours is not None
    assert theirs is not None
    ceiling = machine.gemm_gflops.get(dtype)
    share = None if ours.gflop is None or ceiling is None else ours.gflop / ours.median_s / ceiling
    return [
        row.case,
        str(row.image_size),
        str(row.num_objects),
        dtype,
        f"{1e3 * ours.median_s:.1f}",
        f"{1e3 * theirs.median_s:.1f}",
        _number(row.speedup(dtype, dtype), ".2f"),
        _number(row.speedup(dtype, "float32"), ".2f"),
        _number(ours.gflop, ".1f"),
        _number(theirs.gflop, ".1f"),
        _number(share, ".0%"),
        _number(ours.peak_mib, ".0f"),
        _number(theirs.peak_mib, ".0f"),
        _number(row.max_difference if dtype == "float32" else None, ".1e"),
    ]


def _constant_memory(results: dict[str, Any], _: Machine) -> str:
    run = results["run"]
    header = ["stack", "objects", "MiB after 20 frames", "MiB at most", "growth MiB", "within 100 MB", "frames/s"]
    row = [
        f"{run['num_frames']} × {run['side']} × {run['side']}",
        str(run["num_objects"]),
        f"{run['after_20_mib']:.0f}",
        f"{run['peak_mib']:.0f}",
        f"{run['growth_mib']:.1f}",
        "yes" if run["passes"] else "NO",
        f"{run['frames_per_s']:.1f}",
    ]
    return f"### Constant memory\n\n{markdown(header, [row])}"


def _micro_speed(results: dict[str, Any], _: Machine) -> str:
    speed = results["speed"]
    rows = [["parameters", f"{speed['parameters']:,}"], ["weights as float16, MB", f"{speed['fp16_mb']:.1f}"]]
    rows += [
        [f"frames/s, {t['num_objects']} object, {t['side']} × {t['side']}", f"{t['frames_per_s']:.1f}"]
        for t in speed["tracking"]
    ]
    rows += [[f"{name}, ms", f"{ms:.1f}"] for name, ms in speed["stages_ms"].items()]
    rows += [
        [f"{name}, {side} × {side}, ms", f"{ms:.1f}"]
        for side, clicks in speed["click_ms"].items()
        for name, ms in clicks.items()
    ]
    return f"### The small model\n\n{markdown(['`sam2_micro`', 'value'], rows)}"


def _bf16_agreement(results: dict[str, Any], _: Machine) -> str:
    found = [values for values in results["agreements"] if values["num_pixels"]]
    ious = [values["iou"] for values in found]
    header = ["clip", "model side", "arithmetic", "masks", "mean IoU", "lowest IoU"]
    row = [
        results["clip"],
        str(results["image_size"]),
        results["arithmetic"],
        str(len(found)),
        _number(sum(ious) / len(ious) if ious else None, ".4f"),
        _number(min(ious, default=None), ".4f"),
    ]
    return f"### bfloat16 against float32\n\n{markdown(header, [row])}"


def replace_between_markers(text: str, tables: str) -> str:
    """Put tables between the two markers of a document.

    Raises
    ------
    ValueError
        If the markers are not there, once each and in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the document must hold {BEGIN} and, after it, {END}, once each")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables.strip()}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or put them into a document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", nargs="+", type=Path, help="JSON files that the benchmarks wrote")
    parser.add_argument("--into", type=Path, help="Markdown document whose results are replaced")
    options = parser.parse_args(arguments)
    tables = "\n".join(table_of(json.loads(path.read_text(encoding="utf-8"))) for path in options.results)
    if options.into is None:
        print(tables)
    else:
        document = options.into.read_text(encoding="utf-8")
        options.into.write_text(replace_between_markers(document, tables), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
