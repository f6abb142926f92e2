"""What a server that keeps a command waiting says, on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_sam2.cli._terminal import say

if TYPE_CHECKING:
    from napari_sam2.session.session import Session
    from napari_sam2.session.state.settings import ModelState

__all__ = ["notices_shown"]


@contextmanager
def notices_shown(session: Session) -> Iterator[None]:
    """Within it, each message about a lost connection or about waiting is printed once."""

    def show(state: ModelState) -> None:
        if state.stage == "loading" and state.message:
            say(f"note: {state.message}", err=True)

    session.model_changed.connect(show)
    try:
        yield
    finally:
        session.model_changed.disconnect(show)
