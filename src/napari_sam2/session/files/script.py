"""A session as a Python script of its calls, and as a shell command.

Values that came from a file are written as Python literals only, in comments too: calls are checked when an
``Operation`` is created, and texts are written with ``repr``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_sam2._errors import PromptError
from napari_sam2._types import DrawnShape, Prompt, is_same
from napari_sam2.frames.display import contrast_arguments, displays_of
from napari_sam2.frames.planes import ArrayPlanes
from napari_sam2.labels.mask_text import mask_to_text
from napari_sam2.session.files.model_names import is_network, model_name
from napari_sam2.session.state.settings import SessionSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.frames.geometry import StackGeometry
    from napari_sam2.session.state.operations import Operation
    from napari_sam2.session.state.snapshot import SessionSetup, SessionSnapshot

__all__ = ["to_command_line", "to_python"]

_MOVING = frozenset(["cut", "divide", "join", "merge", "split", "swap"])
_DEFAULTS: tuple[tuple[str, object], ...] = (("name", None), ("direction", "both"))


def to_python(snapshot: SessionSnapshot) -> str:
    """Write a script of public calls that gives the same labels.

    Parameters
    ----------
    snapshot : SessionSnapshot
        Of a session whose prompts all have their masks.

    Returns
    -------
    str
        Where the image is no file, or the model a network without one, the script uses the names ``stack`` and
        ``model``, and says so.
    """
    writer = _Writer(snapshot.setup.geometry)
    lines = [line for operation in snapshot.content.operations for line in writer.lines(operation)]
    head = _opening(snapshot.setup, writer.names)
    imports = f"from napari_sam2 import {', '.join(sorted(writer.names))}"
    return "\n".join([imports, "", *head, *lines, "labels = session.labels", ""])


def to_command_line(setup: SessionSetup, path: str | Path, output: str | Path) -> str:
    """Write a shell command that replays a session from its saved file.

    Parameters
    ----------
    setup : SessionSetup
        Of the session.
    path : str or Path
        Where it is saved.
    output : str or Path
        Labels to write.

    Returns
    -------
    str
    """
    words = ["napari-sam2", "run", _as_argument(path)]
    if setup.origin.stack_path is None:
        words += ["--stack", "STACK"]
    if is_network(setup.origin.model):
        words += ["--model", "MODEL"]
    words += ["-o", _as_argument(output)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _as_argument(path: str | Path) -> str:
    """A path that cannot be mistaken for an option."""
    return os.path.join(os.curdir, str(path)) if str(path).startswith("-") else str(path)  # noqa: PTH118 - Path drops "./"


def _opening(setup: SessionSetup, names: set[str]) -> list[str]:
    """Lines that open the image and make the session."""
    lines: list[str] = []
    names.add("Session")
    origin = setup.origin
    frames = origin.frames
    stack = "stack"
    if origin.stack_path is not None:
        stack = repr(origin.stack_path)
    else:
        lines.append(f"# stack: the image, {_words(setup)}")
    looks = displays_of(frames)
    arguments: dict[str, str] = {}
    if looks is None:
        pass
    elif origin.has_automatic_contrast and origin.stack_path is None:
        arguments["frame_axis"] = repr(setup.geometry.frame_axis)
        if looks[0].is_rgb:
            arguments["is_rgb"] = "True"
    else:
        names.add("show_planes")
        shown = {"frame_axis": setup.geometry.frame_axis, **contrast_arguments(looks)}
        if looks[0].is_rgb:
            shown["is_rgb"] = True
        words = ", ".join(f"{name}={value!r}" for name, value in shown.items())
        if len(looks) > 1:
            lines.append(f"# stack: a list of {len(looks)} arrays, one per channel")
            stack = "stack"
        lines.append(f"stack = show_planes({stack}, {words})")
        stack = "stack"
    model = "model" if is_network(origin.model) else repr(model_name(origin.model))
    if model == "model":
        lines.append(f"# model: the network, as returned by load_model ({_in_comment(model_name(origin.model))})")
    settings = _settings(origin.settings)
    if settings:
        names.add("SessionSettings")
        arguments["settings"] = f"SessionSettings({settings})"
    words = ", ".join(f"{name}={value}" for name, value in {"model": model, **arguments}.items() if value != "None")
    return [*lines, f"session = Session({stack}, {words})"]


def _in_comment(text: str) -> str:
    """A text without line ends and other control characters."""
    return text if text.isprintable() else repr(text)


def _words(setup: SessionSetup) -> str:
    frames = setup.origin.frames
    dtype = f"{np.dtype(frames.channels[0].array.dtype)} " if isinstance(frames, ArrayPlanes) else ""
    return f"{dtype}of shape {setup.geometry.shape}"


def _settings(settings: SessionSettings) -> str:
    default = asdict(SessionSettings())
    return ", ".join(f"{name}={value!r}" for name, value in asdict(settings).items() if value != default[name])


class _Writer:
    """Turns operations into lines, each the shortest equivalent call.

    Parameters
    ----------
    geometry : StackGeometry
        Of the session.
    """

    def __init__(self, geometry: StackGeometry) -> None:
        self.names: set[str] = set()
        self._geometry = geometry
        self._prompts: dict[tuple[int, int], Prompt | None] = {}
        self._has_moved = False  # prompts went from one object to another

    def lines(self, operation: Operation) -> list[str]:
        """One call."""
        arguments = operation.arguments
        if operation.method == "set_prompt":
            return [self._prompt_line(arguments)]
        if operation.method == "paint":
            return self._paint_lines(arguments)
        self._has_moved |= operation.method in _MOVING
        if operation.method in ("set_model", "remove_object"):
            gone = arguments.get("object_id")  # a change of model turns prompts into masks
            for key in self._prompts:
                if gone is None or key[0] == gone:
                    self._prompts[key] = None
        words = ", ".join(
            f"{name}={self._mask(value) if isinstance(value, np.ndarray) else repr(value)}"
            for name, value in arguments.items()
            if isinstance(value, np.ndarray) or (name, value) not in _DEFAULTS
        )
        return [f"session.{operation.method}({words})"]

    def _prompt_line(self, arguments: Mapping[str, object]) -> str:
        plane, object_id = cast("int", arguments["frame"]), cast("int", arguments["object_id"])
        prompt = cast("Prompt | None", arguments["prompt"])
        key = (object_id, plane)
        old = self._prompts.get(key)
        is_first = key not in self._prompts
        self._prompts[key] = prompt
        if prompt is None:
            self._prompts.pop(key, None)
            return f"session.remove_prompt({object_id}, {plane})"
        if arguments.get("candidate") is None and not self._has_moved and (is_first or old is not None):
            short = self._add_points(key, prompt, old) or self._add_box(key, prompt, old)
            if short is not None:
                return short
            if prompt.packed_mask is not None and prompt.is_mask_only and not prompt.drawn:
                mask = self._mask(prompt.packed_mask.to_array())
                return f"session.add_mask({mask}, frame={plane}, object_id={object_id})"
        words = [str(plane), self._prompt(prompt), f"object_id={object_id}"]
        if arguments.get("candidate") is not None:
            words.append(f"candidate={arguments['candidate']}")
        return f"session.set_prompt({', '.join(words)})"

    def _add_points(self, key: tuple[int, int], prompt: Prompt, old: Prompt | None) -> str | None:
        """``add_points``, where the prompt is the one before with more clicks."""
        count = 0 if old is None else len(old.points)
        points, labels = prompt.points[count:], prompt.labels[count:]
        if not len(points):
            return None
        rows = self._rows(key[1], points)
        try:
            _, xy = self._geometry.locate(rows)
        except PromptError:
            return None
        if old is None:
            same = Prompt(xy, labels)
        else:
            both = np.concatenate((old.points, xy)), np.concatenate((old.labels, labels))
            same = Prompt(*both, old.box, old.mask, old.drawn)
        if not is_same(same, prompt) or same.drawn != prompt.drawn:
            return None
        marks = "" if labels.all() else f", {labels.tolist()}"
        return f"session.add_points({rows}{marks}, object_id={key[0]})"

    def _add_box(self, key: tuple[int, int], prompt: Prompt, old: Prompt | None) -> str | None:
        """``add_box``, where the prompt is the one before with another box."""
        if prompt.box is None or prompt.has_mask or prompt.drawn:
            return None
        if old is None and len(prompt.points):
            return None
        if old is not None and not is_same(Prompt(prompt.points, prompt.labels, prompt.box),
                                           Prompt(old.points, old.labels, prompt.box)):  # fmt: skip
            return None
        h, w = self._geometry.hw
        corners = prompt.box.reshape(2, 2)
        if (corners < -0.5).any() or (corners > (w - 0.5, h - 0.5)).any():
            return None
        return f"session.add_box({self._rows(key[1], corners)}, object_id={key[0]})"

    def _paint_lines(self, arguments: Mapping[str, object]) -> list[str]:
        plane, masks = cast("int", arguments["frame"]), cast("dict[int, NDArray[Any]]", arguments["masks"])
        for object_id in masks:
            self._prompts[object_id, plane] = None
        body = ", ".join(f"{object_id}: {self._mask(mask)}" for object_id, mask in masks.items())
        return [f"session.paint({plane}, {{{body}}})"]

    def _rows(self, plane: int, points_xy: NDArray[np.float32]) -> list[list[float | int]]:
        return [
            [*self._geometry.index(plane), _shortest(y), _shortest(x)] for x, y in np.asarray(points_xy, np.float32)
        ]

    def _prompt(self, prompt: Prompt) -> str:
        self.names.add("Prompt")
        words = []
        if len(prompt.points):
            words.append(f"points={[[_shortest(v) for v in point] for point in prompt.points]}")
            if not prompt.labels.all():
                words.append(f"labels={prompt.labels.tolist()}")
        if prompt.box is not None:
            words.append(f"box={[_shortest(v) for v in prompt.box]}")
        if (mask := prompt.mask) is not None:
            words.append(f"mask={self._mask(mask)}")
        if prompt.drawn:
            self.names.add("DrawnShape")
            words.append(f"drawn=[{', '.join(_drawn_shape(shape) for shape in prompt.drawn)}]")
        return f"Prompt({', '.join(words)})"

    def _mask(self, mask: NDArray[Any]) -> str:
        self.names.add("mask_from_text")
        return f'mask_from_text("{mask_to_text(mask)}")'


def _drawn_shape(shape: DrawnShape) -> str:
    vertices = [[_shortest(v) for v in vertex] for vertex in shape.vertices]
    return f"DrawnShape({shape.kind!r}, {vertices}{'' if shape.is_object else ', is_object=False'})"


def _shortest(value: np.float32) -> float | int:
    """The shortest number that is this one in single precision."""
    number = float(np.format_float_positional(np.float32(value), unique=True))
    return int(number) if number.is_integer() else number
