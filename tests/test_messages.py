"""Errors name options in the words of whoever shows them: Python, the shell or a form."""

from __future__ import annotations

import ast
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import napari_sam2
from napari_sam2._errors import FrameError, OutputError, PlanesLeftOutWarning, warn_caller
from napari_sam2._messages import (
    AGAIN,
    AXES,
    OVERWRITE,
    RESTART,
    Message,
    Option,
    counted,
    first_line,
    given,
    in_all_words,
    in_form_words,
    in_shell_words,
    is_or_are,
    message_of,
    one_line,
    shown,
)
from places import ROOT

TEXT = Message("a.tif already exists; choose another name, or ", OVERWRITE)


def test_an_error_is_in_the_words_of_python_and_others_ask_for_theirs():
    error = OutputError(TEXT)
    assert str(error) == "a.tif already exists; choose another name, or give overwrite=True"
    assert in_shell_words(error) == "a.tif already exists; choose another name, or give --overwrite"
    assert in_form_words(error, {"overwrite": "check Replace"}) == (
        "a.tif already exists; choose another name, or check Replace"
    )
    assert in_form_words(error, {"restart": "x"}) == str(error)
    assert in_all_words(error).endswith("or give overwrite=True (in the shell: give --overwrite)")


@pytest.mark.parametrize("error", [OSError(2, "No such file"), ValueError("{restart} --restart"), KeyError("a")])
def test_errors_without_options_are_as_they_are(error):
    assert in_shell_words(error) == in_form_words(error, {"restart": "x"}) == in_all_words(error) == str(error)


def test_options_stay_when_a_text_is_continued_and_when_an_error_comes_from_another_process():
    longer = OutputError(Message(message_of(OutputError(TEXT)), "; finished: 3. To resume, ", AGAIN))
    for error in (longer, pickle.loads(pickle.dumps(longer))):
        assert str(error).endswith("give overwrite=True; finished: 3. To resume, call it again with the same arguments")
        assert in_shell_words(error).endswith("give --overwrite; finished: 3. To resume, run the same command again")


def test_names_follow_from_the_parameter_where_no_others_are_given():
    option = Option("pixel_size")
    assert (str(option), option.in_shell) == ("pixel_size=", "--pixel-size")
    assert (str(RESTART), RESTART.in_shell) == ("restart=True", "--restart")


def test_warnings_name_options_too():
    with pytest.warns(PlanesLeftOutWarning, match="give axes= to choose") as told:
        warn_caller(Message("give ", AXES, " to choose"), PlanesLeftOutWarning)
    (warning,) = told
    assert in_shell_words(warning.message) == "give --axes to choose"
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="axes="):
        warnings.simplefilter("error")
        warn_caller(Message("give ", AXES))


def test_one_line_and_the_first_line_of_an_error():
    assert one_line(ValueError(" a\n  b ")) == "a b"
    assert one_line(ValueError()) == first_line(ValueError()) == "ValueError"
    assert one_line(ValueError("x" * 50), longest=10) == "xxxxxxx..."
    assert first_line(FrameError("a\nb")) == "a"
    assert one_line(IndexError(0)) == first_line(IndexError(0)) == "IndexError: 0"
    assert one_line(KeyError("the tag")) == "'the tag'"


def test_no_text_of_the_library_says_what_the_shell_calls_an_option():
    """Texts that only the command prints may; others give an ``Option``."""
    source = ROOT / "src/napari_sam2"
    of_the_shell = {"cli", "_qt"}
    found = [
        f"{path.relative_to(source)}: {line.strip()}"
        for path in source.rglob("*.py")
        if path.relative_to(source).parts[0] not in of_the_shell
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"in the shell --", line)
    ]
    assert found == []


class _FailingRepr:
    def __repr__(self):
        raise ValueError("no")


def test_any_value_is_shown_on_one_short_line():
    assert shown("cells.tif") == "'cells.tif'"
    assert shown("two  spaces\n") == r"'two  spaces\n'"
    assert "_FailingRepr" in shown(_FailingRepr())
    long = [shown(value) for value in ("x" * 10**6, list(range(10**6)), np.zeros((1000, 1000)))]
    assert all(len(text) <= 200 and "\n" not in text for text in long)


def test_errors_show_values_with_shown():
    found = []
    for path in Path(napari_sam2.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                found += [
                    f"{path.name}:{each.lineno}"
                    for each in ast.walk(node)
                    if isinstance(each, ast.FormattedValue) and each.conversion == ord("r")
                ]
    assert not found, "use shown(value): repr may fail, be very long or hold line ends"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 objects are"), (1, "1 object is"), (2, "2 objects are")], ids=["none", "one", "two"]
)
def test_one_thing_is_not_counted_as_several(count, text):
    assert f"{counted(count, 'object')} {is_or_are(count)}" == text


@pytest.mark.parametrize(
    ("name", "value", "python", "shell"),
    [
        ("gamma", 0, "gamma=0", "--gamma 0"),
        ("pred_iou_thresh", -1.0, "pred_iou_thresh=-1.0", "--iou -1.0"),
        ("batch_size", 0, "batch_size=0", "--batch-size 0"),
        ("device", "gpu", "device='gpu'", "--device gpu"),
        ("device", "", "device=''", "--device ''"),
    ],
)
def test_a_value_that_was_given_is_named_as_it_was_given(name, value, python, shell):
    option = given(name, value)
    assert (str(option), option.in_shell) == (python, shell)
