"""Forms of the dock's tabs, made by magicgui from the signatures and docstrings of the functions that they call."""

from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from magicgui import magic_factory
from magicgui.widgets import FileEdit
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QLabel, QSizePolicy, QWidget

from napari_sam2._qt.layout import align_labels, labels_of, make_narrow, named

__all__ = ["Form"]

_OWN = ("automatic", "suffix", "middle")  # options that are not magicgui's
_SPACING = 4
_PATH_WIDTH = 60  # pixels


class Form:
    """A magicgui form of some parameters of a function.

    Numbers may have an "automatic" value below their range, which stands for None.

    Parameters
    ----------
    function : callable
        Its annotations give the controls, its docstring the tooltips.
    prefix : str
        Of the object names of the controls.
    options : mapping of str to mapping
        Options of magicgui by parameter, such as label, choices, min and max; and ``automatic``, the text of None, and
        ``suffix``. Parameters that are not named here have no control.

    Attributes
    ----------
    gui : magicgui.widgets.FunctionGui
        The container; ``gui.native`` is the Qt widget.
    """

    def __init__(self, function: Callable[..., Any], prefix: str, options: Mapping[str, Mapping[str, Any]]) -> None:
        self._automatic: dict[str, float] = {}
        self._aligned: _Aligned | None = None
        self._names = tuple(options)
        given: dict[str, dict[str, Any]] = {}
        for name, of_one in options.items():
            given[name] = {key: value for key, value in of_one.items() if key not in _OWN}
            if "automatic" in of_one:
                low = float(of_one.get("min", 0)) - float(of_one.get("step", 1))
                self._automatic[name] = low
                given[name] |= {"min": low, "value": low}
        self.gui: Any = magic_factory(_with_parameters(function, options), call_button=False, **given)()
        for name, of_one in options.items():
            self._finish(name, of_one, prefix)
        native = self.gui.native
        native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        native.layout().setContentsMargins(0, 0, 0, 0)
        native.layout().setSpacing(_SPACING)
        for holder in native.findChildren(QWidget):
            if holder.layout() is not None:
                holder.layout().setContentsMargins(0, 0, 0, 0)

    def _finish(self, name: str, options: Mapping[str, Any], prefix: str) -> None:
        """What magicgui has no options for."""
        control = self.gui[name]
        native = named(control.native, f"{prefix}_{name}", " ".join((control.tooltip or name).split()))
        if isinstance(native, QDoubleSpinBox):
            if float(options.get("step", 1)) == 1:
                native.setDecimals(0)
            native.setSuffix(str(options.get("suffix", "")))
        if "automatic" in options:
            native.setSpecialValueText(str(options["automatic"]))
        if "middle" in options:
            low, step, middle = self._automatic[name], float(options["step"]), float(options["middle"])

            def follow(value: float) -> None:
                """The first step from automatic goes to the middle: 0 would keep everything."""
                native.setSingleStep(middle - low if value <= low else step)

            native.valueChanged.connect(follow)
            follow(native.value())
        if isinstance(control, FileEdit):
            control.choose_btn.text = "..."
            for part, what in ((control.line_edit.native, name), (control.choose_btn.native, f"{name}_button")):
                named(part, f"{prefix}_{what}", native.toolTip())
            control.line_edit.native.setMinimumWidth(_PATH_WIDTH)
        if isinstance(native, QComboBox):
            make_narrow(native)

    def native(self, name: str) -> Any:
        """The Qt control of a parameter."""
        return self.gui[name].native

    def keep_aligned(self, *forms: QFormLayout) -> None:
        """Call `align` now, and whenever the font changes."""
        self.align(*forms)
        if self._aligned is None:
            self._aligned = _Aligned(self, forms)
            self.gui.native.installEventFilter(self._aligned)

    def align(self, *forms: QFormLayout) -> None:
        """Make all labels, also those of further forms, as wide as the widest, in the font that they have now."""
        labels = self.gui.native.findChildren(QLabel)
        align_labels([*labels, *itertools.chain.from_iterable(map(labels_of, forms))])

    def values(self) -> dict[str, Any]:
        """The arguments, by parameter; None where a number is automatic."""
        found: dict[str, Any] = {}
        for name in self._names:
            control = self.gui[name]
            value = control.value
            if isinstance(control, FileEdit) and not control.line_edit.value:
                value = Path()  # and not the current folder
            if name in self._automatic and value <= self._automatic[name]:
                value = None
            elif isinstance(value, float) and self.native(name).decimals() == 0:
                value = int(value)
            found[name] = value
        return found

    def show(self, name: str, is_shown: bool) -> None:
        """Show a parameter, or hide it where it does not apply."""
        self.gui[name].visible = is_shown

    def is_shown(self, name: str) -> bool:
        """Whether a parameter is shown, in a window that is."""
        return not self.native(name).isHidden()


class _Aligned(QObject):
    """Filters events of a form: its labels are aligned again in another font."""

    def __init__(self, form: Form, forms: tuple[QFormLayout, ...]) -> None:
        super().__init__(form.gui.native)
        self._form, self._forms = form, forms
        self._timer = QTimer(self)  # the labels hear of a font after the form that they are in
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._align)

    def eventFilter(self, _watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 Qt's name
        """Align once all labels have their font."""
        if event is not None and event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._timer.start()
        return False

    def _align(self) -> None:
        self._form.align(*self._forms)


def _with_parameters(function: Callable[..., Any], options: Mapping[str, Mapping[str, Any]]) -> Callable[..., Any]:
    """The function with some of its parameters only, their annotations resolved where it was written."""
    plain = inspect.unwrap(function)
    parameters = inspect.signature(plain).parameters

    def called(**arguments: Any) -> Any:
        return function(**arguments)

    called.__name__, called.__doc__ = plain.__name__, plain.__doc__
    called.__annotations__ = {name: parameters[name].annotation for name in options}
    hints = typing.get_type_hints(called, globalns=plain.__globals__)
    # the choices of a Literal would come before those of the options, which have words for them
    hints |= {name: str for name, of_one in options.items() if "choices" in of_one}
    called.__annotations__ = hints
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameters[name].replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY) for name in options]
    )
    return called
