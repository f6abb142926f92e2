"""Arguments of public calls, checked and converted by their annotations before any work begins.

`checked_calls` wraps the public methods of a class, `checked` a function. The annotation of each parameter is its
contract: whole numbers become int, numbers float, and rows of numbers arrays; anything else raises one of the package's
errors, which names the parameter, what was given and what is allowed. Which numbers are allowed (a plane that exists, a
share from 0 to 1) is checked by the function itself. Annotations that say nothing, such as Any, are not checked.

Why not beartype or typeguard: they accept or refuse, while half the work here is conversion (numpy integers, 3.0 as
an index, lists and lazy arrays) with a message for each parameter in the package's own errors. They would also have to
import the classes of torch and napari to resolve annotations that name them under TYPE_CHECKING only.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import operator
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam2._errors import CheckpointError, DeviceError, FrameError, NapariSAM2Error
from napari_sam2._messages import Message, given, one_line, shown

__all__ = ["as_array", "checked", "checked_calls", "masked_values", "unchecked_parameters"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_NO_SEQUENCES = (str, bytes, Mapping, memoryview)  # though they can be iterated over
_LONGEST_REASON = 120  # characters
_LONGEST = 10_000_000  # values in a sequence: more was a slip, and would fill the memory
_ERRORS: Mapping[str, type[NapariSAM2Error]] = {
    "model": CheckpointError, "start_from": CheckpointError, "name_or_path": CheckpointError,
    "memory_dtype": DeviceError,
}  # fmt: skip
_OWN = frozenset(["contrast", "device", "dtype"])  # parameters whose own errors list what is available


class _UnsuitableError(Exception):
    """A value is not of a kind; the text says why, where the kind alone does not."""


class _Kind(NamedTuple):
    """What an annotation allows.

    Attributes
    ----------
    allowed : str
        In words, such as "an integer".
    plural : str
        The same for several, such as "integers".
    convert : callable
        Gives the value in its plain form, or raises _UnsuitableError.
    error : type, optional
        What other values raise, whatever the function raises for the rest.
    """

    allowed: str
    plural: str
    convert: Callable[[Any], Any]
    error: type[NapariSAM2Error] | None = None


# ---------------------------------------------------------------------- wrapping
def checked(error: type[NapariSAM2Error]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that its arguments are checked by their annotations.

    Parameters
    ----------
    error : type
        What is raised for arguments of the wrong kind, but for models and devices, which have errors of their own.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.cache
        def kinds() -> dict[str, _Kind]:
            return _kinds_of(function)

        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            for name, kind in kinds().items():
                if name in bound.arguments:
                    bound.arguments[name] = _converted(name, bound.arguments[name], kind, _ERRORS.get(name, error))
            return function(*bound.args, **bound.kwargs)

        return wrapped

    return wrap


def checked_calls(error: type[NapariSAM2Error]) -> Callable[[type[T]], type[T]]:
    """Decorate a class so that its constructor and its own public methods are ``checked``."""

    def wrap(cls: type[T]) -> type[T]:
        for name, member in list(vars(cls).items()):
            if name.startswith("_") and name != "__init__":
                continue
            if inspect.isfunction(member):
                setattr(cls, name, checked(error)(member))
            elif isinstance(member, classmethod):
                setattr(cls, name, classmethod(checked(error)(member.__func__)))
        return cls

    return wrap


def unchecked_parameters(function: Callable[..., object]) -> list[str]:
    """Parameters of a function that ``checked`` lets pass as they are, as their annotations say nothing to it."""
    kinds = _kinds_of(function)
    return [name for name in inspect.signature(function).parameters if name not in (*kinds, "self", "cls")]


def as_array(value: object, name: str, error: type[NapariSAM2Error]) -> NDArray[Any]:
    """What was given as ``name`` as an array of numbers or truth values; raises ``error`` if it is none."""
    kept = _converted(name, value, _ARRAY, error)
    try:
        array = np.asarray(kept)
    except (TypeError, ValueError, RuntimeError, OSError) as reason:  # a tensor on a GPU, a file that is gone
        raise error(
            f"{name}={shown(value)} was given, which cannot be read as an array ({reason}); give a numpy array"
        ) from reason
    if array.dtype.kind not in "biuf":
        raise error(f"{name}={shown(array)} was given; expected {_ARRAY.allowed}")
    return array


def _converted(name: str, value: object, kind: _Kind, error: type[NapariSAM2Error]) -> Any:
    try:
        return kind.convert(value)
    except _UnsuitableError as reason:
        why = f" ({reason})" if str(reason) else ""
        text = Message(given(name, value), f" was given{why}; expected {kind.allowed}")
        raise (kind.error or error)(text) from None


# ---------------------------------------------------------------------- kinds of values
def _whole(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise _UnsuitableError
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    try:
        return operator.index(value)
    except (TypeError, ValueError):  # the second is of a class that refuses some of its values
        raise _UnsuitableError from None


def _number(value: Any) -> float:
    if isinstance(value, bool | np.bool_):
        raise _UnsuitableError
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf":
        return float(value)
    if not isinstance(value, numbers.Real):
        raise _UnsuitableError
    try:
        return float(value)
    except OverflowError:
        raise _UnsuitableError("too large") from None


def _flag(value: Any) -> bool:
    if isinstance(value, bool | np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise _UnsuitableError


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _UnsuitableError
    return value


def _path(value: Any) -> str | os.PathLike[str]:
    if not isinstance(value, str | os.PathLike):
        raise _UnsuitableError
    try:
        text = os.fspath(value)
    except TypeError:  # of a class whose ``__fspath__`` returns something else
        raise _UnsuitableError from None
    if not isinstance(text, str):
        raise _UnsuitableError
    if "\0" in text:
        raise _UnsuitableError("a name cannot contain a null character")
    try:
        os.fsencode(text)
        Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise _UnsuitableError(error.reason) from None
    except RuntimeError as error:  # ~nobody
        raise _UnsuitableError(f"{error}; write ./~ if the name itself begins with ~") from None
    return value


def _callable(value: Any) -> Any:
    if not callable(value):
        raise _UnsuitableError
    return value


def masked_values(value: object) -> str:
    """What is wrong with an array whose mask hides values, and what to do; empty for all others.

    Everything here reads the values of an array, hidden or not, so that a mask would be ignored silently.
    """
    if isinstance(value, np.ma.MaskedArray):
        hidden = int(np.count_nonzero(np.ma.getmaskarray(value)))
        return f"its mask hides {hidden:,} values, which would be read; give array.filled(VALUE)" if hidden else ""
    if isinstance(value, list | tuple) and value and isinstance(value[0], np.ndarray):
        return next(filter(None, (masked_values(part) for part in value)), "")
    if isinstance(getattr(value, "_meta", None), np.ma.MaskedArray):  # of dask
        return "it has a mask, and hidden values would be read; give dask.array.ma.filled(array, VALUE)"
    return ""


def _array(value: Any) -> Any:
    """Numbers or truth values in an array; other arrays, such as those of dask, are kept. True alone is no array."""
    if isinstance(value, bool | np.bool_):
        raise _UnsuitableError
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # files have the first as well
        value = _of_tensor(value)
    if reason := masked_values(value):
        raise _UnsuitableError(reason)
    if not isinstance(value, np.ndarray | np.generic):
        if hasattr(value, "__array__") or hasattr(value, "__array_interface__") or _is_lazy(value):
            return value
        if isinstance(value, range) and value[_LONGEST:]:
            raise _UnsuitableError("too long")
        try:
            value = np.asarray(value)
        except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as error:
            raise _UnsuitableError(one_line(error, _LONGEST_REASON)) from None
    if value.dtype.kind == "O":
        if not value.ndim or any(part is None for part in value.flat):
            raise _UnsuitableError
        try:
            value = value.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise _UnsuitableError(one_line(error, _LONGEST_REASON)) from None
    if value.dtype.kind not in "biuf":
        raise _UnsuitableError(f"it holds {value.dtype}")
    return np.asanyarray(value)


def _of_tensor(tensor: Any) -> Any:
    """The values of a tensor of torch, wherever they are and whether or not they have a gradient."""
    try:
        return tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # bfloat16, sparse ones, ones without data
        raise _UnsuitableError(one_line(error, _LONGEST_REASON)) from None


def _numpy_array(value: Any) -> Any:
    """As ``_array``, but lazy arrays and open frames are read."""
    try:
        array = np.asarray(_array(value))
    except (TypeError, ValueError, RuntimeError) as error:  # such as a tensor on a GPU
        raise _UnsuitableError(one_line(error, _LONGEST_REASON)) from None
    if array.dtype.kind not in "biuf":
        raise _UnsuitableError(f"it holds {array.dtype}")
    return array


def _is_lazy(value: Any) -> bool:
    return (
        isinstance(getattr(value, "shape", None), tuple) and hasattr(value, "dtype") and hasattr(value, "__getitem__")
    )


def _none(value: Any) -> None:
    if value is not None:
        raise _UnsuitableError


_NONE = _Kind("None", "None", _none)
_ARRAY = _Kind("an array of numbers, with rows of equal length", "arrays of numbers", _array)
_NUMPY_ARRAY = _Kind(_ARRAY.allowed, _ARRAY.plural, _numpy_array)
_ANYTHING = _Kind("anything", "values", lambda value: value)
_SOURCE = ("shape", "key", "__len__", "__getitem__")
# Classes of the package and of torch and napari that modules name in annotations without importing them.
_CLASSES = frozenset(
    [
        "EmbeddingCache", "Exception", "FrameSource", "Frames", "Image", "Labels", "Prompt", "Proposals", "Release",
        "SAM2", "Session", "SessionSettings", "SessionSnapshot", "Shapes", "Tensor", "ViewerModel", "device", "dtype",
    ]
)  # fmt: skip
_BY_NAME: Mapping[str, _Kind] = {
    "None": _NONE,
    "int": _Kind("an integer", "integers", _whole),
    "float": _Kind("a number", "numbers", _number),
    "bool": _Kind("True or False", "True or False", _flag),
    "str": _Kind("a string", "strings", _text),
    "Path": _Kind("a path", "paths", _path),
    "PathLike": _Kind("a path", "paths", _path),
    "Callable": _Kind("a function", "functions", _callable),
    "ArrayLike": _ARRAY,
    "NDArray": _NUMPY_ARRAY,
    "FrameSource": _Kind(
        "frames, as open_frames returns them",
        "frames, as open_frames returns them",
        lambda value: _with_members(value, _SOURCE),
        FrameError,
    ),
}


# ---------------------------------------------------------------------- annotations
def _kinds_of(function: Callable[..., object]) -> dict[str, _Kind]:
    home = getattr(inspect.unwrap(function), "__globals__", {})
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in _OWN or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        kind = None if parameter.annotation is parameter.empty else _kind(str(parameter.annotation), home)
        if kind is not None and kind is not _ANYTHING:
            found[name] = kind
    return found


def _kind(annotation: str, home: Mapping[str, object]) -> _Kind | None:
    """What an annotation allows; None if something in it is not understood."""
    parts = _split(annotation.strip("'\""), "|")
    if any(part.partition("[")[0].rpartition(".")[2] in ("Path", "PathLike") for part in parts):
        parts = [part for part in parts if part != "str"]  # text stands for a path there
    kinds = [_single(part, home) for part in parts]
    known = [kind for kind in kinds if kind is not None]
    if len(known) != len(kinds) or not known:
        return None
    if _ANYTHING in known:
        return _ANYTHING
    return known[0] if len(known) == 1 else _union(known)


def _single(annotation: str, home: Mapping[str, object]) -> _Kind | None:
    base, _, inner = annotation.partition("[")
    name, inner = base.rpartition(".")[2], inner.removesuffix("]")
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name == "Literal":
        return _literal(tuple(part.strip("'\"") for part in _split(inner, ",")))
    if name in ("Sequence", "Iterable", "list", "tuple", "Mapping", "dict"):
        return _container(name, [_kind(part, home) for part in _split(inner, ",") if part != "..."], inner)
    if name in ("Any", "object"):
        return _ANYTHING
    if name in home:
        return _of_object(home[name], home)
    return _instance(name, base.rpartition(".")[0]) if name in _CLASSES else None


def _of_object(found: Any, home: Mapping[str, object]) -> _Kind | None:
    """What a class or the name of a longer annotation allows."""
    if isinstance(found, str):
        return _kind(found, home)
    if typing.get_origin(found) is typing.Literal:
        return _literal(typing.get_args(found))
    if typing.get_origin(found) is Callable:
        return _BY_NAME["Callable"]
    if isinstance(found, UnionType) or typing.get_origin(found) is not None:
        return _kind(str(found), home)
    if isinstance(found, TypeVar):
        return None if found.__bound__ is None else _of_object(found.__bound__, home)
    if not isinstance(found, type):
        return None
    if getattr(found, "_is_protocol", False):
        return _protocol(found)
    return _of_class(found)


def _of_class(cls: type) -> _Kind:
    def convert(value: Any) -> Any:
        if not isinstance(value, cls):
            raise _UnsuitableError
        return value

    return _of_name(cls.__name__, convert)


def _of_name(name: str, convert: Callable[[Any], Any]) -> _Kind:
    return _Kind(f"{'an' if name[0] in 'AEIOU' else 'a'} {name}", f"{name} objects", convert)


def _instance(name: str, package: str = "") -> _Kind:
    """An object of a class, which is known by its name, as importing it here could take seconds."""

    def convert(value: Any) -> Any:
        classes = (*type(value).__mro__, *getattr(value.__class__, "__mro__", ()))  # the second is a proxy's
        if not any(cls.__name__ == name and cls.__module__.startswith(package) for cls in classes):
            raise _UnsuitableError
        return value

    return _of_name(name, convert)


def _protocol(protocol: type) -> _Kind:
    members = [name for name in vars(protocol) if not name.startswith("_")]
    members += [name for name in ("__len__", "__getitem__", "__setitem__", "__call__") if name in vars(protocol)]

    listed = ", ".join(members)
    return _Kind(f"an object with {listed}", f"objects with {listed}", lambda value: _with_members(value, members))


def _with_members(value: Any, members: Iterable[str]) -> Any:
    if inspect.isclass(value) or not all(_has(value, name) for name in members):
        raise _UnsuitableError
    return value


def _has(value: Any, name: str) -> bool:
    """Whether an object has a member; properties are not read, as they may raise before the object is set up."""
    return inspect.getattr_static(value, name, None) is not None or hasattr(value, name)


def _literal(options: tuple[Any, ...]) -> _Kind:
    def convert(value: Any) -> Any:
        if not isinstance(value, str) or value not in options:
            raise _UnsuitableError
        return str(value)

    *first, last = map(repr, options)
    words = f"{', '.join(first)} or {last}" if first else last
    return _Kind(words, words, convert)


def _union(kinds: list[_Kind]) -> _Kind:
    ordered = sorted(kinds, key=lambda kind: kind is not _NONE)

    def convert(value: Any) -> Any:
        reasons = []
        # A list of images is not one stack, unless nothing but an array is allowed.
        is_listed = isinstance(value, list | tuple)
        for kind in sorted(ordered, key=lambda kind: is_listed and kind in (_ARRAY, _NUMPY_ARRAY)):
            try:
                return kind.convert(value)
            except _UnsuitableError as error:
                reasons.append(str(error))
        raise _UnsuitableError("; ".join(dict.fromkeys(filter(None, reasons))))

    named = sorted(kinds, key=lambda kind: kind is _NONE)  # None comes last
    return _Kind(_either([kind.allowed for kind in named]), _either([kind.plural for kind in named]), convert)


def _either(words: list[str]) -> str:
    """Alternatives, with a comma where one of them has alternatives of its own."""
    return (", or " if any(" or " in each for each in words) else " or ").join(words)


def _container(name: str, inner: list[_Kind | None], text: str) -> _Kind | None:
    if any(kind is None for kind in inner) or not inner:
        return None
    kinds = [kind for kind in inner if kind is not None]
    if name in ("Mapping", "dict"):
        return _mapping(*kinds) if len(kinds) == 2 else None
    if name == "tuple" and not text.endswith("..."):
        return _tuple(kinds)
    return _sequence(kinds[0], tuple if name == "tuple" else list, needs_length=name != "Iterable")


def _sequence(item: _Kind, make: Callable[[list[Any]], Any], *, needs_length: bool) -> _Kind:
    def convert(value: Any) -> Any:
        if isinstance(value, _NO_SEQUENCES) or not isinstance(value, Iterable):
            raise _UnsuitableError
        try:
            if len(value) > _LONGEST:  # type: ignore[arg-type]
                raise _UnsuitableError("too long")
        except ValueError:  # an array of dask with sizes that are not known
            raise _UnsuitableError("its length is not known") from None
        except (TypeError, OverflowError):  # no length, or one beyond any memory
            if needs_length or isinstance(value, range | np.ndarray):
                raise _UnsuitableError from None
        return make([item.convert(part) for part in value])

    return _Kind(f"a sequence of {item.plural}", f"sequences of {item.plural}", convert)


def _tuple(items: list[_Kind]) -> _Kind:
    def convert(value: Any) -> Any:
        if isinstance(value, _NO_SEQUENCES) or not hasattr(value, "__len__") or not isinstance(value, Iterable):
            raise _UnsuitableError
        try:
            is_suitable = len(value) == len(items)  # type: ignore[arg-type]
        except (TypeError, ValueError):  # an array or tensor of a single value, or of unknown length
            is_suitable = False
        if not is_suitable:
            raise _UnsuitableError
        return tuple(kind.convert(part) for kind, part in zip(items, value, strict=True))

    words = [kind.allowed for kind in items]
    if len(set(words)) == 1:
        several = f"{len(words)} {items[0].plural}"
        return _Kind(f"a sequence of {several}", f"sequences of {several}", convert)
    return _Kind(f"({', '.join(words)})", f"sequences of ({', '.join(words)})", convert)


def _mapping(key: _Kind, item: _Kind) -> _Kind:
    def convert(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _UnsuitableError
        keys = [key.convert(name) for name in value]
        return (
            value
            if item is _ANYTHING
            else {k: item.convert(part) for k, part in zip(keys, value.values(), strict=True)}
        )

    return _Kind(
        f"a mapping from {key.plural} to {item.plural}", f"mappings from {key.plural} to {item.plural}", convert
    )


def _split(text: str, separator: str) -> list[str]:
    """The parts of an annotation outside of its brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[(") - (character in "])")
        if character == separator and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
