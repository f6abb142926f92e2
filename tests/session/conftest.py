"""A small network with random weights, and a session on a movie of five frames."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from factories import make_model, make_movie
from napari_sam2.network.sam2 import SAM2
from napari_sam2.session.session import Session


@pytest.fixture(scope="session")
def model() -> SAM2:
    """A network that all sessions of a test run share."""
    return make_model()


@pytest.fixture
def session(model: SAM2) -> Iterator[Session]:
    """A new session on frames of 48 x 64 pixels."""
    with Session(make_movie(5), model=model) as made:
        yield made
