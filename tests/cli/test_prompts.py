"""Prompt options: their order on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_sam2.cli._prompts import PromptCommand, ordered_prompts


def given_in_order(*arguments: str) -> list[tuple[str, str]]:
    """What a command sees of its prompt options."""
    seen: list[list[tuple[str, str]]] = []
    app = typer.Typer()

    @app.command(cls=PromptCommand)
    def command(
        ctx: typer.Context,
        file: str,
        point: Annotated[list[str] | None, typer.Option("--point")] = None,
        box: Annotated[list[str] | None, typer.Option("--box")] = None,
        negative: Annotated[list[str] | None, typer.Option("--negative")] = None,
        mask: Annotated[list[str] | None, typer.Option("--mask")] = None,
        object_id: Annotated[list[str] | None, typer.Option("--object")] = None,
        other: str = "",
    ) -> None:
        seen.append(ordered_prompts(ctx))

    app(args=list(arguments), standalone_mode=False)
    return seen[0]


def test_order_between_different_options_is_kept():
    arguments = [
        "f",
        "--box",
        "1,2,3,4,5",
        "--object",
        "7",
        "--point",
        "1,2,3",
        "--other",
        "x",
        "--object=2",
        "--negative=1,2,4",
        "--point",
        "1,2,5",
    ]
    assert given_in_order(*arguments) == [
        ("--box", "1,2,3,4,5"),
        ("--object", "7"),
        ("--point", "1,2,3"),
        ("--object", "2"),
        ("--negative", "1,2,4"),
        ("--point", "1,2,5"),
    ]


def test_input_between_prompts_changes_nothing():
    assert given_in_order("--object", "3", "file", "--point", "1,2,3") == [("--object", "3"), ("--point", "1,2,3")]
    assert given_in_order("--point", "1,2,3", "--", "--box") == [("--point", "1,2,3")]


def test_no_prompt_options_give_an_empty_list():
    assert given_in_order("file") == []
