"""What the tests of sessions share: square masks, and all that undo has to bring back."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from napari_sam2 import PromptError
from napari_sam2.session.session import Session

__all__ = ["random_call", "square", "state"]


def square(y: int, x: int, side: int = 8, hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A mask that holds a square."""
    mask = np.zeros(hw, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def state(session: Session) -> tuple[object, ...]:
    """All that undo has to bring back."""
    return (
        np.asarray(session.labels).tobytes(),
        tuple(session.objects),
        {key: (id(e.answer), e.stamp) for key, e in session.store.prompts.items()},
        {key: (m.box, m.packed, m.kind, m.is_stale) for key, m in session.store.masks.items()},
        session.settings.overlap,
    )


def random_call(session: Session, rng: random.Random) -> None:
    """One call of a session on five frames of 48 x 64 pixels."""
    objects = [o.object_id for o in session.objects]
    frame = rng.randrange(5)
    chosen = rng.choice(objects) if objects and rng.random() < 0.7 else None
    calls = [
        lambda: session.add_points(
            [[frame, rng.randrange(48), rng.randrange(64)]], [rng.randrange(2)], object_id=chosen
        ),
        lambda: session.add_mask(square(rng.randrange(30), rng.randrange(40)), frame=frame, object_id=chosen),
        lambda: session.paint(frame, {chosen or 9: square(rng.randrange(30), rng.randrange(40), rng.randrange(9))}),
        lambda: session.set_overlap(rng.choice(["keep", "overwrite", "highest score"])),
        lambda: session.propagate(max_frames=3) if session.store.prompts else None,
        lambda: session.lock(chosen, frame) if chosen else None,
        lambda: session.unlock(chosen) if chosen else None,
        lambda: session.remove_object(chosen) if chosen and rng.random() < 0.3 else None,
        lambda: session.rename(chosen, str(rng.random())) if chosen else None,
        lambda: session.set_class(chosen, rng.choice(["", "cell", "debris"])) if chosen else None,
        lambda: _merge_or_split(session, rng, objects) if rng.random() < 0.3 else None,
    ]
    call: Callable[[], object] = rng.choice(calls)
    if chosen is not None and frame in session.store.objects[chosen].locked:
        with suppress(PromptError):  # what is locked refuses prompts
            call()
    else:
        call()


def _merge_or_split(session: Session, rng: random.Random, objects: list[int]) -> None:
    with suppress(PromptError):  # locked, the same object, or a line that cuts nothing
        if len(objects) > 1 and rng.random() < 0.5:
            session.merge(*rng.sample(objects, 2))
        elif objects:
            frame, column = rng.randrange(5), rng.randrange(64)
            session.split_along(rng.choice(objects), [[frame, 0, column], [frame, 47, column]])
