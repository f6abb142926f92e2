"""Every public name tells its parameters and what it returns, as numpydoc asks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator

import pytest
from numpydoc.validate import validate

import napari_sam2
from napari_sam2 import NapariSAM2Error

# Numpydoc's codes.
_ALWAYS = {"GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "PR03", "PR05", "PR10", "YD01"}
_OF_FUNCTIONS = {"PR01", "PR02", "PR07", "RT03"}


def public_members() -> list[object]:
    """Public names of the package, and the methods that their classes define themselves."""
    members = []
    for name in napari_sam2.__all__:
        value = getattr(napari_sam2, name)
        if not callable(value):
            continue
        path = f"{value.__module__}.{name}"
        if not inspect.isclass(value):
            members.append(pytest.param(path, _ALWAYS | _OF_FUNCTIONS, id=name))
            continue
        # Numpydoc does not see the fields of a dataclass, so what a class lists cannot be compared with its signature.
        members.append(pytest.param(path, _ALWAYS, id=name))
        for method, function in inspect.getmembers(value, inspect.isfunction):
            if not method.startswith("_") and function.__module__.startswith("napari_sam2"):
                # A method whose summary says it all may stop there; once it lists parameters, it lists them all.
                is_listed = "Parameters\n" in (function.__doc__ or "")
                codes = _ALWAYS | _OF_FUNCTIONS if is_listed else _ALWAYS
                members.append(pytest.param(f"{path}.{method}", codes, id=f"{name}.{method}"))
    return members


@pytest.mark.parametrize(("member", "codes"), public_members())
def test_public_docstring_is_complete(member, codes):
    assert [f"{code} {text}" for code, text in validate(member)["errors"] if code in codes] == []


# of jobs and their options: run_batch calls them
_CALLED_BY_RUN_BATCH = {"check", "try_on", "run", "open", "generator", "limits", "segment"}


def checked_calls_of_users() -> Iterator[object]:
    """Public functions, constructors and methods whose arguments are checked by their annotations."""
    for name in napari_sam2.__all__:
        value = getattr(napari_sam2, name)
        if inspect.isfunction(value):
            yield pytest.param(value, value, id=name)
        elif inspect.isclass(value) and not issubclass(value, Exception):
            if inspect.isfunction(value.__init__):
                yield pytest.param(value.__init__, value, id=name)
            for method, member in inspect.getmembers(value):
                function = getattr(member, "__func__", member)
                is_called_by_us = name.endswith(("Job", "Options")) and method in _CALLED_BY_RUN_BATCH
                if inspect.isfunction(function) and not method.startswith("_") and not is_called_by_us:
                    yield pytest.param(function, function, id=f"{name}.{method}")


def error_of(function: Callable[..., object]) -> type[NapariSAM2Error] | None:
    """What ``checked`` raises for arguments of another type."""
    held = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return next((each for each in held if inspect.isclass(each) and issubclass(each, NapariSAM2Error)), None)


@pytest.mark.parametrize(("function", "documented"), list(checked_calls_of_users()))
def test_the_error_of_unsuitable_arguments_is_documented(function, documented):
    error = error_of(function)
    if error is None or not inspect.signature(function).parameters.keys() - {"self", "cls"}:
        return
    section = re.search(r"^Raises\n-+\n(.*)", inspect.getdoc(documented) or "", re.DOTALL | re.MULTILINE)
    assert section, f"no section Raises; arguments of another type raise {error.__name__}"
    named = ", ".join(re.findall(r"^((?:\w+, )*\w+)$", section[1], re.MULTILINE)).split(", ")
    assert set(named) & {base.__name__ for base in error.__mro__}, f"{error.__name__} is not among {named}"
