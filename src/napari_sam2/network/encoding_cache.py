"""Cache of position encodings, which are the same for all images of one size."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["EncodingCache"]


@dataclass(frozen=True)
class _Entry:
    table: Tensor
    sources: tuple[Tensor, ...]


class EncodingCache:
    """The most recent position encodings, by the parameters they depend on.

    Encodings are computed outside ``torch.inference_mode``, so that they can be used in training. Encodings that are
    computed from weights are stored with copies of these, and recomputed when they change. While gradients are
    recorded, and on devices other than a CPU, where a comparison would wait for the device, they are always recomputed.

    Parameters
    ----------
    limit : int, default 4
        Number of encodings to keep; the oldest is removed first.
    """

    def __init__(self, limit: int = 4) -> None:
        self.limit = limit
        self._entries: dict[Hashable, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, make: Callable[[], Tensor], *, sources: Sequence[Tensor] = ()) -> Tensor:
        """Return an encoding, computed if it is not cached.

        Parameters
        ----------
        key : hashable
            Size, device and dtype: everything the encoding depends on except ``sources``.
        make : callable
            Computes the encoding.
        sources : sequence of Tensor
            Small weights that it is computed from.

        Returns
        -------
        Tensor
            Shared; must not be modified.
        """
        if any(s.device.type != "cpu" or (torch.is_grad_enabled() and s.requires_grad) for s in sources):
            return make()
        entry = self._entries.get(key)
        if entry is not None and all(map(torch.equal, entry.sources, sources)):
            return entry.table
        with torch.inference_mode(False), torch.no_grad():
            entry = _Entry(make(), tuple(s.detach().clone() for s in sources))
        self._entries.pop(key, None)
        self._entries[key] = entry
        while len(self._entries) > self.limit:
            self._entries.pop(next(iter(self._entries)), None)
        return entry.table
