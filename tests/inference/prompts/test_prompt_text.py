"""Prompts written as text: whose they are, and what is refused before any model is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam2._errors import PromptError
from napari_sam2.inference.prompts.prompt_text import resolve_prompts

SHAPE = (24, 100, 120)


def resolve(*given: str, shape: tuple[int, int, int] = SHAPE, axes: str = "ZYX") -> dict[tuple[int, int], object]:
    options = list(zip(given[::2], given[1::2], strict=True))
    return {(p.object_id, p.frame): p.prompt for p in resolve_prompts(options, shape, axes)}


def test_without_object_each_point_and_box_is_a_new_object():
    found = resolve("--point", "3,10,20", "--box", "3,5,6,15,18", "--point", "4,50,60")
    assert list(found) == [(1, 3), (2, 3), (3, 4)]
    np.testing.assert_array_equal(found[1, 3].points, [[20, 10]])  # y, x -> x, y
    np.testing.assert_array_equal(found[2, 3].box, [6, 5, 18, 15])


def test_object_groups_the_prompts_after_it():
    found = resolve(
        "--object", "5", "--point", "3,1,2", "--negative", "3,9,8", "--point", "7,1.5,2.5",
        "--object", "2", "--box", "3,5,6,15,18",
        "--object", "5", "--point", "3,4,4",
    )  # fmt: skip
    assert set(found) == {(5, 3), (5, 7), (2, 3)}
    np.testing.assert_array_equal(found[5, 3].points, [[2, 1], [8, 9], [4, 4]])
    np.testing.assert_array_equal(found[5, 3].labels, [1, 0, 1])
    np.testing.assert_array_equal(found[5, 7].points, [[2.5, 1.5]])


def test_negative_belongs_to_the_object_before_it():
    found = resolve("--point", "3,1,2", "--point", "3,30,40", "--negative", "3,35,40")
    np.testing.assert_array_equal(found[1, 3].labels, [1])
    np.testing.assert_array_equal(found[2, 3].labels, [1, 0])


def test_automatic_numbers_avoid_those_that_were_named():
    assert set(resolve("--point", "0,1,2", "--box", "0,1,1,9,9", "--object", "2", "--point", "0,5,5")) == {
        (1, 0),
        (3, 0),
        (2, 0),
    }


def test_picture_takes_two_numbers_and_four():
    found = resolve("--point", "10,20", "--box", "5,6,15,18", shape=(1, 100, 120), axes="YX")
    np.testing.assert_array_equal(found[1, 0].points, [[20, 10]])
    np.testing.assert_array_equal(found[2, 0].box, [6, 5, 18, 15])


def test_every_label_of_a_mask_is_an_object_on_the_frames_where_it_is(tmp_path: Path):
    labels = np.zeros(SHAPE, np.uint16)
    labels[2, 10:20, 10:20], labels[5, 10:20, 12:22], labels[5, 50:60, 50:60] = 4, 4, 9
    tifffile.imwrite(tmp_path / "seeds.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    found = resolve("--mask", str(tmp_path / "seeds.tif"), "--point", "1,2,3")
    assert set(found) == {(4, 2), (4, 5), (9, 5), (1, 1)}
    np.testing.assert_array_equal(found[4, 5].mask, labels[5] == 4)


def test_mask_of_one_frame_is_placed_by_its_index(tmp_path: Path):
    plane = np.zeros(SHAPE[1:], np.uint8)
    plane[10:20, 10:20] = 1
    tifffile.imwrite(tmp_path / "one.tif", plane)
    found = resolve("--mask", f"12:{tmp_path / 'one.tif'}")
    assert set(found) == {(1, 12)}
    with pytest.raises(PromptError, match=r"\(100, 120\).*\(24, 100, 120\)"):
        resolve("--mask", str(tmp_path / "one.tif"))
    with pytest.raises(PromptError, match="is for frame 24; expected 0 to 23"):
        resolve("--mask", f"24:{tmp_path / 'one.tif'}")
    with pytest.raises(PromptError, match="is for frame 3; expected 0, or the name of the file alone"):
        resolve("--mask", f"3:{tmp_path / 'one.tif'}", shape=(1, *SHAPE[1:]), axes="YX")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(("--point", "24,1,1"), "expected Z 0 to 23, Y 0 to 99, X 0 to 119", id="frame-beyond"),
        pytest.param(("--point", "-1,1,1"), "outside the stack", id="frame-negative"),
        pytest.param(("--point", "3,100,1"), "outside the stack", id="y-beyond"),
        pytest.param(("--point", "3,1,-2"), "outside the stack", id="x-before"),
        pytest.param(("--negative", "3,1,120"), "before any object", id="negative-first"),
        pytest.param(("--point", "3,1"), "numbers Z,Y,X", id="two-numbers"),
        pytest.param(("--point", "3,1,a"), "numbers Z,Y,X", id="no-number"),
        pytest.param(("--point", "3,nan,1"), "numbers Z,Y,X", id="nan"),
        pytest.param(("--point", "3.5,1,1"), "integer", id="frame-between"),
        pytest.param(("--box", "3,1,1,9"), "numbers Z,Y0,X0,Y1,X1", id="box-of-three"),
        pytest.param(("--box", "3,10,10,10,20"), "no area", id="flat-box"),
        pytest.param(("--box", "3,200,10,300,20"), "outside the stack", id="box-outside"),
        pytest.param(("--object", "0", "--point", "3,1,1"), "from 1", id="object-0"),
        pytest.param(("--object", "cell", "--point", "3,1,1"), "from 1", id="object-named"),
        pytest.param(
            ("--object", "1", "--object", "2", "--point", "3,1,1"), "not followed by a prompt", id="object-alone"
        ),
        pytest.param(("--object", "1", "--box", "3,1,1,9,9", "--box", "3,2,2,9,9"), "second box", id="two-boxes"),
        pytest.param(("--point", "3,1,1", "--negative", "4,1,1"), "only background clicks", id="negative-alone"),
        pytest.param((), "--point 12,50,60", id="nothing"),
    ],
)
def test_wrong_prompt_is_refused_with_what_is_allowed(given: tuple[str, ...], message: str):
    with pytest.raises(PromptError) as caught:
        resolve(*given)
    assert message in str(caught.value)
