"""Arguments in other forms, as other libraries give them, are taken or refused by a documented error."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz_calls import judge, public_targets, random_call
from fuzz_forms import NAMES, argument_in_another_form
from fuzz_world import Files, World

TARGETS = [t for t in public_targets() if t.path not in ("fine_tune", "open_session")]
NO_CALL = " at -"  # the error came from making the argument, not from the package


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def _offline_in_a_folder_of_its_own(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_SAM2_OFFLINE_FOLDER", str(files.folder))


def check_forms(files: Files, numbers: range) -> None:
    faults = []
    for index in numbers:
        rng = random.Random(f"form {index}")
        target = rng.choice(TARGETS)
        num_attacked = rng.choices((1, 2, 9), (80, 15, 5))[0]
        source = random_call(rng, target, num_attacked=num_attacked, argument=argument_in_another_form)
        world = World(files)
        world.names |= NAMES
        verdict = judge(world, [source], target.allowed)
        verdict.faults = [fault for fault in verdict.faults if not fault.rstrip().endswith(NO_CALL)]
        if verdict.faults:
            faults.append(f"call {index}\n{verdict}")
    assert not faults, f"{len(faults)} of {len(numbers)} calls\n" + "\n".join(faults)


def test_arguments_in_other_forms_raise_documented_errors_only(files):
    check_forms(files, range(10))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(10, 1010, 100))
def test_many_arguments_in_other_forms_raise_documented_errors_only(files, first):
    check_forms(files, range(first, first + 100))
