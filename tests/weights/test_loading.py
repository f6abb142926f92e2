"""Weights files become networks: formats, prefixes, recognition, damage, devices and precisions."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import random
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from napari_sam2 import CheckpointError, DeviceError, DownloadError, load_model
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2
from napari_sam2.weights import loading as checkpoints
from napari_sam2.weights.architecture import build_network
from napari_sam2.weights.downloads import BUNDLED_FILE, CACHE_VARIABLE, OFFLINE_VARIABLE, RELEASES, list_models
from napari_sam2.weights.files import Weights, read_weights
from napari_sam2.weights.loading import ensure_model
from places import SHARED

KEYS = SHARED / "reference" / "keys"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """Weights of the small network, drawn once."""
    torch.manual_seed(0)
    return {key: tensor.clone() for key, tensor in SAM2(CONFIGS["sam2_micro"]).state_dict().items()}


def shapes_only(name: str) -> State:
    """Zeros with the names and shapes of a configuration, which take no memory."""
    network = build_network_shapes(name)
    return {key: torch.zeros(()).expand(shape) for key, shape in network.items()}


def build_network_shapes(name: str) -> dict[str, torch.Size]:
    from napari_sam2.weights.architecture import _empty_network

    return {key: tensor.shape for key, tensor in _empty_network(CONFIGS[name]).state_dict().items()}


def assert_equal(network: SAM2, state: State) -> None:
    loaded = network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items())


def with_prefix(state: State, prefix: str) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


# ------------------------------------------------------------------------------------------------ formats
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda s: s, id="bare"),
        pytest.param(lambda s: {"model": s}, id="released"),
        pytest.param(lambda s: {"state_dict": with_prefix(s, "model.")}, id="lightning"),
        pytest.param(lambda s: {"model_state_dict": with_prefix(s, "module.")}, id="data-parallel"),
        pytest.param(lambda s: OrderedDict(with_prefix(s, "sam2.model.")), id="nested-prefix"),
        pytest.param(lambda s: {"model": with_prefix(s, "_orig_mod.")}, id="compiled"),
        pytest.param(
            lambda s: {
                "model": s,
                "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
                "epoch": 3,
                "best_meter_values": {"loss": np.float64(0.25), "array": np.zeros(3, np.float32)},
                "args": argparse.Namespace(lr=0.1),
                "time_elapsed": 12.5,
            },
            id="training",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_torch_file_loads_in_every_usual_container(
    state: State, tmp_path: Path, wrap: Callable[[State], object], suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap(state), path)
    network = load_model(path, device="cpu")
    assert_equal(network, state)
    assert network.config == CONFIGS["sam2_micro"]
    assert not network.training


def test_old_style_torch_file_loads(state: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)
    assert_equal(load_model(str(path), device="cpu"), state)


def test_half_precision_file_is_computed_in_float32_on_a_cpu(state: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({key: tensor.half() for key, tensor in state.items()}, path)
    network = load_model(path, device="cpu")
    assert network.dtype == torch.float32
    assert_equal(network, {key: tensor.half().float() for key, tensor in state.items()})


@pytest.mark.parametrize("part", ["dense_head.", "sam_mask_decoder.fine_blocks."])
def test_weights_from_before_a_part_was_added_load_without_it(state: State, tmp_path: Path, part: str) -> None:
    older = {key: tensor for key, tensor in state.items() if not key.startswith(part)}
    assert len(older) < len(state)
    path = tmp_path / "weights.safetensors"
    save_file(older, path)
    assert_equal(load_model(path, device="cpu"), older)


def test_safetensors_metadata_gives_model_and_image_size(state: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state, path, metadata={"model": "sam2_micro", "image_size": "512", "step": "7"})
    assert load_model(path, device="cpu").image_size == 512
    assert load_model(path, device="cpu", image_size=128).image_size == 128


def test_network_lives_on_when_its_file_is_replaced(state: State, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    network = load_model(path, device="cpu")
    save_file({key: torch.zeros_like(tensor) for key, tensor in state.items()}, tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").replace(path)
    assert_equal(network, state)


def test_loaded_network_can_be_trained_further(state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pt")
    network = load_model(tmp_path / "w.pt", device="cpu")
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in network.parameters())


# ------------------------------------------------------------------------------------------------ recognition
@pytest.mark.parametrize("name", list(CONFIGS))
def test_configuration_is_recognised_from_names_and_shapes(name: str) -> None:
    network = build_network(Weights(shapes_only(name)), "weights")
    assert network.config == CONFIGS[name]
    assert network.image_size == CONFIGS[name].image_size


@pytest.mark.parametrize("name", list(RELEASES))
def test_key_list_of_the_reference_is_recognised(name: str) -> None:
    file = KEYS / f"{name}.json"
    if not file.is_file():
        pytest.skip("the reference's key lists are not here")
    tensors = {key: torch.zeros(()).expand(shape) for key, shape in json.loads(file.read_text())}
    assert build_network(Weights(tensors), name).config.name == name


def test_table_counts_the_parameters_of_the_networks() -> None:
    for info in list_models():
        count = sum(shape.numel() for shape in build_network_shapes(info.name).values())
        assert info.parameters == count, info.name


def test_other_number_of_memories_is_recognised(state: State) -> None:
    tensors = {**state, "maskmem_tpos_enc": torch.zeros(9, *state["maskmem_tpos_enc"].shape[1:])}
    assert build_network(Weights(tensors), "weights").config.num_memories == 9


@pytest.mark.parametrize(
    ("name", "size"),
    [("MedSAM2_latest.pt", 512), ("medsam2_CTLesion.pt", 512), ("finetuned.pt", 256), ("not_MedSAM2.pt", 256)],
)
def test_medsam2_file_opens_at_512_pixels(state: State, tmp_path: Path, name: str, size: int) -> None:
    torch.save({"model": state}, tmp_path / name)
    assert load_model(tmp_path / name, device="cpu").image_size == size
    assert load_model(tmp_path / name, device="cpu", image_size=1024).image_size == 1024


def test_checkpoint_that_states_its_image_size_is_believed(state: State, tmp_path: Path) -> None:
    torch.save({"model": state, "image_size": 384, "model_name": "sam2_micro"}, tmp_path / "w.pt")
    assert load_model(tmp_path / "w.pt", device="cpu").image_size == 384


@pytest.mark.parametrize("size", ["0", "1000", "1000000", "\u00b2", "\u0661\u0662\u0668", "9" * 5000, "-256", ""])
def test_image_size_in_metadata_that_no_network_can_take_is_an_error(state: State, tmp_path: Path, size: str) -> None:
    save_file(state, tmp_path / "w.safetensors", metadata={"image_size": size})
    with pytest.raises(CheckpointError, match=r"w\.safetensors states image_size=.*multiples of 32 from 32 to 4096"):
        load_model(tmp_path / "w.safetensors", device="cpu")


def test_config_that_nests_without_end_is_an_error(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read.*repair or remove it"):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["~no_such_user_here/w.pt", "a" * 5000, "a\0b", 5, None, b"w.pt"])
def test_names_that_are_no_path_are_an_error(name: object) -> None:
    with pytest.raises(CheckpointError):
        load_model(name, device="cpu")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("image_encoder.trunk.pos_embed", torch.tensor(1.0), id="position-0d"),
        pytest.param("image_encoder.trunk.pos_embed", torch.zeros(1, 32), id="position-2d"),
        pytest.param("image_encoder.neck.convs.0.conv.weight", torch.tensor(1.0), id="neck-0d"),
        pytest.param("maskmem_tpos_enc", torch.tensor(1.0), id="memory-0d"),
        pytest.param("maskmem_tpos_enc", torch.zeros(0, 1, 1, 64), id="memory-empty"),
        pytest.param("maskmem_tpos_enc", torch.zeros(1000, 1, 1, 64), id="a-thousand-memories"),
        pytest.param("no_obj_ptr", torch.zeros(1, 0), id="empty"),
    ],
)
def test_shapes_that_no_configuration_has_are_an_error(state: State, key: str, value: Tensor) -> None:
    with pytest.raises(CheckpointError, match=r"matches no known configuration.*closest is sam2_micro"):
        build_network(Weights({**state, key: value}), "weights")


@pytest.mark.parametrize("size", [0, -32, 16, 100, 1023, 4128, 1_000_000])
def test_image_size_that_no_network_can_take_is_an_error(state: State, tmp_path: Path, size: object) -> None:
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=rf"image_size={size!r} was given.*multiples of 32"):
        load_model(tmp_path / "w.pt", device="cpu", image_size=size)


@pytest.mark.parametrize("size", [512.5, "512", True])
def test_image_size_that_is_no_integer_is_an_error(size: object) -> None:
    with pytest.raises(CheckpointError, match=rf"image_size={size!r} was given; expected an integer"):
        load_model(device="cpu", image_size=size)


def test_tables_that_follow_from_the_configuration_are_ignored(state: State) -> None:
    extra = {"memory_attention.layers.0.self_attn.freqs_cis": torch.zeros(3)}
    assert_equal(build_network(Weights({**state, **extra}), "weights"), state)


# ------------------------------------------------------------------------------------------------ misfits
def without(state: State, *names: str) -> State:
    return {key: tensor for key, tensor in state.items() if not key.startswith(names)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            lambda s: without(s, "no_mem_pos_enc"), ["closest is sam2_micro", "missing: no_mem_pos_enc"], id="missing"
        ),
        pytest.param(
            lambda s: without(s, "sam_mask_decoder.transformer"),
            ["missing: sam_mask_decoder.transformer.layers.0.", " more"],
            id="many-missing",
        ),
        pytest.param(lambda s: {**s, "head.weight": torch.zeros(2)}, ["unexpected: head.weight"], id="unexpected"),
        pytest.param(
            lambda s: {**s, "no_obj_ptr": torch.zeros(1, 7)},
            ["of another shape: no_obj_ptr (1, 7) instead of (1, 128)"],
            id="shape",
        ),
        pytest.param(
            lambda s: {k: v[:, :5] if k == "image_encoder.trunk.pos_embed" else v for k, v in s.items()},
            ["closest is sam2_micro", "image_encoder.trunk.pos_embed (1, 5, 7, 7)"],
            id="trunk-of-another-width",
        ),
        pytest.param(lambda s: without(s, "memory_attention"), ["missing: memory_attention."], id="half-of-the-memory"),
    ],
)
def test_misfit_names_the_nearest_configuration_and_the_first_keys(
    state: State, tmp_path: Path, change: Callable[[State], State], words: list[str]
) -> None:
    path = tmp_path / "w.pt"
    torch.save({"model": change(state)}, path)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, device="cpu")
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    for word in words:
        assert word in text


def test_misfit_of_a_large_model_is_compared_with_that_model() -> None:
    tensors = without(shapes_only("sam2_hiera_large"), "obj_ptr_proj.layers.1")
    with pytest.raises(CheckpointError, match=r"closest is sam2_hiera_large.*missing: obj_ptr_proj\.layers\.1\.weight"):
        build_network(Weights(tensors), "weights")


def test_name_in_the_file_that_does_not_fit_is_told(state: State) -> None:
    with pytest.raises(CheckpointError, match=r"the file states sam2\.1_hiera_tiny"):
        build_network(Weights(without(state, "no_obj_ptr"), "sam2.1_hiera_tiny"), "weights")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        pytest.param(torch.tensor(float("nan")), "NaN or infinite", id="nan"),
        pytest.param(torch.tensor(float("inf")), "NaN or infinite", id="inf"),
        pytest.param(torch.tensor(1, dtype=torch.int8), "before quantisation", id="int8"),
        pytest.param(torch.tensor(1.0).to(torch.float8_e4m3fn), "before quantisation", id="float8"),
        pytest.param(torch.tensor(1.0, device="meta"), "on meta, not an array of numbers", id="meta"),
        pytest.param(torch.tensor(1 + 1j), "complex64", id="complex"),
    ],
)
def test_tensors_that_are_not_weights_are_an_error(state: State, value: Tensor, words: str) -> None:
    bad = {**state, "no_obj_ptr": value.expand(state["no_obj_ptr"].shape)}
    with pytest.raises(CheckpointError, match=rf"no_obj_ptr.*{words}"):
        build_network(Weights(bad), "weights")


# ------------------------------------------------------------------------------------------------ damage
class _Code:
    """What a malicious checkpoint does when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_code_in_a_checkpoint_is_never_run(state: State, tmp_path: Path, form: str) -> None:
    path, marker = tmp_path / "evil.pt", tmp_path / "ran"
    content = {"model": {"a": torch.zeros(2)}, "extra": _Code(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(_Code(marker), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match=r"evil\.pt contains more than weights \((posix|nt)\.system\)"):
        load_model(path, device="cpu")
    assert not marker.exists()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.99, 0.99999])
def test_truncated_file_is_an_error_that_names_it(state: State, tmp_path: Path, suffix: str, share: float) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    save_file(state, whole) if suffix == ".safetensors" else torch.save({"model": state}, whole)
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=rf"cut\{suffix}.*download it again"):
        load_model(path, device="cpu")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("seed", range(12))
def test_random_bytes_are_an_error_that_names_the_file(tmp_path: Path, suffix: str, seed: int) -> None:
    path = tmp_path / f"noise{suffix}"
    beginnings = (
        b"",
        b"\x80\x02",
        b"PK\x03\x04",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x08" + 7 * b"\0",
        b"(",
    )
    path.write_bytes(beginnings[seed % len(beginnings)] + random.Random(seed).randbytes(500))
    with pytest.raises(CheckpointError, match=rf"noise\{suffix}"):
        load_model(path, device="cpu")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"<!DOCTYPE html><html>", "is a web page", id="html"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull", id="lfs"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_usual_mishap_is_named(tmp_path: Path, content: bytes, words: str, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_model(path, device="cpu")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param([1, 2], "a list", id="list"),
        pytest.param({"epoch": 3}, "a dictionary with 'epoch'", id="no-state"),
        pytest.param({}, "a dictionary with nothing", id="nothing"),
        pytest.param(torch.zeros(3), "a Tensor", id="tensor"),
        pytest.param({"model": {"conv.weight": torch.zeros(2), "conv.bias": torch.zeros(1)}}, "conv.weight", id="unet"),
    ],
)
def test_file_without_sam2_weights_says_what_it_holds(tmp_path: Path, content: object, words: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=words):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param("sam2_huge", "neither a file nor the name of a model; names are sam2_micro", id="name"),
        pytest.param("missing/weights.pt", "neither a file nor", id="missing"),
        pytest.param("notes.txt", r"ends in '\.txt'; expected \.safetensors, \.pt", id="suffix"),
        pytest.param("notes", r"notes has no suffix; expected \.safetensors, \.pt", id="no-suffix"),
        pytest.param("folder", r"contains no model\.safetensors", id="folder"),
    ],
)
def test_what_is_no_checkpoint_is_an_error_that_lists_what_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("notes.txt", "notes"):
        (tmp_path / name).write_text("weights")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=words):
        load_model(given)


# ------------------------------------------------------------------------------------------------ names
def test_released_name_is_found_in_the_offline_folder_or_told_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OFFLINE_VARIABLE, str(tmp_path))
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(DownloadError) as caught:
        load_model("sam2.1_hiera_tiny", device="cpu")
    for word in (RELEASES["sam2.1_hiera_tiny"].url, OFFLINE_VARIABLE, str(tmp_path), str(tmp_path / "cache")):
        assert word in str(caught.value)


def test_missing_bundled_file_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "BUNDLED_FILE", tmp_path / "sam2_micro.safetensors")
    with pytest.raises(CheckpointError, match="missing from this installation"):
        load_model()


def test_bundled_model_loads_by_default_on_the_cpu() -> None:
    if not BUNDLED_FILE.is_file():
        pytest.skip("the bundled weights are not here")
    network = load_model(device="cpu")
    assert network.config.name == "sam2_micro"
    assert network.dtype == torch.float32


def test_ensure_model_keeps_a_network_and_loads_a_path(state: State, tmp_path: Path) -> None:
    network = SAM2(CONFIGS["sam2_micro"]).train()
    assert ensure_model(network) is network
    assert not network.training
    torch.save(state, tmp_path / "w.pt")
    assert_equal(ensure_model(tmp_path / "w.pt").float().cpu(), state)


# ------------------------------------------------------------------------------------------------ devices
@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "cpu:x", "", 1.5])
def test_device_that_is_not_here_is_an_error_that_lists_those_that_are(device: str) -> None:
    with pytest.raises(DeviceError, match=r"was given.*available are auto, cpu"):
        load_model("any", device=device)


@pytest.mark.parametrize("dtype", ["float8", "int8", "half", torch.int64, torch.float8_e4m3fn, None])
def test_unknown_precision_is_an_error_that_lists_the_known(dtype: str) -> None:
    with pytest.raises(DeviceError, match=r"dtype=.* was given; expected auto, float32, bfloat16, float16"):
        load_model("any", device="cpu", dtype=dtype)


def test_auto_device_takes_cuda_before_the_cpu_and_bfloat16_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checkpoints.resolve_device("auto") == torch.device("cpu")
    assert checkpoints.resolve_dtype("auto", torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert checkpoints.resolve_device("auto") == torch.device("mps")
    assert checkpoints.resolve_dtype("auto", torch.device("mps")) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert checkpoints.resolve_device("auto") == torch.device("cuda")
    for capability, dtype in (((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert checkpoints.resolve_dtype("auto", torch.device("cuda")) == dtype


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", torch.float64])
def test_other_precision_is_computed_on_the_cpu(state: State, tmp_path: Path, dtype: str | torch.dtype) -> None:
    torch.save(state, tmp_path / "w.pt")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network = load_model(tmp_path / "w.pt", device="cpu", dtype=dtype)
    with torch.inference_mode():
        embedding = network.encode_image(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
        asked = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        assert network.precision == asked
        assert embedding.embed.dtype == network.dtype == (torch.float32 if asked.itemsize < 4 else asked)
        network.compute_in(torch.float32)
        assert network.precision == torch.float32
        exact = network.encode_image(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert (embedding.embed.float() - exact.embed).norm() < 0.02 * exact.embed.norm()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_cpu_without_the_instructions_warns_and_one_with_them_does_not(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, dtype: str
) -> None:
    monkeypatch.setattr("napari_sam2.weights.devices.cpu_computes", lambda _: True)
    checkpoints.resolve_dtype(dtype, torch.device("cpu"))
    assert not recwarn
    monkeypatch.setattr("napari_sam2.weights.devices.cpu_computes", lambda _: False)
    with pytest.warns(UserWarning, match=rf"no instructions for {dtype}: it computes in float32 instead"):
        checkpoints.resolve_dtype(dtype, torch.device("cpu"))


# in a process of its own: what lies on the heap of this one depends on the tests before
COUNT_FAULTS = """
import resource
import torch
import napari_sam2

torch.set_num_threads(2)
model = napari_sam2.load_model(device="cpu")
image = torch.rand(1, 3, 256, 256)
pages = []
with torch.inference_mode():
    for _ in range(12):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        model.encode_image(image)
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(pages[4:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="page faults are counted where glibc allocates")
def test_an_encoding_on_the_cpu_reuses_its_pages():
    run = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 200


def test_zoom_gives_windows_to_models_that_see_the_whole_image(state: State, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(CONFIGS, "sam2_micro", replace(CONFIGS["sam2_micro"], native_window=None))
    save_file(state, tmp_path / "w.safetensors", metadata={"model": "sam2_micro", "image_size": "64"})
    assert load_model(tmp_path / "w.safetensors", device="cpu").config.native_window is None
    assert load_model(tmp_path / "w.safetensors", device="cpu", zoom="auto").config.native_window == 16
    with pytest.raises(CheckpointError, match="expected 'off' or 'auto'"):
        load_model(tmp_path / "w.safetensors", zoom="max")  # type: ignore[arg-type]


class Incomparable:
    """As sparse arrays of scipy, which cannot be compared with text."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("no comparison")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("name", ["device", "dtype"])
def test_devices_and_precisions_that_cannot_be_compared_are_refused(tmp_path, name):
    with pytest.raises(DeviceError, match=f"^{name}=.* was given; "):
        load_model(**{name: Incomparable()})
