"""Calls as data: which methods of a session can be replayed, and with which arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from napari_sam2._checks import LARGEST_ID, check_choice, check_name, check_object_id
from napari_sam2._errors import PromptError
from napari_sam2._packed_mask import PackedImage
from napari_sam2._types import Direction, Prompt
from napari_sam2.session.state.settings import OverlapRule

__all__ = ["Operation"]

Read = Callable[[Any], object]
"""Returns an argument in its plain form, or raises PromptError."""


@dataclass(frozen=True)
class Operation:
    """A call that led to a change, for scripts and replay.

    Wherever the call comes from, such as a file, its method can be replayed and each argument has its type: a plain
    Python value, a ``Prompt`` or bool masks.

    Parameters
    ----------
    method : str
        Method of ``Session``.
    arguments : mapping of str to object
        Its arguments by name. Masks are kept packed and are unpacked at each access.

    Raises
    ------
    PromptError
        If the method cannot be replayed, or an argument is missing, unknown or of the wrong type.
    """

    method: str
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", _Arguments(_plain_arguments(self.method, self.arguments)))


class _Arguments(Mapping[str, Any]):
    """Arguments by name; full masks, bool (H, W), are created when they are read."""

    def __init__(self, kept: Mapping[str, object]) -> None:
        self._kept = kept

    def __getitem__(self, name: str) -> Any:
        value = self._kept[name]
        if isinstance(value, PackedImage):
            return value.to_array()
        if isinstance(value, Mapping):
            return {object_id: packed.to_array() for object_id, packed in value.items()}
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Arguments) and self._kept == other._kept

    __hash__ = None  # type: ignore[assignment] # as of any mapping

    def __repr__(self) -> str:
        return repr(self._kept)


def _plain_arguments(method: object, arguments: object) -> dict[str, object]:
    rule = _RULES.get(method) if isinstance(method, str) else None
    if rule is None:
        raise PromptError(f"the call {_short(method)} cannot be replayed; expected {', '.join(sorted(_RULES))}")
    names = set(arguments) if isinstance(arguments, Mapping) else set()
    if not isinstance(arguments, Mapping) or not rule.required.keys() <= names <= {*rule.required, *rule.optional}:
        raise PromptError(
            f"{method} was called with {_short(arguments)}; it needs {sorted(rule.required)} and allows "
            f"{sorted(rule.optional)}"
        )
    readers = {**rule.required, **rule.optional}
    try:
        return {name: readers[name](value) for name, value in arguments.items()}
    except PromptError as error:
        raise PromptError(f"{method}: {error}") from error


@dataclass(frozen=True)
class _Rule:
    required: Mapping[str, Read]
    optional: Mapping[str, Read]


def _rule(_optional: Mapping[str, Read] = MappingProxyType({}), /, **required: Read) -> _Rule:
    return _Rule(MappingProxyType(required), MappingProxyType(dict(_optional)))


# ---------------------------------------------------------------------- readers of arguments
def _whole(low: int, high: int = LARGEST_ID) -> Read:
    def read(value: Any) -> int:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or not low <= value <= high:
            raise PromptError(f"{_short(value)} was given; expected an integer from {low} to {high}")
        return int(value)

    return read


def _or_none(read: Read) -> Read:
    return lambda value: None if value is None else read(value)


def _one_of(allowed: tuple[str, ...]) -> Read:
    return lambda value: check_choice("the value", value, allowed)


def _list_of(read_each: Read) -> Read:
    def read(value: Any) -> list[object]:
        if not isinstance(value, list | tuple):
            raise PromptError(f"{_short(value)} was given; expected a list")
        return [read_each(each) for each in value]

    return read


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise PromptError(f"{_short(value)} was given; expected a number")
    number = float(value)
    if not math.isfinite(number):
        raise PromptError(f"{number} was given; expected a finite number")
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise PromptError(f"{_short(value)} was given; expected True or False")
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise PromptError(f"{_short(value)} was given; expected a string")
    return str(value)


def _prompt(value: Any) -> Prompt | None:
    if value is not None and not isinstance(value, Prompt):
        raise PromptError(f"{_short(value)} was given; expected a Prompt or None")
    return value


def _mask(value: Any) -> PackedImage:
    if isinstance(value, PackedImage):
        return value
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        raise PromptError(f"{_short(value)} was given; expected a mask of two axes")
    return PackedImage.pack(value != 0)


def _masks(value: Any) -> dict[int, PackedImage]:
    if not isinstance(value, Mapping):
        raise PromptError(f"{_short(value)} was given; expected masks by object")
    masks = {check_object_id(object_id): mask for object_id, mask in value.items()}
    return {object_id: _mask(mask) for object_id, mask in masks.items()}


def _short(value: object) -> str:
    return repr(value)[:60]


_plane = _whole(0)
_planes = _list_of(_plane)
_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "cut": _rule(object_id=check_object_id, frame=_plane),
        "divide": _rule({"daughters": _list_of(check_object_id)}, object_id=check_object_id, frame=_plane),
        "join": _rule(first=check_object_id, second=check_object_id),
        "lock": _rule(object_id=check_object_id, frames=_planes),
        "merge": _rule(first=check_object_id, second=check_object_id),
        "new_object": _rule(name=_or_none(check_name), object_id=check_object_id),
        "paint": _rule(frame=_plane, masks=_masks),
        "propagate": _rule(
            {
                "start": _plane,
                "stop": _whole(-LARGEST_ID),
                "object_ids": _list_of(check_object_id),
                "max_frames": _whole(0),
            },
            direction=_one_of(get_args(Direction)),
        ),
        "propagate_through_time": _rule({"object_ids": _list_of(check_object_id), "max_frames": _whole(0)}),
        "remove_object": _rule(object_id=check_object_id),
        "rename": _rule(object_id=check_object_id, name=check_name),
        "set_class": _rule(object_id=check_object_id, class_name=check_name),
        "set_contrast": _rule(
            {
                "gamma": _list_of(_number),
                "colours": _list_of(_list_of(_number)),
                "usual": _list_of(_or_none(_number)),
            },
            limits=_list_of(_list_of(_number)),
        ),
        "set_keep_apart": _rule(keep_apart=_flag),
        "set_lost_after": _rule(num_frames=_or_none(_whole(1))),
        "set_model": _rule(model=_text),
        "set_parent": _rule({"frame": _plane}, object_id=check_object_id, parent=_or_none(check_object_id)),
        "set_overlap": _rule(overlap=_one_of(get_args(OverlapRule))),
        "set_prompt": _rule({"candidate": _whole(0, 2)}, frame=_plane, prompt=_prompt, object_id=check_object_id),
        "set_visible": _rule(object_id=check_object_id, is_visible=_flag),
        "show_only": _rule(object_id=_or_none(check_object_id)),
        "split": _rule(object_id=check_object_id, frame=_plane, mask=_mask),
        "swap": _rule(first=check_object_id, second=check_object_id, frame=_plane),
        "track_along": _rule(
            {"voxel_size": _list_of(_number), "object_ids": _list_of(check_object_id), "max_frames": _whole(0, 0)},
            axes=_text,
        ),
        "unlock": _rule(object_id=check_object_id, frames=_planes),
    }
)
