"""Files of a fine-tuning run: the best weights, and the state from which it resumes."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from napari_sam2._errors import OutputError, TrainingError
from napari_sam2._files import check_folder, check_writable, expand, write_error, write_whole
from napari_sam2.training.packs import LabelledStack

__all__ = ["TuningFiles", "fingerprint"]

_DAMAGED = (OSError, RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError)


class TuningFiles:
    """The output and the state beside it; each is written whole or not at all.

    Parameters
    ----------
    output : str or Path
        The best weights; ends in ``.safetensors``. The state has the same name with ``.state.pt``.

    Raises
    ------
    OutputError
        If the suffix is wrong or the folder does not exist.
    """

    def __init__(self, output: str | Path) -> None:
        self.weights = expand(output)
        if self.weights.suffix.lower() != ".safetensors":
            raise OutputError(f"the output {output} was given; its name must end in .safetensors")
        check_folder(self.weights)
        if self.weights.is_dir():
            raise OutputError(f"the output {output} is a folder; give the name of a file in it")
        self.state = self.weights.with_suffix(".state.pt")

    def check_writable(self) -> None:
        """Raise OutputError if the folder cannot be written to."""
        check_writable(self.weights)

    def save_weights(self, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
        """Write a state dict as fp16 safetensors."""
        half = {name: t.detach().to("cpu", torch.float16).contiguous() for name, t in tensors.items()}
        content = save(half, metadata=metadata)  # safetensors' own files can be read by their owner only
        write_whole(self.weights, lambda part: part.write_bytes(content))

    def save_state(self, state: dict[str, object]) -> None:
        """Write the state from which the run can be resumed."""
        try:
            write_whole(self.state, lambda part: torch.save(state, part))
        except RuntimeError as error:  # how torch reports a full disk
            raise write_error(self.state, error) from error

    def load_state(self, device: torch.device) -> dict[str, object]:
        """Read the state from which the run can be resumed.

        Raises
        ------
        TrainingError
            If it is damaged.
        """
        try:
            state = torch.load(self.state, map_location=device, weights_only=True)
        except (*_DAMAGED, pickle.UnpicklingError) as error:
            raise self.damaged(error) from error
        if not isinstance(state, dict):
            raise TrainingError(f"{self.state} is not the state of a fine-tuning run; remove it to start over")
        return state

    def damaged(self, error: BaseException) -> TrainingError:
        """The error for a state that cannot be used."""
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        return TrainingError(f"{self.state} is damaged ({reason}); remove it to start over")

    def forget_state(self) -> None:
        """Remove the state; there is nothing left to resume."""
        self.state.unlink(missing_ok=True)


def fingerprint(settings: object, start: Mapping[str, Tensor], stacks: Sequence[LabelledStack]) -> str:
    """Hexadecimal digest of settings, starting weights and data: equal for runs that can resume each other."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for name, tensor in start.items():
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    for stack in stacks:
        digest.update(f"{stack.name} {stack.frames.shape} {stack.is_sequence}".encode())
        digest.update(stack.frames.data)
        digest.update(stack.labels.data)
    return digest.hexdigest()
