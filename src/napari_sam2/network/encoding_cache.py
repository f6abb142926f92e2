"""Tables of positions that are the same for every image of one size: made once, kept by the module that reads them."""

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
    """The latest few tables, by what they depend on.

    A table that is first asked for under ``torch.inference_mode`` is made outside of it, so that training can use it
    later. One that is computed from weights is kept with copies of them, and made anew when they have changed in
    whatever way; while gradients are recorded, or away from a CPU, where comparing would wait for the device, such a
    table is always made anew.

    Parameters
    ----------
    limit : int, default 4
        How many tables are kept; the oldest goes first.
    """

    def __init__(self, limit: int = 4) -> None:
        self.limit = limit
        self._entries: dict[Hashable, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, make: Callable[[], Tensor], *, sources: Sequence[Tensor] = ()) -> Tensor:
        """A table, made if it is not there.

        Parameters
        ----------
        key : hashable
            Size, device and dtype: all that the table depends on besides ``sources``.
        make : callable
            Computes the table.
        sources : sequence of Tensor
            Small weights from which it is computed.

        Returns
        -------
        Tensor
            Not to be written to.
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
