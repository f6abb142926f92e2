"""This package against transformers' SAM 2 on the same seeded weights: time, operations and memory, in one run.

python benchmarks/against_transformers.py --json speed.json        # everything; hours on a laptop CPU
python benchmarks/against_transformers.py --quick --json quick.json # minutes
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from measuring import (
    CLOCKS,
    Machine,
    Workload,
    computes_bfloat16,
    count_flop,
    describe_machine,
    gemm_rate,
    interleaved,
    peak_memory,
    release_free_memory,
)
from pairs import CASES, OURS, THEIRS, Case, PairSide, make_weights

from napari_sam2.network.config import CONFIGS

_SIDES = (OURS, THEIRS)
_MODELS = tuple(name for name in CONFIGS if name.startswith("sam2.1"))


@dataclass(frozen=True)
class Cost:
    """What one side needs for one case in one precision.

    Attributes
    ----------
    who, dtype : str
        Side and precision.
    seconds : list of float
        Measured in turns with the other sides.
    gflop : float or None
        Matrix products, convolutions and attentions of one call; None if not counted.
    peak_mib : float or None
        By how much the case raised memory at most, the weights not counted: on a CPU resident memory, in a process of
        its own; on a GPU what torch had allocated.
    """

    who: str
    dtype: str
    seconds: list[float]
    gflop: float | None = None
    peak_mib: float | None = None

    @property
    def label(self) -> str:
        """Side and precision in one word."""
        return f"{self.who} {self.dtype}"

    @property
    def median_s(self) -> float:
        """Median time."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Row:
    """One case with all its contestants."""

    case: str
    num_objects: int
    image_size: int
    costs: list[Cost]
    max_difference: float | None = field(default=None)

    def cost(self, who: str, dtype: str) -> Cost | None:
        """Of one contestant, if it took part."""
        return next((cost for cost in self.costs if (cost.who, cost.dtype) == (who, dtype)), None)

    def speedup(self, dtype: str, their_dtype: str) -> float | None:
        """Their median time in one precision over ours in another; above 1 we are faster."""
        ours, theirs = self.cost(OURS, dtype), self.cost(THEIRS, their_dtype)
        return None if ours is None or theirs is None else theirs.median_s / ours.median_s


def row_from_json(values: dict[str, object]) -> Row:
    """Undo ``dataclasses.asdict``."""
    costs = [Cost(**cost) for cost in values["costs"]]  # type: ignore[attr-defined]
    return Row(**{**values, "costs": costs})  # type: ignore[arg-type]


# ---------------------------------------------------------------------- measuring
def list_cases(objects: Sequence[int], names: Sequence[str] = CASES) -> list[Case]:
    """Image encoding once, clicks and video frames for each number of objects."""
    return [Case(name, num) for name in names for num in ((1,) if name == "image encoding" else tuple(objects))]


def measure_size(
    folder: Path, image_size: int, cases: Sequence[Case], arguments: argparse.Namespace, dtypes: Sequence[str]
) -> Iterator[Row]:
    """All cases at one side of the input."""
    make_weights(folder, image_size, model=arguments.model)
    device = torch.device(arguments.device)
    sides = {
        (who, dtype): PairSide(who, folder, image_size, getattr(torch, dtype), device)
        for dtype in dtypes
        for who in _SIDES
    }
    for case in cases:
        built = {key: _build(side, case, device) for key, side in sides.items()}
        workloads = {key: workload for key, (workload, _) in built.items()}
        difference = None
        if "float32" in dtypes:
            difference = _difference(workloads[OURS, "float32"], workloads[THEIRS, "float32"])
        named = {f"{who} {dtype}": workload for (who, dtype), workload in workloads.items()}
        times = interleaved(named, arguments.repeats, budget_s=arguments.budget, clock=CLOCKS[arguments.clock])
        peaks = {key: peak for key, (_, peak) in built.items()}
        del built, workloads, named
        costs = []
        for who, dtype in sides:
            gflop, peak = None, peaks[who, dtype]
            if device.type != "cuda":
                gflop, peak = _in_own_process(folder, image_size, case, who, dtype, arguments)
            costs.append(Cost(who, dtype, times[f"{who} {dtype}"], gflop, peak))
        yield Row(case.name, case.num_objects, image_size, costs, difference)


def _build(side: PairSide, case: Case, device: torch.device) -> tuple[Workload, float | None]:
    """A workload; on a GPU, called once, and by how much building and calling raised its memory at most, in MiB."""
    if device.type != "cuda":
        return side.workload(case), None
    side.load(case)
    torch.cuda.empty_cache()
    with peak_memory() as memory:
        workload = side.workload(case)
        workload.restore()
        workload.run()
    return workload, memory.growth


def _difference(ours: Workload, theirs: Workload) -> float:
    """Largest difference of the two results: the same work was done."""
    results = []
    for workload in (ours, theirs):
        workload.restore()
        result = workload.run()
        assert isinstance(result, torch.Tensor)
        results.append(result.float())
    return float((results[0].reshape_as(results[1]) - results[1]).abs().max())


def _in_own_process(
    folder: Path, image_size: int, case: Case, who: str, dtype: str, arguments: argparse.Namespace
) -> tuple[float | None, float | None]:
    """GFLOP and peak MiB of one contestant; memory that others left behind would hide in a shared process."""
    if arguments.no_memory:
        return None, None
    question = [who, dtype, case.name, str(case.num_objects), str(folder), str(image_size), arguments.device]
    command = [sys.executable, __file__, "--threads", str(torch.get_num_threads()), "--one", *question]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(answer.splitlines()[-1])
    return found["gflop"], found["peak_mib"]


def _answer_one(question: Sequence[str]) -> None:
    """In the process of its own: first the memory, state from frame 0 included, then the operations of one call."""
    who, dtype, name, num, folder, image_size, device = question
    side = PairSide(who, Path(folder), int(image_size), getattr(torch, dtype), torch.device(device))
    case = Case(name, int(num))
    side.load(case)
    release_free_memory()
    with peak_memory() as memory:
        workload = side.workload(case)
        workload.restore()
        workload.run()
    workload.restore()
    print(json.dumps({"peak_mib": memory.growth, "gflop": count_flop(workload.run) / 1e9}))


# ---------------------------------------------------------------------- reporting
def format_report(rows: Sequence[Row], machine: Machine) -> str:
    """What the run found, as text for a terminal."""
    lines = [format_machine(machine), ""]
    header = (
        f"{'case':<16}{'size':>5}{'obj':>5}  {'':<21}{'median ms':>10}{'runs':>5}{'GFLOP':>9}{'GFLOP/s':>9}"
        f"{'ceiling':>9}{'peak MiB':>10}{'speedup':>9}{'max diff':>10}"
    )
    lines.append(header)
    for row in rows:
        for i, cost in enumerate(row.costs):
            start = f"{row.case:<16}{row.image_size:>5}{row.num_objects:>5}" if i == 0 else " " * 26
            lines.append(f"{start}  {_format_cost(cost, row, machine)}")
    lines += ["", "speedup: transformers' median in float32 over this one. max diff: ours against theirs, float32."]
    return "\n".join(lines)


def format_machine(machine: Machine) -> str:
    """One line on the machine, one on its ceiling."""
    rates = ", ".join(f"{rate:.0f} GFLOP/s in {dtype}" for dtype, rate in machine.gemm_gflops.items())
    return (
        f"{machine.processor}, {machine.capability}, {machine.num_threads} threads on {machine.device}; "
        f"torch {machine.torch}, Python {machine.python}; load {machine.load_before:.1f} before the run\n"
        f"matrix products: {rates}"
    )


def _format_cost(cost: Cost, row: Row, machine: Machine) -> str:
    rate = None if cost.gflop is None else cost.gflop / cost.median_s
    ceiling = machine.gemm_gflops.get(cost.dtype)
    share = None if rate is None or ceiling is None else rate / ceiling
    reference = row.cost(THEIRS, "float32")
    speedup = None if reference is None else reference.median_s / cost.median_s
    is_ours = (cost.who, cost.dtype) == (OURS, "float32")
    difference = "" if row.max_difference is None or not is_ours else f"{row.max_difference:.1e}"
    return (
        f"{cost.label:<21}{1e3 * cost.median_s:>10.1f}{len(cost.seconds):>5}{_number(cost.gflop, '.1f'):>9}"
        f"{_number(rate, '.0f'):>9}{_number(share, '.0%'):>9}{_number(cost.peak_mib, '.0f'):>10}"
        f"{_number(speedup, '.2f'):>9}{difference:>10}"
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


# ---------------------------------------------------------------------- command
def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", choices=_MODELS, default="sam2.1_hiera_tiny", help="whose size the weights have")
    parser.add_argument("--image-size", type=int, nargs="+", help="sides of the model's input (default 1024 512)")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 4, 16], help="objects at once")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--dtype", nargs="+", choices=("float32", "bfloat16", "float16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--force-bfloat16", action="store_true", help="also where the processor lacks it: very slow")
    parser.add_argument("--repeats", type=int, help="rounds of each case (default 7, with --quick 3)")
    parser.add_argument("--budget", type=float, default=600.0, help="seconds after which a case gets no further round")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: on a shared machine, one thread")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", action="store_true", help="neither peak memory nor operations")
    parser.add_argument("--quick", action="store_true", help="sides 512 and 256, three rounds")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--one", nargs=7, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    parsed.image_size = parsed.image_size or ([512, 256] if parsed.quick else [1024, 512])
    parsed.repeats = parsed.repeats or (3 if parsed.quick else 7)
    return parsed


def _usable(dtypes: Sequence[str], device: torch.device, *, is_forced: bool) -> list[str]:
    """The precisions that make sense on the device, and a line about the others."""
    if "bfloat16" not in dtypes or computes_bfloat16(device) or is_forced:
        return list(dtypes)
    print(
        f"bfloat16 is left out: this processor ({torch.backends.cpu.get_cpu_capability()}) has no bfloat16 "
        "instructions, torch emulates them about a hundred times slower than float32 (--force-bfloat16 runs it anyway)"
    )
    return [dtype for dtype in dtypes if dtype != "bfloat16"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison and print it."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    if options.one:
        _answer_one(options.one)
        return 0
    device = torch.device(options.device)
    dtypes = _usable(options.dtype, device, is_forced=options.force_bfloat16)
    if not dtypes:
        print("nothing is left to measure")
        return 1
    machine = describe_machine(device, tuple(getattr(torch, dtype) for dtype in dtypes), clock=options.clock)
    rows: list[Row] = []
    for image_size in options.image_size:
        with tempfile.TemporaryDirectory() as folder:
            for row in measure_size(
                Path(folder), image_size, list_cases(options.objects, options.cases), options, dtypes
            ):
                rows.append(row)
                print(f"{row.case}, {row.image_size}, {row.num_objects}: "
                      + ", ".join(f"{c.label} {1e3 * c.median_s:.0f} ms" for c in row.costs), flush=True)  # fmt: skip
                if options.json is not None:
                    write_json(options.json, rows, machine)
    for dtype in machine.gemm_gflops:  # the better of before and after: another process may have disturbed one
        rate = gemm_rate(getattr(torch, dtype), device, clock=CLOCKS[options.clock])
        machine.gemm_gflops[dtype] = max(machine.gemm_gflops[dtype], rate)
    print(f"\n{format_report(rows, machine)}")
    if options.json is not None:
        write_json(options.json, rows, machine)
    return 0


def write_json(path: Path, rows: Sequence[Row], machine: Machine) -> None:
    """Write the results; ``tables.py`` makes a table of them."""
    results = {"kind": "against_transformers", "machine": machine.as_dict(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
