"""Files and folders without permission to read them, as their owner or root without its special rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

RIGHTS = "-dac_override,-dac_read_search"
PLAIN = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]
CODE = """
import sys
from napari_sam2 import FrameError, open_frames, read_labels
from napari_sam2.batch.inputs import find_sources

for function in (open_frames, read_labels):
    try:
        function(sys.argv[1])
    except FrameError as error:
        print(error)
print([source.path.name for source in find_sources([sys.argv[2]])])
"""

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs permissions of POSIX"),
    pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may all"),
]


@pytest.mark.parametrize(
    ("closed", "named", "found"),
    [
        ("planes", "planes", ["b.tif"]),
        ("image.zarr", "image.zarr", ["b.tif", "image.zarr"]),
        ("a.tif", "a.tif", ["a.tif", "b.tif"]),
        ("planes", "planes/x.tif", ["b.tif"]),
    ],
)
def test_what_may_not_be_read_is_named_and_hinders_no_batch(tmp_path: Path, closed: str, named: str, found: list[str]):
    tifffile.imwrite(tmp_path / "b.tif", np.ones((4, 5), np.uint8))
    if closed.endswith(".tif"):
        shutil.copyfile(tmp_path / "b.tif", tmp_path / closed)
    else:
        (tmp_path / closed).mkdir()
    (tmp_path / closed).chmod(0)
    command = [*(PLAIN if os.geteuid() == 0 else []), sys.executable, "-c", CODE]
    try:
        done = subprocess.run(
            [*command, str(tmp_path / named), str(tmp_path)], capture_output=True, text=True, check=True
        )
    finally:
        (tmp_path / closed).chmod(0o700)
    *errors, sources = done.stdout.splitlines()
    words = "cannot be accessed" if "/" in named else "cannot be read"
    assert [f"{tmp_path / named} {words} (permission denied); change" in error for error in errors] == [True, True]
    assert sources == str(found)
