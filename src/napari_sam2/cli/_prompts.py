"""Prompts on the command line: options whose order tells which object each belongs to."""

from __future__ import annotations

import typer
from typer.core import TyperCommand

__all__ = ["PromptCommand", "ordered_prompts"]

_IN_ORDER = {"point": "--point", "negative": "--negative", "box": "--box", "mask": "--mask", "object_id": "--object"}
_KEY = "napari_sam2.prompts"


class PromptCommand(TyperCommand):
    """A command that remembers in which order its prompt options were given; see `ordered_prompts`."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]  # typer brings its own click, or an installed one
        """Parse twice: once for the order, which typer does not keep, and once as usual."""
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        names = [str(parameter.name) for parameter in order if parameter.name in _IN_ORDER]
        queues = {name: iter(values[name]) for name in names}
        ctx.meta[_KEY] = [(_IN_ORDER[name], next(queues[name])) for name in names]
        return super().parse_args(ctx, args)


def ordered_prompts(ctx: typer.Context) -> list[tuple[str, str]]:
    """(option, value) of every prompt option of a `PromptCommand`, in the order in which they were given."""
    given: list[tuple[str, str]] = ctx.meta[_KEY]
    return given
