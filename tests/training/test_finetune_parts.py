"""What is trained on which hardware, and that the result is a plain model under the released names."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from finetune_tools import make_discs, save_discs, save_start
from safetensors.torch import load_file
from torch import nn

from factories import make_model
from napari_sam2 import TrainingError, fine_tune, load_model
from napari_sam2.network.config import CONFIGS
from napari_sam2.network.sam2 import SAM2
from napari_sam2.training import hardware
from napari_sam2.training.adapters import LowRank, plain_state, prepare_part
from napari_sam2.training.batches import BatchPlan, make_batch
from napari_sam2.training.dataset import ClipSampler, StackSource
from napari_sam2.training.hardware import OneDevice, choose_hardware
from napari_sam2.training.losses import LossWeights
from napari_sam2.training.steps import StepLog, still_step
from napari_sam2.training.user_labels import labelled_items

needs_fabric = pytest.mark.skipif(
    importlib.util.find_spec("lightning_fabric") is None, reason="the extra 'train' is not installed"
)


def trained_names(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_adapters_start_without_effect_and_merge_to_what_they_computed():
    model, image = make_model(), torch.randn(1, 3, 64, 64)
    names = set(model.state_dict())
    with torch.no_grad():
        before = model.encode_image(image).embed
        prepare_part(model, "adapters", rank=2)
        assert torch.equal(model.encode_image(image).embed, before)
        adapters = [module for module in model.modules() if isinstance(module, LowRank)]
        assert len(adapters) == 2 * sum(model.config.trunk.stages)
        for adapter in adapters:
            adapter.up.normal_(0, 0.1)
        changed = model.encode_image(image).embed
        plain = SAM2(model.config)
        plain.load_state_dict(plain_state(model), strict=True)
        assert not torch.allclose(changed, before, atol=1e-3)
        assert torch.allclose(plain.encode_image(image).embed, changed, atol=1e-5)
    assert set(plain_state(model)) == names


def test_adapters_train_thin_matrices_and_the_decoder():
    model = make_model()
    prepare_part(model, "adapters", rank=2)
    names = {name for name in trained_names(model) if not name.startswith(("sam_", "dense_head."))}
    assert all(name.endswith((".weight.0.up", ".weight.0.down")) for name in names)
    assert sum(p.numel() for n, p in model.named_parameters() if n in names) < 0.03 * sum(
        p.numel() for p in model.parameters()
    )


def test_all_trains_everything_and_the_decoder_only_itself():
    model = make_model()
    prepare_part(model, "decoder")
    parts = {name.partition(".")[0] for name in trained_names(model)}
    assert parts == {"sam_prompt_encoder", "sam_mask_decoder", "dense_head"}
    prepare_part(model, "all")
    assert trained_names(model) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize("part", ["decoder", "adapters", pytest.param("all", marks=pytest.mark.slow)])
def test_released_architecture_learns(tmp_path, part):
    """Seeded weights, one batch shown several times."""
    images, labels = make_discs(2, side=128)
    stacks = [stack for item in labelled_items(images, labels) for stack in item.stacks]
    plan = BatchPlan(crop=128, stills=1, clip_share=0.0)
    batch = make_batch(ClipSampler([StackSource("own", stacks)], size=128), plan, np.random.default_rng(0))
    model = load_model(save_start(tmp_path / "start.safetensors", "sam2.1_hiera_tiny", 128), device="cpu")
    prepare_part(model, part, rank=4)
    devices = OneDevice(torch.device("cpu"))
    devices.setup(model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3))

    def loss_of(network):
        return still_step(
            network, batch, weights=LossWeights(), rng=np.random.default_rng(0), num_corrections=0, log=StepLog()
        )

    losses = [devices.step(loss_of, 1.0)[0] for _ in range(6)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("part", ["adapters", pytest.param("all", marks=pytest.mark.slow)])
def test_fine_tuned_released_model_loads_strictly_under_its_released_names(tmp_path, part):
    start = save_start(tmp_path / "start.safetensors", "sam2.1_hiera_tiny", 64)
    result = fine_tune(
        *make_discs(3), tmp_path / "mine.safetensors", start_from=start, part=part, steps=1, image_size=96,
        validation_objects=2, batch_size=1, device="cpu",
    )  # fmt: skip
    network = SAM2(CONFIGS["sam2.1_hiera_tiny"])
    network.load_state_dict(load_file(result.weights), strict=True)
    model = load_model(result.weights, device="cpu")
    assert (model.config.name, model.image_size) == ("sam2.1_hiera_tiny", 96)


def make_problem(seed: int = 0) -> tuple[SAM2, torch.optim.Optimizer, torch.Tensor]:
    model = make_model(seed)
    prepare_part(model, "decoder")
    parameters = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.SGD(parameters, lr=0.1), torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)


@needs_fabric
def test_fabric_in_full_precision_does_what_plain_torch_does():
    from napari_sam2.training.hardware import _fabric_devices

    results = []
    for devices in (OneDevice(torch.device("cpu")), _fabric_devices(torch.device("cpu"), 1, "float32")):
        model, optimizer, image = make_problem()
        devices.setup(model, optimizer)
        loss, is_finite = devices.step(lambda m, x=image: m.encode_image(x).high_res[0].square().mean(), 0.5)
        assert is_finite
        results.append((loss, model.sam_mask_decoder.conv_s0.weight.detach()))
    assert results[0][0] == pytest.approx(results[1][0])
    assert torch.allclose(results[0][1], results[1][1])


@needs_fabric
def test_bfloat16_computes_in_it_and_keeps_float32_weights():
    devices = choose_hardware("cpu", precision="bfloat16")
    assert devices.description == "cpu, bfloat16"
    model, optimizer, image = make_problem()
    devices.setup(model, optimizer)
    seen = []

    def loss_of(network):
        features = network.encode_image(image).high_res[0]
        seen.append(features.dtype)
        return features.float().square().mean()

    before = model.sam_mask_decoder.conv_s0.weight.detach().clone()
    assert devices.step(loss_of, 1.0)[1]
    after = model.sam_mask_decoder.conv_s0.weight
    assert seen == [torch.bfloat16]
    assert after.dtype == torch.float32
    assert not torch.equal(after, before)


def test_gradient_that_is_not_finite_changes_nothing():
    devices = OneDevice(torch.device("cpu"))
    model, optimizer, image = make_problem()
    before = model.sam_mask_decoder.conv_s0.weight.detach().clone()
    devices.setup(model, optimizer)
    _, is_finite = devices.step(lambda m: m.encode_image(image).high_res[0].sum() * float("inf"), 1.0)
    assert not is_finite
    assert torch.equal(model.sam_mask_decoder.conv_s0.weight, before)


@pytest.mark.parametrize("asked", [{"num_devices": 2}, {"precision": "bfloat16"}])
def test_missing_extra_is_named(monkeypatch, asked):
    monkeypatch.setattr(hardware, "find_spec", lambda name: None)
    with pytest.raises(TrainingError, match=r"pip install 'napari-sam2\[train\]'"):
        choose_hardware("cpu", **asked)
    assert choose_hardware("cpu").description == "cpu, float32"


@needs_fabric
@pytest.mark.slow
def test_two_processes_share_each_step(tmp_path):
    """Started by the command line as a user would, on two CPU processes instead of two GPUs."""
    images, labels = save_discs(tmp_path)
    start = save_start(tmp_path / "start.safetensors")
    script = tmp_path / "napari-sam2"
    script.write_text("from napari_sam2.cli import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, script, "train", images, labels, "-o", tmp_path / "mine.safetensors",
         "--from", start, "--steps", "2", "--report-every", "1", "--batch-size", "1", "--devices", "2",
         "--device", "cpu", "--workers", "0"],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["0", "1", "2"]
    assert sum(line.strip().startswith("after") for line in lines) == 1
    assert load_model(tmp_path / "mine.safetensors", device="cpu").config.name == "sam2_micro"
