"""Random calls of the public interface: nothing but documented errors leaves it, and every call ends.

A fault is printed with the call that shows it; ``fuzz_world`` has the names that it uses. The seed is fixed, and each
call has a generator of its own, so that one more call changes no other.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from fuzz_calls import judge, public_targets, random_call, random_sequence, session_targets
from fuzz_world import Files, World

SEED = int(os.environ.get("NAPARI_SAM2_FUZZ_SEED", "0"))
TARGETS = public_targets()
_SLOW_ONES = {"fine_tune", "open_session", "segment_timelapse_volumes"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def _offline_in_a_folder_of_its_own(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_SAM2_OFFLINE_FOLDER", str(files.folder))


def call_number(index: int) -> tuple[str, tuple[str, ...]]:
    """A call of the series, and the errors that it may raise."""
    rng = random.Random(f"{SEED} call {index}")
    target = TARGETS[index % len(TARGETS)] if index % 3 == 0 else rng.choice(TARGETS)
    if target.path in _SLOW_ONES and index < 100:
        target = TARGETS[rng.randrange(5)]
    num_attacked = rng.choices((0, 1, 2, 9), (8, 70, 15, 7))[0]
    return random_call(rng, target, num_attacked=num_attacked), target.allowed


def check_calls(files: Files, numbers: range) -> None:
    faults = []
    for index in numbers:
        source, allowed = call_number(index)
        verdict = judge(World(files), [source], allowed)
        if verdict.faults:
            faults.append(f"call {index}\n{verdict}")
    assert not faults, f"{len(faults)} of {len(numbers)} calls\n" + "\n".join(faults)


def test_random_calls_raise_documented_errors_only(files):
    check_calls(files, range(80))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(80, 1080, 100))
def test_many_random_calls_raise_documented_errors_only(files, first):
    check_calls(files, range(first, first + 100))


def check_sequences(files: Files, numbers: range, length: int) -> None:
    targets = session_targets()
    allowed = tuple({name for target in targets for name in target.allowed})
    faults = []
    for index in numbers:
        rng = random.Random(f"{SEED} sequence {index}")
        verdict = judge(World(files), random_sequence(rng, targets, length), allowed)
        if verdict.faults:
            faults.append(f"sequence {index}\n{verdict}")
    assert not faults, f"{len(faults)} of {len(numbers)} sequences\n" + "\n".join(faults)


def test_calls_of_a_session_in_any_order(files):
    check_sequences(files, range(2), 10)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(2, 102, 20))
def test_many_calls_of_a_session_in_any_order(files, first):
    check_sequences(files, range(first, first + 20), 25)
