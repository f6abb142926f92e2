"""Objects like the current one: ranked, offered one after the other, accepted or refused."""

from __future__ import annotations

import numpy as np
import pytest
from qt_tools import add_disc

from napari_sam2._qt.alike_offer import AlikeOffer
from napari_sam2._viewer.alike import Candidate, rank_alike
from napari_sam2._viewer.automatic_work import Searcher

HW = (48, 64)


def _disc(y: float, x: float, radius: float, stretch: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[: HW[0], : HW[1]]
    return (rows - y) ** 2 + ((columns - x) / stretch) ** 2 < radius**2


def test_alike_in_size_shape_and_intensity_comes_first():
    image = np.full((*HW, 3), 20, np.uint8)
    masks = {
        "same": _disc(35, 50, 5),
        "dark": _disc(35, 15, 5),
        "small": _disc(10, 50, 2),
        "long": _disc(20, 45, 3, 3),
    }
    for name, mask in masks.items():
        image[mask] = 60 if name == "dark" else 220
    example = _disc(12, 15, 5)
    image[example] = 215
    found = rank_alike(image, Candidate.of(example), [Candidate.of(mask) for mask in masks.values()])
    assert np.array_equal(found[0].in_image(HW), masks["same"])
    assert not any(np.array_equal(each.in_image(HW), masks["same"]) for each in found[1:])


@pytest.fixture
def offer(binding, qtbot, monkeypatch):
    others = [_disc(35, 50, 8), _disc(20, 16, 7), _disc(12, 50, 6)]  # the second one lies on the example

    def candidates(self, name, image, near, context):
        return [Candidate.of(mask) for mask in others]

    monkeypatch.setattr(Searcher, "candidates", candidates)
    add_disc(binding, 0)
    binding.session.set_class(1, "cell")
    binding.select(1)
    binding.go_to(0)
    made = AlikeOffer(lambda: "sam2_micro")
    qtbot.addWidget(made)
    made.set_binding(binding)
    yield made
    made.close()


def test_offers_are_accepted_as_new_objects_or_refused(offer, binding, qtbot):
    active = binding.viewer.layers.selection.active
    notices = []
    offer.notice.connect(notices.append)
    offer.find_next()
    qtbot.waitUntil(lambda: not offer.is_searching, timeout=30_000)
    assert notices == []
    assert "like this?" in binding.viewer.layers
    assert binding.viewer.layers.selection.active is active
    first = offer.offered.in_image(HW)
    offer.accept()
    assert [each.class_name for each in binding.session.objects] == ["cell", "cell"]
    qtbot.waitUntil(lambda: not binding.session.is_busy, timeout=60_000)
    np.testing.assert_array_equal(binding.session.labels[0] == 2, first)
    assert binding.current == 1
    told = []
    binding.notice.connect(lambda text, is_error: told.append((text, is_error)))
    offer.find_next()
    assert told == [("no more objects like this on this slice; 1 accepted", False)]
    assert "like this?" not in binding.viewer.layers
    assert len(binding.session.objects) == 2
    assert offer.isHidden()


def test_an_offer_is_accepted_where_it_is_seen(offer, binding, qtbot):
    offer.find_next()
    qtbot.waitUntil(lambda: not offer.is_searching, timeout=30_000)
    binding.go_to(3)
    with qtbot.waitSignal(offer.notice):
        offer.accept()
    assert binding.current_plane == 0
    assert len(binding.session.objects) == 1
    offer.accept()
    assert len(binding.session.objects) == 2


def test_ending_takes_the_outline_away(offer, binding, qtbot):
    offer.find_next()
    qtbot.waitUntil(lambda: not offer.is_searching, timeout=30_000)
    offer.end()
    assert "like this?" not in binding.viewer.layers
    with qtbot.waitSignal(offer.notice) as told:
        offer.accept()
    assert "no object is suggested" in told.args[0]


def test_without_a_mask_here_it_says_what_is_needed(offer, binding, qtbot):
    binding.go_to(3)
    with qtbot.waitSignal(offer.notice) as told:
        offer.find_next()
    assert "has a mask on this slice" in told.args[0]
