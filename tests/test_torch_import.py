"""While torch is imported, garbage is not collected; afterwards as before."""

from __future__ import annotations

import gc
import weakref

import pytest

from napari_sam2._torch_import import importing_torch


def test_garbage_waits_until_the_import_is_done():
    assert gc.isenabled()
    with importing_torch():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_what_was_made_meanwhile_is_old_afterwards_and_still_collected():
    with importing_torch():
        made = [[] for _ in range(50_000)]
    assert gc.get_count()[0] < 10_000
    ring = weakref.WeakSet()
    with importing_torch():
        ring.add(_Ring())
    gc.collect()
    assert not ring
    assert len(made) == 50_000


class _Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


def test_it_is_collected_again_after_an_import_that_fails():
    with pytest.raises(ImportError), importing_torch():
        raise ImportError("no torch")
    assert gc.isenabled()


def test_who_had_it_switched_off_keeps_it_so():
    gc.disable()
    try:
        with importing_torch():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
