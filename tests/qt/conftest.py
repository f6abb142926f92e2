"""A binding that ends with its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qt_tools import make_binding

from napari_sam2._viewer.binding import ViewerBinding


@pytest.fixture
def binding(qtbot) -> Iterator[ViewerBinding]:
    made = make_binding()
    yield made
    made.close()
    made.session.close()
