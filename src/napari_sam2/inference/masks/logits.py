"""Logits that stand for something: limits, and masks given as prompts."""

from __future__ import annotations

__all__ = ["LOGIT_LIMIT", "MASK_LOGIT", "SUPPRESSED_LOGIT"]

LOGIT_LIMIT = 32.0
"""Logits returned to the caller, or fed back to the decoder, are clamped to +- this, as in the reference."""

MASK_LOGIT = 10.0
"""A binary mask becomes logits of +- this; pixels flipped by clean-up are set this far from the threshold."""

SUPPRESSED_LOGIT = -MASK_LOGIT
"""Upper limit of the logits of pixels that were removed from a mask, or assigned to another object."""
