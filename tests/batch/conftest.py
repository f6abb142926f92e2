"""A folder of inputs."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in ("img10.tif", "img2.tif", "b.png", "notes.txt", ".hidden.tif", "sub/c_ch0.tif", "sub/c_ch1.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "z.ome.zarr").mkdir()
    (folder / "z.ome.zarr" / "zarr.json").write_text("{}")
    (folder / "planes").mkdir()
    (folder / "planes" / "p0.tif").write_bytes(b"")
    return folder
