"""Texts of errors and warnings: the options that they name are called as Python, the shell or a form calls them."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

__all__ = [
    "AGAIN",
    "AXES",
    "OVERWRITE",
    "RESTART",
    "Message",
    "Option",
    "counted",
    "first_line",
    "given",
    "in_all_words",
    "in_form_words",
    "in_shell_words",
    "is_or_are",
    "message_of",
    "one_line",
    "shell_option",
    "shown",
]


_SHORT_ARRAY = 12  # values: so many are shown themselves


class _ShortRepr(reprlib.Repr):
    """Arrays by shape and type, and objects whose ``repr`` has several lines, such as networks, by their class."""

    def repr_instance(self, value: Any, level: int) -> str:
        """Any object but text, numbers and plain containers."""
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            return f"<{getattr(value, '__name__', type(value).__name__)}>"
        kind, shape = type(value).__name__, getattr(value, "shape", None)
        is_short = kind == "ndarray" and value.size <= _SHORT_ARRAY
        if isinstance(shape, tuple) and shape and hasattr(value, "dtype") and not is_short:
            return f"<{kind} of shape {tuple(shape)} and type {value.dtype}>"
        text = super().repr_instance(value, level)
        return f"<{kind}>" if "\n" in text and kind != "ndarray" else text


_REPR = _ShortRepr()
_REPR.maxstring = _REPR.maxother = 160


@dataclass(frozen=True)
class Option:
    """What an error or warning advises users to give, which Python, the shell and each form call by different names.

    Attributes
    ----------
    name : str
        The parameter in Python, by which a form finds its own words.
    python : str
        Words for Python, such as "restart=True"; if empty, "NAME=".
    shell : str
        Words for the shell; if empty, "--NAME".
    """

    name: str
    python: str = ""
    shell: str = ""

    def __str__(self) -> str:
        return self.python or f"{self.name}="

    @property
    def in_shell(self) -> str:
        """Words for the shell."""
        return self.shell or f"--{self.name.replace('_', '-')}"


OVERWRITE = Option("overwrite", "give overwrite=True", "give --overwrite")
RESTART = Option("restart", "restart=True")
AXES = Option("axes")
AGAIN = Option("again", "call it again with the same arguments", "run the same command again")


_SHELL_NAMES = {
    "box_nms_thresh": "overlap",
    "crop_n_layers": "crop-layers",
    "give_up_after": "give-up",
    "min_area_px": "min-area",
    "num_devices": "devices",
    "point_spacing_px": "spacing",
    "pred_iou_thresh": "iou",
    "stability_score_thresh": "stability",
}
"""Of parameters whose names in the shell are not those in Python."""


def given(name: str, value: object, text: str | None = None) -> Option:
    """A parameter and its value as they were given: ``gamma=0`` in Python, ``--gamma 0`` in the shell.

    ``text`` shows the value; default: `shown`.
    """
    in_python = shown(value) if text is None else text
    in_shell = value if isinstance(value, str) and value else in_python
    return Option(name, f"{name}={in_python}", f"{shell_option(name)} {in_shell}")


def shell_option(name: str) -> str:
    """The option of the shell for a parameter, such as ``--min-area`` for ``min_area_px``."""
    return f"--{_SHELL_NAMES.get(name, name.replace('_', '-'))}"


class Message(str):
    """The text of an error or warning that names options: those of Python, unless a front end asks for its own.

    Parameters
    ----------
    *parts : str or Option
        Texts, and options between them.
    """

    __slots__ = ("parts",)
    parts: tuple[str | Option, ...]

    def __new__(cls, *parts: str | Option) -> Self:
        """Join the parts."""
        flat = tuple(each for part in parts for each in (part.parts if isinstance(part, Message) else (part,)))
        message = super().__new__(cls, "".join(map(str, flat)))
        message.parts = flat
        return message

    def __getnewargs__(self) -> tuple[str | Option, ...]:  # type: ignore[override]  # for pickle
        return self.parts


def message_of(error: BaseException) -> Message:
    """The text of an error or warning, with its options if it names some."""
    found = error.args[0] if error.args else None
    return found if isinstance(found, Message) else Message(str(error))


def in_shell_words(error: BaseException) -> str:
    """The text of an error or warning, with options as the shell calls them."""
    return "".join(part.in_shell if isinstance(part, Option) else part for part in message_of(error).parts)


def in_all_words(error: BaseException) -> str:
    """The text of an error or warning, with options as Python and the shell call them, for files that both read."""
    texts = []
    for part in message_of(error).parts:
        if isinstance(part, Option) and part.in_shell != str(part):
            texts.append(f"{part} (in the shell: {part.in_shell})")
        else:
            texts.append(str(part))
    return "".join(texts)


def in_form_words(error: BaseException, names: Mapping[str, str]) -> str:
    """The text of an error or warning, with options as a form calls them.

    Parameters
    ----------
    error : BaseException
        An error or warning.
    names : mapping of str to str
        Words of the form by the name of the option; others are named as in Python.
    """
    parts = message_of(error).parts
    return "".join(names.get(part.name, str(part)) if isinstance(part, Option) else part for part in parts)


def one_line(error: BaseException, longest: int = 1000) -> str:
    """The text of an error on one line, cut off after ``longest`` characters; the name of its class if it has none."""
    text = " ".join(_text(error).split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def counted(count: int, noun: str) -> str:
    """A number and what it counts: "1 object", "2 objects"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def is_or_are(count: int) -> str:
    """The verb after ``counted``."""
    return "is" if count == 1 else "are"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters; the name of its class if it has none."""
    return _text(error).splitlines()[0][:200]


def _text(error: BaseException) -> str:
    """The text of an error; with the name of its class if that is all, or where the text is only a number or a key."""
    text, kind = str(error).strip(), type(error).__name__
    is_key = isinstance(error, LookupError) and len(text.split()) == 1
    return f"{kind}: {text}" if is_key else text or kind


def shown(value: object) -> str:
    """Any value as an error shows it: its ``repr`` on one line, shortened, also where ``repr`` itself fails."""
    text = " ".join(line.strip() for line in _REPR.repr(value).splitlines())
    return text if text.isprintable() else text.encode("ascii", "backslashreplace").decode()
