"""What a fine-tuning leaves on disk: the best weights, and the state from which it goes on after a crash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from napari_sam2._errors import OutputError, TrainingError
from napari_sam2.training.packs import LabelledStack

__all__ = ["TuningFiles", "fingerprint"]


class TuningFiles:
    """The output and the state beside it; each is replaced whole or not at all.

    Parameters
    ----------
    output : str or Path
        Takes the best weights; ends in ``.safetensors``. The state is the same name with ``.state.pt``.

    Raises
    ------
    OutputError
        If the name or folder does not do.
    """

    def __init__(self, output: str | Path) -> None:
        self.weights = Path(output).expanduser()
        if self.weights.suffix.lower() != ".safetensors":
            raise OutputError(f"the output {output} was given; its name must end in .safetensors")
        if not self.weights.parent.is_dir():
            raise OutputError(f"the folder {self.weights.parent} does not exist; make it first, or write elsewhere")
        if self.weights.is_dir():
            raise OutputError(f"the output {output} is a folder; give the name of a file in it")
        self.state = self.weights.with_suffix(".state.pt")

    def save_weights(self, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
        """Write a state dict as fp16 safetensors."""
        half = {name: t.detach().to("cpu", torch.float16).contiguous() for name, t in tensors.items()}
        content = save(half, metadata=metadata)
        _put(self.weights, lambda part: _write(part, content))

    def save_state(self, state: dict[str, object]) -> None:
        """Write the state to go on from."""
        _put(self.state, lambda part: torch.save(state, part))

    def load_state(self, device: torch.device) -> dict[str, object]:
        """Read the state to go on from.

        Raises
        ------
        TrainingError
            If it is damaged.
        """
        try:
            state = torch.load(self.state, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
            raise TrainingError(
                f"{self.state} is damaged ({' '.join(str(error).split())[:160]}); remove it to start anew"
            ) from error
        if not isinstance(state, dict):
            raise TrainingError(f"{self.state} is not the state of a fine-tuning; remove it to start anew")
        return state

    def forget_state(self) -> None:
        """Remove the state: there is nothing to go on with."""
        self.state.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """Not by safetensors itself, whose files nobody but their owner may read."""
    path.write_bytes(content)


def _put(path: Path, write: Callable[[Path], None]) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        try:
            write(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch words a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        kept = " What was saved before is kept." if path.exists() else ""
        raise OutputError(f"{path} cannot be written ({reason}); free space or write elsewhere.{kept}") from error


def fingerprint(settings: object, start: Mapping[str, Tensor], stacks: Sequence[LabelledStack]) -> str:
    """What tells one fine-tuning from another: settings, starting weights and data, as a hexadecimal digest."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=16)
    for name, tensor in start.items():
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
    for stack in stacks:
        digest.update(f"{stack.name} {stack.frames.shape} {stack.is_sequence}".encode())
        digest.update(stack.frames.data)
        digest.update(stack.labels.data)
    return digest.hexdigest()
