"""Random command lines end with a documented exit code, without leftovers, and never succeed without a result."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cli_tools import make_disks, run, save_random_model, save_stack
from napari_sam2 import Session

CODES = {0, 2, 3, 4, 5, 6}
SOME_FAILED = 7  # of a batch
NUM_FAST = 40  # command lines of the default run
SEED = int(os.environ.get("NAPARI_SAM2_FUZZ_SEED", "0"))  # the fixed series has 0
NUMBERS = ["0", "1", "3", "16", "-1", "0.5", "1e9", "nan", "inf", "", "x", "²", "99999999999999999999"]
COORDINATES = [
    "14,14",
    "1,14,14",
    "0,14,16",
    "-1,0,0",
    "1,999,999",
    "nan,1,1",
    "1",
    "",
    ",,",
    "a,b,c",
    "1,1e300,1",
    "1,1,1,1,1,1",
]
BOXES = ["4,4,30,30", "1,4,4,30,30", "1,30,30,4,4", "1,4,4,4,4", "0,-9,-9,99,99", "1,nan,0,9,9", "x"]
AREAS = ["30", "5um2", "5 µm²", "1e-400", "-3", "5kg", "inf", ""]
INPUTS = [
    "stack.ome.tif",
    "image.png",
    "folder",
    "text.tif",
    "empty.tif",
    "missing.tif",
    "~nouser/a.tif",
    "a" * 300,
    ".",
    "seeds.tif",
    "a.sam2",
]
OUTPUTS = [
    "o.tif",
    "o.ome.tif",
    "o.zarr",
    "o.png",
    "missing/o.tif",
    "stack.ome.tif",
    "folder",
    "~nouser/o.tif",
    "o" * 300 + ".tif",
    "-o.tif",
    "image.zarr/labels/x",
    "",
]
TABLES = ["t.csv", "t.txt", "missing/t.csv", "o.tif", "stack.ome.tif"]
PICTURES = ["p.png", "p.jpg", "o.tif"]
SHARED = {
    "--device": ["cpu", "cuda:99", "nope", ""],
    "--dtype": ["float32", "auto", "float8", "x"],
    "--axes": ["ZYX", "TYX", "YX", "TZCYX", "ZZZ", "q", ""],
    "--axis": ["Z", "T", "X", ""],
    "--fix": ["T=0", "Z=1", "Z=99", "Q=1", "T", "Z=-1"],
    "--level": NUMBERS,
    "--channels": ["0", "0,1", "9", "-1", "x", ""],
    "--contrast": ["auto", "dtype", "100,4000", "4000,100", "1,1", "nan,1", "x", "1,2,3"],
    "--gamma": ["0.5", "0", "-1", "nan", "x"],
    "--model": ["text.tif", "missing.pt", "~nouser/w.pt", "sam3", ""],
}
PROMPTS = {
    "--point": COORDINATES,
    "--negative": COORDINATES,
    "--box": BOXES,
    "--mask": ["seeds.tif", "1:seeds.tif", "text.tif", "9:seeds.tif"],
    "--object": ["1", "7", "0", "-1", "x", "²"],
}
ELSEWHERE: dict[str, list[str] | None] = {
    "--compute": ["nonsense", "tcp://127.0.0.1:1", "tls://127.0.0.1:1", ""],
    "--certificates": ["folder", "missing", ""],
    "--insecure": None,
}
FOLLOWING: dict[str, list[str] | None] = {
    "--keep-apart": None,
    "--full-resolution": None,
    "--zoom": ["off", "auto", "x", ""],
    "--overwrite": None,
    **ELSEWHERE,
}
BATCH: dict[str, list[str] | None] = {
    "--pattern": ["*.png", "**/*.tif", "[", "", "*.none"],
    "--format": [".tif", ".ome.tif", ".zarr", ".geojson", ".zip", ".json", "png", ""],
    "--scheduler": ["nonsense", ""],
    "--cluster": ["missing.yaml", "text.tif", ""],
    "--retries": NUMBERS,
    "--restart": None,
}
FINDING = {
    "--iou": ["0", "0.5", "2", "nan"],
    "--stability": ["0", "0.5", "-1"],
    "--min-area": AREAS,
    "--max-area": AREAS,
    "--exclude-border": None,
}
COMMANDS: dict[str, dict[str, list[str] | None]] = {
    "segment": {
        **PROMPTS,
        "--frame": NUMBERS,
        "--candidates": None,
        "--preview": PICTURES,
        **SHARED,
        **ELSEWHERE,
        "--full-resolution": None,
    },
    "track": {
        **PROMPTS,
        **FOLLOWING,
        "--along": ["Y", "ZY", "ZYX", "T", "q", ""],
        "--axes-vote": None,
        "--through-time": None,
        "--session": ["s.sam2", "a.sam2", "text.tif", ""],
        "--range": ["0,1", "1,0", "0,99", "x"],
        "--scores": TABLES,
        "--preview": PICTURES,
        **SHARED,
    },
    "generate": {
        **FINDING,
        "--frame": NUMBERS,
        "--points-per-side": ["2", "1000000", "0"],
        "--crop-layers": ["0", "50", "-1"],
        "--csv": TABLES,
        "--candidates": ["c.npz", "text.tif"],
        "--preview": PICTURES,
        **SHARED,
    },
    "auto": {
        **FINDING,
        "--every": NUMBERS,
        "--key-frame": NUMBERS,
        "--tile": NUMBERS,
        "--overlap": NUMBERS,
        "--split-stacked": None,
        "--csv": TABLES,
        **SHARED,
    },
    "propagate": {
        "--labels": ["seeds.tif", "text.tif", "missing.tif", "image.png"],
        "--frame": NUMBERS,
        "--min-area": NUMBERS,
        "--min-score": NUMBERS,
        "--give-up": NUMBERS,
        "--csv": TABLES,
        **FOLLOWING,
        **SHARED,
    },
    "train": {
        "--steps": NUMBERS,
        "--minutes": ["0", "0.01", "-1", "nan", "x"],
        "--patience": NUMBERS,
        "--part": ["decoder", "all", "x", ""],
        "--validation-share": ["0", "0.5", "1", "-1", "nan", "x"],
        "--learning-rate": ["1e-4", "0", "-1", "nan", "inf", "x"],
        "--batch-size": NUMBERS,
        "--image-size": NUMBERS,
        "--unlinked": None,
        "--all-labelled": None,
        "--precision": ["float32", "float8", ""],
        "--devices": NUMBERS,
        "--seed": NUMBERS,
        "--resume": None,
        "--overwrite": None,
        "--config": ["text.tif", "missing.json", ""],
        "--data": ["folder", "missing", ""],
        "--hold-out": ["x", ""],
        "--device": SHARED["--device"],
    },
    "batch generate": {**BATCH, **FINDING, **SHARED},
    "batch track": {**BATCH, **SHARED},
    "batch tiles": {**FINDING, "--tile": NUMBERS, "--overlap": NUMBERS, "--retries": NUMBERS, **SHARED},
    "link": {
        "--tracks": ["t.xml", "t.csv", "t.geff", "ctc", "t.txt", "missing/t.csv", "o.tif", "stack.ome.tif"],
        "--max-distance": NUMBERS,
        "--max-gap": NUMBERS,
        "--no-divisions": None,
    },
    "evaluate": {
        "--truth-tracks": ["seeds.tif", "missing.csv", "text.tif", "folder", ""],
        "--tracks": ["seeds.tif", "missing.xml", "empty.tif", "", "x"],
        "--volume": None,
        "--tolerance": NUMBERS,
    },
    "measure": {
        "--per-plane": None,
        "--scale": ["0.5,0.25,0.25", "1,1", "0,1,1", "-1,1,1", "nan,1,1", "x", "", "1,1,1,1"],
        **{name: SHARED[name] for name in ("--axes", "--axis", "--fix", "--level", "--channels")},
    },
    "run": {
        "--stack": INPUTS,
        "--on": ["folder", "images", "image.png", "missing", ""],
        "--rule": ["same", "automatic", "x", ""],
        "--tracks": TABLES,
        "--restart": None,
        "--scores": TABLES,
        **{name: SHARED[name] for name in ("--device", "--dtype", "--model")},
    },
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one input of each kind."""
    folder = tmp_path_factory.mktemp("inputs")
    stack, labels = make_disks()
    save_stack(folder / "stack.ome.tif", stack)
    tifffile.imwrite(folder / "seeds.tif", labels[1].astype(np.uint16))
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for number in range(2):
        tifffile.imwrite(folder / "images" / f"{number}.tif", stack[number])
        tifffile.imwrite(folder / "masks" / f"{number}.tif", labels[number].astype(np.uint16))
    tifffile.imwrite(folder / "labels.tif", labels.astype(np.uint16), photometric="minisblack")
    weights = save_random_model(folder / "weights.safetensors")
    from PIL import Image

    Image.fromarray((stack[0] // 8).astype(np.uint8)).save(folder / "image.png")
    (folder / "folder").mkdir()
    (folder / "text.tif").write_text("text")
    (folder / "empty.tif").touch()
    with Session(str(folder / "stack.ome.tif"), model=str(weights)) as session:
        session.add_points([[1, 14, 15]])
        session.save(folder / "a.sam2")
    return folder


RIGHT = {
    "run": ["a.sam2"],
    "train": ["images", "masks"],
    "batch generate": ["images"],
    "batch track": ["images"],
    "link": ["labels.tif"],
    "evaluate": ["labels.tif", "labels.tif"],
    "measure": ["stack.ome.tif", "labels.tif"],
}
RIGHT_OUTPUT = {
    "evaluate": "o.csv",
    "measure": "o.csv",
    "train": "o.safetensors",
    "batch generate": "results",
    "batch track": "results",
    "batch tiles": "o.zarr",
}
WITHOUT_MODEL = {"link", "evaluate", "measure", "train"}


def random_command(seed: int) -> list[str]:
    """A command line that is right in most parts, so that the wrong ones are reached."""
    rng = random.Random(f"{SEED} {seed}" if SEED else seed)
    # a batch starts processes, which takes seconds
    command = rng.choice(sorted(name for name in COMMANDS if seed >= NUM_FAST or not name.startswith("batch")))
    options = {name: values for name, values in COMMANDS[command].items() if seed >= NUM_FAST or name != "--on"}
    inputs = [name if rng.random() < 0.7 else rng.choice(INPUTS) for name in RIGHT.get(command, ["stack.ome.tif"])]
    right_output = RIGHT_OUTPUT.get(command, "o.tif")
    words = [*command.split(), *inputs, "-o", right_output if rng.random() < 0.6 else rng.choice(OUTPUTS)]
    if command not in WITHOUT_MODEL:
        words += ["--model", "weights.safetensors"]
    needed = {
        "segment": ["--point", "14,14", "--frame", "1"],
        "track": ["--point", "1,14,14"],
        "propagate": ["--labels", "seeds.tif", "--frame", "1"],
        "generate": ["--frame", "1", "--spacing", "24"],
        "auto": ["--spacing", "24"],
        "train": ["--from", "weights.safetensors", "--steps", "1", "--image-size", "64"],
        "batch generate": ["--workers", "1", "--spacing", "24"],
        "batch track": ["--workers", "1"],
        "batch tiles": ["--workers", "1", "--spacing", "24", "--frame", "1"],
    }
    if rng.random() < 0.8:
        words += needed.get(command, [])
    for name in rng.choices(sorted(options), k=rng.choice([0, 0, 1, 1, 2, 3])):
        values = options[name]
        words += [name] if values is None else [name, rng.choice(values)]
    return words


WITHOUT_PROGRESS = {"segment", "link", "evaluate"}


def check(seed: int, inputs: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(inputs, folder, dirs_exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    words = random_command(seed)
    code = run(*words) if words[0] in WITHOUT_PROGRESS else run(*words, "-q")
    said = capsys.readouterr()
    is_batch = words[0] == "batch" or "--on" in words
    assert code in CODES | ({SOME_FAILED} if is_batch else set()), (words, said.err)
    assert "unexpected" not in said.err, words
    assert "Traceback" not in said.err, words
    if code == 0:
        output = folder / words[words.index("-o") + 1]
        assert output.exists(), words
        assert "wrote " in said.out, words
    else:
        assert said.err.strip(), words
    changed = {path for path, time in before.items() if not path.exists() or path.stat().st_mtime_ns != time}
    assert not changed or code == 0 or is_batch, words
    # a batch keeps its lock, which the next run takes; .geff is a Zarr group
    left = [path for path in folder.rglob(".*") if path.name != ".batch.lock" and ".geff" not in str(path)]
    assert left == [], words


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(NUM_FAST))
def test_a_random_command_ends_as_documented(
    seed: int, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    check(seed, inputs, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(NUM_FAST, 300))
def test_many_random_commands_end_as_documented(
    seed: int, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    check(seed, inputs, tmp_path, capsys)
