"""Arguments of public calls are converted to plain values, or refused with an error that names them."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import dask.array
import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray

import napari_sam2
from napari_sam2 import FrameError, PromptError, open_frames
from napari_sam2._arguments import _with_members, as_array, checked, checked_calls, unchecked_parameters
from napari_sam2._messages import shown
from napari_sam2.session.results import export

Mode = Literal["near", "far"]


class Store(Protocol):
    def __getitem__(self, index: int, /) -> object: ...


@checked(PromptError)
def call(
    *,
    count: int = 0,
    share: float = 0.0,
    flag: bool = False,
    name: str = "",
    path: str | Path = "",
    limit: int | None = None,
    mode: Mode = "near",
    other: Literal["a", "b"] = "a",
    numbers: Sequence[int] = (),
    planes: int | Iterable[int] = (),
    point: tuple[float, float] = (0, 0),
    prompts: Mapping[tuple[int, int], str] | None = None,
    array: ArrayLike = 0,
    function: Callable[[], bool] | None = None,
    store: Store | None = None,
    key: Hashable = None,
    anything: Any = None,
) -> dict[str, object]:
    """Gives back what arrived."""
    return dict(locals())


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("count", np.int64(3), 3),
        ("count", 3.0, 3),
        ("share", 1, 1.0),
        ("share", np.float32(0.5), 0.5),
        ("share", np.array(2), 2.0),
        ("flag", np.bool_(True), True),
        ("flag", 1, True),
        ("limit", None, None),
        ("limit", 5, 5),
        ("mode", "far", "far"),
        ("numbers", range(2), [0, 1]),
        ("numbers", np.array([4, 5]), [4, 5]),
        ("planes", 3, 3),
        ("planes", iter([1, 2]), [1, 2]),
        ("point", [1, 2], (1.0, 2.0)),
        ("prompts", {(1, np.int8(2)): "x"}, {(1, 2): "x"}),
        ("path", Path("a"), Path("a")),
        ("key", (1, "a"), (1, "a")),
    ],
)
def test_suitable_values_become_plain_ones(name, given, expected):
    arrived = call(**{name: given})[name]
    assert arrived == expected
    assert type(arrived) is type(expected)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *(("count", value) for value in (True, 1.5, "1", None, [1], float("nan"), np.array([1, 2]))),
        *(("share", value) for value in ("0.5", True, None, 10**400, 1j, [0.5])),
        *(("flag", value) for value in ("no", None, 2, np.array([True, False]))),
        *(("name", value) for value in (None, b"x", 5)),
        *(("path", value) for value in (b"x", 5, "a\0b", "~nobody-of-this-name/x", "\ud800")),
        *(("mode", value) for value in ("FAR", None, ["far"], np.array(["far"]))),
        ("other", "c"),
        *(("numbers", value) for value in ("12", 5, [1, None], {1: 2}, iter([1]), range(10**12), [True])),
        *(("planes", value) for value in (None, "1", range(10**12), [1.5])),
        *(("point", value) for value in ((1,), (1, 2, 3), None, "ab", np.array(1), (1, "b"))),
        *(("prompts", value) for value in ([], {1: "x"}, {(1, 2): 3}, {("a", 2): "x"})),
        *(
            ("array", value)
            for value in ([[1], [2, 3]], ["a"], object(), [None], b"x", {1: 2}, np.array([1j]), range(2**62))
        ),
        *(("function", value) for value in (5, "print")),
        *(("store", value) for value in (5, int)),
        ("key", []),
    ],
)
def test_other_values_are_refused_by_name(name, given):
    with pytest.raises(PromptError, match=f"^{name}=.* was given.*; expected ") as caught:
        call(**{name: given})
    assert len(str(caught.value)) < 500


def test_arrays_are_made_of_rows_and_kept_where_they_are_arrays_already():
    assert call(array=[[1, 2], [3, 4]])["array"].shape == (2, 2)
    given = np.zeros((2, 3), np.float32)
    assert call(array=given)["array"] is given
    assert call(array=np.array([[1, 2.5]], object))["array"].dtype == np.float64


class Refusing:
    """Whose values are no index, as it says in its own way."""

    def __index__(self) -> int:
        raise ValueError("not one of mine")


class NoPath(os.PathLike[str]):
    """Says that it is a path, and gives a number."""

    def __fspath__(self) -> str:
        return 5  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        pytest.param("count", Refusing(), id="an index that raises"),
        pytest.param("array", memoryview(np.array(["ab"])), id="a memory view of text"),
        pytest.param("array", torch.zeros(2, dtype=torch.bfloat16), id="a type that numpy has not"),
        pytest.param("array", torch.zeros(2, device="meta"), id="a tensor without data"),
        pytest.param("array", io.BytesIO(b"1"), id="a file that is open"),
        pytest.param("path", NoPath(), id="a path that is a number"),
    ],
)
def test_values_that_raise_errors_of_their_own_are_refused_like_others(name, given):
    with pytest.raises(PromptError, match=f"^{name}=.* was given.*; expected "):
        call(**{name: given})


def test_tensors_are_arrays_with_a_gradient_too():
    arrived = call(array=torch.ones(2, 3, requires_grad=True))["array"]
    assert isinstance(arrived, np.ndarray)
    assert arrived.sum() == 6


def test_a_list_of_images_does_not_become_one_stack():
    @checked(PromptError)
    def tune(images: str | NDArray[Any] | Sequence[str | NDArray[Any]]) -> Any:
        return images

    image = np.zeros((4, 5), np.uint8)
    found = tune([image, image])
    assert isinstance(found, list)
    assert found[1] is image
    assert tune(image) is image
    assert tune(["a", image])[0] == "a"


def test_a_lazy_array_is_not_read():
    class Lazy:
        shape, dtype = (10**6, 10**6), np.dtype("u1")

        def __getitem__(self, index):
            raise AssertionError("read")

    lazy = Lazy()
    assert call(array=lazy)["array"] is lazy


def test_as_array_takes_only_numbers():
    assert as_array([True, False], "labels", FrameError).dtype == bool
    with pytest.raises(FrameError, match=r"^labels="):
        as_array(np.array(["a"]), "labels", FrameError)


def test_what_python_itself_refuses_stays_a_type_error():
    with pytest.raises(TypeError, match="unexpected keyword"):
        call(nothing=1)


def test_public_methods_and_the_constructor_of_a_class_are_checked():
    @checked_calls(FrameError)
    class Counter:
        def __init__(self, start: int) -> None:
            self.value = start

        def add(self, count: int) -> int:
            return self._add(count)

        @classmethod
        def of(cls, start: int) -> Counter:
            return cls(start)

        def _add(self, count: int) -> int:
            return self.value + count

    assert Counter(np.int32(1)).add(2.0) == 3
    assert Counter.of(1).value == 1
    for wrong in (lambda: Counter("1"), lambda: Counter(1).add("2"), lambda: Counter.of(None)):
        with pytest.raises(FrameError):
            wrong()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("numbers", 5, "a sequence of integers"),
        ("planes", "a", "an integer or a sequence of integers"),
        ("point", 5, "a sequence of 2 numbers"),
        ("prompts", 5, "a mapping from sequences of 2 integers to strings or None"),
        ("rows", 5, "a sequence of sequences of numbers or None"),
        ("choices", 5, "a sequence of numbers or None, or None"),
        ("function", 5, "a function or None"),
    ],
)
def test_several_values_are_described_in_the_plural(name, value, words):
    @checked(PromptError)
    def more(*, rows: Sequence[Sequence[float]] | None = None, choices: Sequence[float | None] | None = None) -> None:
        """Rows and choices."""

    with pytest.raises(PromptError, match=f"; expected {words}$"):
        (more if name in ("rows", "choices") else call)(**{name: value})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.array([4, 5]), "array([4, 5])"),
        (np.zeros((4, 24, 32), np.uint8), "<ndarray of shape (4, 24, 32) and type uint8>"),
        ({1: np.zeros((9, 9), bool)}, "{1: <ndarray of shape (9, 9) and type bool>}"),
        (np.float32(0.5), "np.float32(0.5)"),
        (torch.nn.Sequential(torch.nn.Linear(2, 3)), "<Sequential>"),
        (int, "<int>"),
    ],
)
def test_arrays_and_networks_are_shown_by_what_they_are(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    "value", [np.zeros((3, 4)), list(range(10**5)), "x" * 10**5, "\x1b[31m\ud800", int, len, {1: 2}]
)
def test_values_are_shown_shortly_and_in_printable_characters(value):
    text = shown(value)
    assert len(text) < 200
    assert text.isprintable()
    text.encode()


_ANYTHING = {  # checked by the function itself: annotations do not say what these take, or what is available
    "AutoJob.segment": ["writer", "finder"],
    "SAM2AutomaticMaskGenerator.filter": ["changes"],
    "Session": ["stack", "labels"],
    "Session.load": ["stack", "options"],
    "Session.set_hardware": ["device", "dtype"],
    "fine_tune": ["device"],
    "load_model": ["device", "dtype"],
    "open_frames": ["source", "contrast"],
    "run_batch": ["device", "dtype"],
    "segment_stack_parts": ["device", "dtype"],
    "segment_tiles": ["device", "dtype"],
    "segment_tiled": ["contrast"],
    "segment_timelapse_volumes": ["contrast"],
    "show_planes": ["stack"],
}


def test_every_parameter_of_the_public_interface_is_checked():
    calls = {name: getattr(export, name) for name in export.__all__}
    for name in napari_sam2.__all__:
        value = getattr(napari_sam2, name)
        if inspect.isfunction(value):
            calls[name] = value
        elif inspect.isclass(value) and not issubclass(value, (Exception, tuple, dict)) and name != "FrameSource":
            methods = inspect.getmembers(value, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
            calls |= {
                f"{name}.{method}": getattr(function, "__func__", function)
                for method, function in methods
                if not method.startswith("_") and function.__module__.startswith("napari_sam2")
            }
    calls["Session"] = napari_sam2.Session.__init__
    calls["DrawnShape"] = napari_sam2.DrawnShape.__init__
    has_parameters = {name for name, f in calls.items() if inspect.signature(f).parameters.keys() - {"self"}}
    assert [name for name in has_parameters if not hasattr(calls[name], "__wrapped__")] == []
    unchecked = {name: unchecked_parameters(function) for name, function in calls.items()}
    assert {name: found for name, found in unchecked.items() if found} == _ANYTHING


class NotReady:
    @property
    def shape(self) -> tuple[int, ...]:
        raise PromptError("no video is set")


def test_properties_of_an_argument_are_not_read():
    source = NotReady()
    assert _with_members(source, ["shape"]) is source


@checked(PromptError)
def num_axes(array: NDArray[np.float32]) -> int:
    return array.ndim


def test_arrays_of_numpy_are_made_of_what_only_resembles_them():
    assert num_axes(open_frames(np.zeros((2, 4, 5), np.uint8))) == 4
    assert num_axes(dask.array.zeros((3, 4))) == 2
    with pytest.raises(PromptError, match="array="):
        num_axes(object())


@pytest.mark.parametrize(
    "value",
    [
        np.ma.masked_greater(np.arange(6).reshape(2, 3), 3),
        [np.ma.masked_greater(np.arange(3), 1), np.arange(3)],
        dask.array.ma.masked_greater(dask.array.arange(6), 3),
    ],
    ids=["numpy", "list", "dask"],
)
def test_values_that_a_mask_hides_are_not_read_as_if_it_were_not_there(value):
    with pytest.raises(PromptError, match=r"array=.*mask.*filled\("):
        call(array=value)
    with pytest.raises(PromptError, match=r"labels=.*mask.*filled\("):
        as_array(value, "labels", PromptError)


def test_a_sequence_of_unknown_length_is_refused():
    values = dask.array.from_array(np.arange(5))
    with pytest.raises(PromptError, match="its length is not known"):
        call(numbers=values[values > 2])
