"""Linear layers whose matrix products take the faster of torch's two libraries on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.arithmetic import in_reference_order

__all__ = ["MIN_ROWS", "Linear", "linear", "onednn_gains"]

MIN_ROWS = 64  # below, a call costs more than its product


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, then_gelu: bool = False) -> Tensor:
    """``torch.nn.functional.linear``, which on AMD processors with AVX-512 multiplies through oneDNN.

    Parameters
    ----------
    x, weight, bias : Tensor
        (..., C), (C', C) and (C',).
    then_gelu : bool, default False
        Whether the exact GELU of the result is wanted.

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
    if not is_plain or torch.is_grad_enabled() or x.numel() < MIN_ROWS * x.shape[-1] or not onednn_gains():
        out = F.linear(x, weight, bias)
        return F.gelu(out) if then_gelu else out
    dense = weight.contiguous()  # oneDNN is a thousand times slower if its rows do not follow one another
    follows = "gelu" if then_gelu else "none"
    out = torch.ops.mkldnn._linear_pointwise(x, dense, bias, follows, [], "none")  # noqa: SLF001 - "none": the exact GELU
    return cast(Tensor, out)


class Linear(nn.Linear):
    """``torch.nn.Linear`` by the function ``multiply``: ``linear``, unless training sets another on a layer."""

    multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor] = staticmethod(linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.weight, self.bias)

    def then_gelu(self, x: Tensor) -> Tensor:
        """The exact GELU of what ``forward`` gives, in one go where the product is ours."""
        if self.multiply is linear:
            return linear(x, self.weight, self.bias, then_gelu=True)
        return F.gelu(self(x))


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
