"""Every public name tells its parameters and what it returns, as numpydoc asks."""

from __future__ import annotations

import inspect

import pytest
from numpydoc.validate import validate

import napari_sam2

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
