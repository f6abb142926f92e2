"""An engine in this process is made as the settings of its session say."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from factories import make_model, make_movie
from napari_sam2.frames import open_frames
from napari_sam2.session.engines.local_engine import LocalEngine
from napari_sam2.session.state.settings import SessionSettings


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    network = make_model(native_window=128, image_size=256)
    save_file(network.state_dict(), path, metadata={"model": "sam2_micro"})
    return path


def test_settings_reach_the_network_and_the_cache(weights):
    settings = SessionSettings(device="cpu", dtype="bfloat16", image_size=128, cache_mb=3)
    engine = LocalEngine(weights, open_frames(make_movie(3)), settings)
    usual = LocalEngine(weights, open_frames(make_movie(3)), SessionSettings(device="cpu"))
    assert (engine.model_state.dtype, usual.model_state.dtype) == ("bfloat16", "float32")
    assert (engine._engine.model.image_size, usual._engine.model.image_size) == (128, 256)
    assert engine.cache.max_bytes == 3 * 2**20 < usual.cache.max_bytes
