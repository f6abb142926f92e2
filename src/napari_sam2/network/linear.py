"""Linear layers whose matrix products take the faster of torch's two libraries on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.arithmetic import in_reference_order

__all__ = ["Linear", "linear", "onednn_gains"]

_MIN_ROWS = 64  # below, a call costs more than its product


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``, which on AMD processors with AVX-512 multiplies through oneDNN.

    Parameters
    ----------
    x, weight, bias : Tensor
        (..., C), (C', C) and (C',).

    Returns
    -------
    Tensor
        (..., C').

    Notes
    -----
    torch multiplies float32 through MKL, which leaves AMD's AVX-512 units unused: there oneDNN, which torch brings too
    and uses for convolutions, is twice as fast for products of all shapes, and its results differ by rounding alone.
    Elsewhere, in the reference's order, and while gradients are recorded, this is torch's function.
    """
    is_plain = x.dtype == torch.float32 == weight.dtype and x.device.type == "cpu" and not in_reference_order()
    if not is_plain or torch.is_grad_enabled() or x.numel() < _MIN_ROWS * x.shape[-1] or not onednn_gains():
        return F.linear(x, weight, bias)
    dense = weight.contiguous()  # oneDNN is a thousand times slower if its rows do not follow one another
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, dense, bias, "none", [], "")  # noqa: SLF001
    return out


class Linear(nn.Linear):
    """``torch.nn.Linear`` by the function ``multiply``: ``linear``, unless training sets another on a layer."""

    multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor] = staticmethod(linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.weight, self.bias)


@cache
def onednn_gains() -> bool:
    """Whether MKL leaves this processor's wide units unused; the same in every run, so that results are too."""
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch does not tell whose processor it is
        return False
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AMD" in str(torch.cpu.get_capabilities().get("cpu_name", ""))
    )
