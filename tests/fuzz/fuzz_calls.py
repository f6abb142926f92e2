"""Random calls of everything public, as Python source, and what may come of them."""

from __future__ import annotations

import inspect
import random
import re
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from types import GeneratorType
from typing import Any

from fuzz_values import argument as random_argument
from fuzz_world import World

import napari_sam2
from napari_sam2 import NapariSAM2Error
from napari_sam2.inference.automatic.options import MaskGeneratorOptions
from napari_sam2.session.results import export
from napari_sam2.session.worker.propagation_handle import PropagationHandle

__all__ = ["LIMIT_S", "Target", "judge", "public_targets", "random_call", "random_sequence", "session_targets"]

LIMIT_S = 30.0  # of computing; a call that waits for nothing is given four times as long
_EXTRA_MEMORY = 4 * 2**30  # bytes: what a call may take beyond what the process holds

# Instances whose methods are called, by class. Values that are only handed out have none.
_INSTANCES = {
    "Session": "session", "SAM2ImagePredictor": "predictor", "SAM2VideoSegmenter": "segmenter", "Prompt": "prompt",
    "SAM2AutomaticMaskGenerator": "generator", "EmbeddingCache": "cache", "LabelAgreement": "agreement",
    "PropagationHandle": "handle", "ComputeAddress": "compute_address", "LabelEditor": "editor",
    "LabelWriter": "writer",
}  # fmt: skip
_HANDED_OUT = {
    "FineTuneResult",
    "FineTuneReport",
    "FrameSource",
    "MaskRecord",
    "MaskPrediction",
    "FrameResult",
    "Tracks",
    "ModelInfo",
}
_CALLED_BY_RUN_BATCH = {"check", "try_on", "run", "open", "generator", "limits", "segment"}  # of jobs and their options
_OPTION = 0.25  # of the optional parameters are given


@dataclass(frozen=True)
class Target:
    """Something that can be called.

    Attributes
    ----------
    path : str
        As in a script: "session.add_points".
    parameters : tuple of inspect.Parameter
        Without ``self``.
    allowed : tuple of str
        Errors that its docstring names, besides the package's own.
    """

    path: str
    parameters: tuple[inspect.Parameter, ...]
    allowed: tuple[str, ...] = ()


@dataclass
class Verdict:
    """What came of some calls: lines to reproduce them, and what was wrong."""

    lines: list[str]
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        script = "\n".join(f"    {line}" for line in self.lines)
        return f"{script}\n  -> " + "\n  -> ".join(self.faults)


# ---------------------------------------------------------------------- what is called
def public_targets() -> list[Target]:
    """All functions, classes and methods of ``napari_sam2.__all__``, and the export functions."""
    targets = [_target(name, getattr(export, name)) for name in export.__all__]
    for name in napari_sam2.__all__:
        value = getattr(napari_sam2, name)
        if inspect.isfunction(value):
            targets.append(_target(name, value))
        elif inspect.isclass(value) and not issubclass(value, Exception):
            targets += _targets_of_class(name, value)
    return targets


def session_targets() -> list[Target]:
    """The methods of a session and of its propagation's handle."""
    methods = [
        t for t in public_targets() if t.path.startswith("session.") and not t.path.endswith((".load", ".restore"))
    ]
    handle = [
        _target(f"session.handle.{name}", function)
        for name, function in inspect.getmembers(PropagationHandle, inspect.isfunction)
        if name in ("pause", "resume", "cancel")
    ]
    return methods + handle


def _targets_of_class(name: str, value: type) -> list[Target]:
    if name in _HANDED_OUT:
        return []
    found = [_target(name, value)]
    instance = _INSTANCES.get(name)
    for method, function in inspect.getmembers(value):
        if method.startswith("_") or not getattr(function, "__module__", "").startswith("napari_sam2"):
            continue
        if name.endswith(("Job", "Options")) and method in _CALLED_BY_RUN_BATCH:
            continue
        assert instance is not None or isinstance(function, type), f"{name}.{method} has no instance to be called on"
        if inspect.isfunction(function):
            found.append(_target(f"{instance}.{method}", function))
        elif inspect.ismethod(function):
            found.append(_target(f"{name}.{method}", function))
    for attribute, descriptor in inspect.getmembers(value, lambda member: isinstance(member, property)):
        if descriptor.fset is not None:
            given = inspect.signature(descriptor.fset).parameters
            parameter = list(given.values())[-1].replace(name=attribute.removesuffix("_path") + "_path")
            found.append(Target(f"set:{instance}.{attribute}", (parameter.replace(name="path"),)))
    return found


def _target(path: str, function: Callable[..., Any]) -> Target:
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    kept = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if path in ("SAM2AutomaticMaskGenerator", "generator.filter") and len(kept) < len(parameters):
        known = {p.name for p in kept}
        options = inspect.signature(MaskGeneratorOptions).parameters.values()
        kept += [p.replace(kind=p.KEYWORD_ONLY) for p in options if p.name not in known]
    return Target(path, tuple(kept), _documented(function))


def _documented(function: Callable[..., Any]) -> tuple[str, ...]:
    """The errors named in the section "Raises" of a docstring."""
    text = inspect.getdoc(function) or ""
    section = re.search(r"^Raises\n-+\n(.*?)(?=\n\w[^\n]*\n---|\Z)", text, re.DOTALL | re.MULTILINE)
    return tuple(re.findall(r"^(\w+)$", section[1], re.MULTILINE)) if section else ()


# ---------------------------------------------------------------------- calls
def random_call(
    rng: random.Random, target: Target, *, num_attacked: int, argument: Callable[..., str] = random_argument
) -> str:
    """A call as source, with so many of its arguments attacked."""
    optional = [p for p in target.parameters if p.default is not p.empty]
    given = [
        p for p in target.parameters if p.default is p.empty or rng.random() < _OPTION or _is_always_given(target, p)
    ]
    attacked = rng.sample(target.parameters, min(num_attacked, len(target.parameters)))
    names = {p.name for p in (*given, *attacked)}
    words = []
    for parameter in target.parameters:
        if parameter.name not in names:
            continue
        value = argument(rng, target.path, parameter.name, str(parameter.annotation), attack=parameter in attacked)
        words.append(value if parameter not in optional else f"{parameter.name}={value}")
    if target.path.startswith("set:"):
        owner, _, attribute = target.path.removeprefix("set:").rpartition(".")
        return f"setattr({owner}, {attribute!r}, {words[0]})"
    return f"{target.path}({', '.join(words)})"


def _is_always_given(target: Target, parameter: inspect.Parameter) -> bool:
    """Without these a call takes long, or a large model is loaded."""
    few_steps = {"start_from", "steps", "validate_every", "validation_objects", "batch_size", "crop", "image_size"}
    needed = {"model", "points_per_side", "finder"} | (few_steps if target.path == "fine_tune" else set())
    return parameter.name in needed or (parameter.name == "points" and target.path == "Prompt")


def random_sequence(rng: random.Random, targets: list[Target], length: int) -> list[str]:
    """Calls on one session: mostly valid ones, undo, redo, propagations that go on, and close in between."""
    lines = []
    for _ in range(length):
        if rng.random() < 0.35:
            lines.append(rng.choice(_FREQUENT))
        else:
            lines.append(random_call(rng, rng.choice(targets), num_attacked=int(rng.random() < 0.25)))
    return lines


_FREQUENT = (
    "session.undo()", "session.redo()", "session.propagate(block=False)", "session.cancel()", "session.pause()",
    "session.resume()", "session.propagate()", "session.add_points([[1, 8, 9]])",
    "session.add_points([[3, 3, 4]], block=False)",
    "session.wait_for_answers(10)", "session.add_points([[0, 9, 9]], [0], object_id=1)", "session.remove_object(1)",
    "session.add_labels(seeds, frame=1)", "session.lock(1)", "session.unlock(1)", "session.new_object()",
    "session.set_model(model)", "session.paint(0, {3: disc})", "session.remove_prompt(1, 0)", "session.to_python()",
    "session.labels.sum()", "session.scores", "session.operations", "session.is_busy",
    "session.set_overlap('overwrite')",
    "session.handle.wait(20)", "session.next_candidate(1, 0)",
)  # fmt: skip


# ---------------------------------------------------------------------- judging
def judge(world: World, lines: list[str], allowed: tuple[str, ...] = ()) -> Verdict:
    """Run calls one after the other; a fault is any error that is not documented, and any call that takes too long."""
    verdict = Verdict([])
    with warnings.catch_warnings(), limited_memory():
        warnings.simplefilter("ignore")
        for line in lines:
            verdict.lines.append(line)
            verdict.faults += _faults(world, line, allowed)
        verdict.faults += _faults(world, "close()", (), world.close)
    verdict.faults += [f"failed: {_named(error)}" for error in world.failures if not isinstance(error, NapariSAM2Error)]
    return verdict


def _faults(
    world: World, line: str, allowed: tuple[str, ...], function: Callable[[], object] | None = None
) -> Iterator[str]:
    began = time.process_time()
    try:
        with alarm(LIMIT_S):
            value = world.run(line) if function is None else function()
            if isinstance(value, GeneratorType):
                list(islice(value, 12))
        world.watch(value)
    except NapariSAM2Error as error:
        if not str(error).strip():
            yield f"{line}: an error without text"
    except TooSlowError as error:
        yield f"{line}: not done within {LIMIT_S:g} s, at {_place(error)}"
    except Exception as error:  # noqa: BLE001 - what is looked for
        known = {kind.__name__ for kind in type(error).__mro__}
        is_of_the_script = isinstance(error, AttributeError) and "'NoneType' object has no attribute" in str(error)
        if known.isdisjoint(allowed) and not (is_of_the_script and "handle" in line):
            yield f"{line}: {_named(error)}"
    if (seconds := time.process_time() - began) > LIMIT_S:
        yield f"{line}: took {seconds:.0f} s"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]!r} at {_place(error)}"


def _place(error: BaseException) -> str:
    """The last lines of the package that the error came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "napari_sam2" in f.filename]
    return " < ".join(f"{f.filename.rpartition('napari_sam2/')[2]}:{f.lineno}" for f in frames[-3:][::-1]) or "-"


class TooSlowError(BaseException):
    """A call went on for too long. No Exception, so that nobody catches it on the way."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise within it when the time is over; code that never returns to Python is only interrupted when it does."""

    def ring(signum: int, frame: object) -> None:
        raise TooSlowError

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 4 * seconds))
    before = [signal.signal(kind, ring) for _, kind, _ in timers]
    for timer, _, limit in timers:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for (timer, kind, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(kind, handler)


@contextmanager
def limited_memory(extra: int = _EXTRA_MEMORY) -> Iterator[None]:
    """Within it, taking much more memory fails, rather than stop the machine."""
    from pathlib import Path

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
