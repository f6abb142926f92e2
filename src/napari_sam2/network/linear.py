"""Linear layers that use the faster of torch's two matrix libraries on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_sam2.network.arithmetic import in_reference_order

__all__ = ["MIN_ROWS", "Linear", "linear", "onednn_gains"]

MIN_ROWS = 64  # below, the overhead of a call exceeds the gain


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, then_gelu: bool = False) -> Tensor:
    """``torch.nn.functional.linear`` that uses oneDNN on AMD processors.

    Parameters
    ----------
    x, weight, bias : Tensor
        (..., C), (C', C) and (C',).
    then_gelu : bool, default False
        Apply the exact GELU to the result.

    Returns
    -------
    Tensor
        (..., C').

    Notes
    -----
    torch multiplies float32 matrices with MKL, which does not use AMD's AVX-512 units. oneDNN, which torch includes for
    convolutions, is twice as fast there for products of all shapes, and 10 to 25 % faster with AVX2 only. Results
    differ by rounding. torch's function is called elsewhere, in the reference's order and while gradients are recorded.
    """
    is_plain = x.dtype == torch.float32 == weight.dtype and x.device.type == "cpu" and not in_reference_order()
    if not is_plain or torch.is_grad_enabled() or x.numel() < MIN_ROWS * x.shape[-1] or not onednn_gains():
        out = F.linear(x, weight, bias)
        return F.gelu(out) if then_gelu else out
    dense = weight.contiguous()  # oneDNN is a thousand times slower on weights that are not contiguous
    follows = "gelu" if then_gelu else "none"
    out = torch.ops.mkldnn._linear_pointwise(x, dense, bias, follows, [], "none")  # noqa: SLF001 - "none": the exact GELU
    return cast(Tensor, out)


class Linear(nn.Linear):
    """``torch.nn.Linear`` whose product is ``multiply``; training may replace it per layer."""

    multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor] = staticmethod(linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.weight, self.bias)

    def then_gelu(self, x: Tensor) -> Tensor:
        """``forward`` followed by the exact GELU, fused where the product is `linear`."""
        if self.multiply is linear:
            return linear(x, self.weight, self.bias, then_gelu=True)
        return F.gelu(self(x))


@cache
def onednn_gains() -> bool:
    """Whether MKL is slower than oneDNN, as on AMD processors; found without timing, so that results are stable."""
    if not hasattr(torch.cpu, "get_capabilities"):  # older versions of torch do not report the vendor
        return False
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and "AMD" in str(torch.cpu.get_capabilities().get("cpu_name", ""))
    )
