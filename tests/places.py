"""Where the tests find this repository and the folder of reference data that may lie beside it."""

from pathlib import Path

__all__ = ["BENCHMARKS", "ROOT", "SHARED"]

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
SHARED = ROOT.parent / "shared"
