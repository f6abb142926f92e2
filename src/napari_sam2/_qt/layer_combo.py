"""A choice of the viewer's layers of one type, by magicgui, that follows the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from magicgui.widgets import create_widget
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QWidget

from napari_sam2._qt.connections import Connections
from napari_sam2._qt.layout import make_narrow, named

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["LayerCombo"]


class LayerCombo(QWidget):
    """Choose a layer; magicgui's choice for the annotation ``napari.layers.Image`` and the like, in a Qt form.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Whose layers.
    kind : {"Image", "Labels", "Shapes"}
        Type of the layers; prompts of a session are left out.
    name, tip : str
        Object name and tooltip.
    none_text : str, default ""
        Stands for no layer, which is then the first choice.

    Attributes
    ----------
    layer_changed : Signal
        Emitted with the layer, or None.
    """

    layer_changed = Signal(object)

    def __init__(
        self,
        viewer: ViewerModel,
        kind: Literal["Image", "Labels", "Shapes"],
        name: str,
        tip: str,
        *,
        none_text: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._is_optional = bool(none_text)
        first = [(none_text, None)] if none_text else []
        # the viewer is named, and not looked up among the parents: a ViewerModel has no window
        self._choice: Any = create_widget(
            annotation=f"napari.layers.{kind}",
            # pairs all of them: magicgui takes a pair among other things as one of the things to choose
            options={
                "choices": lambda choice: [*first, *((each.name, each) for each in _of_type(viewer, choice.annotation))]
            },
        )
        box: QComboBox = named(self._choice.native, name, tip)
        make_narrow(box)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(box)
        self._connections = Connections(self)
        for event in ("inserted", "removed", "reordered", "renamed"):
            self._connections.connect(getattr(viewer.layers.events, event), self._on_layers)
        self._connections.connect(self._choice.changed, self._on_choice)
        self._choose_again(None)  # magicgui has taken the first layer

    @property
    def layer(self) -> Any:
        """The chosen layer; None if there is none."""
        return self._choice.value

    def count(self) -> int:
        """How many layers there are to choose from."""
        return len(self._choice.choices)

    def choose(self, layer: Any) -> None:
        """Select a layer of the viewer."""
        if layer in self._choice.choices:
            self._choice.value = layer

    def let_go(self) -> None:
        """Stop following the viewer."""
        self._connections.clear()

    def _on_layers(self, _event: Any = None) -> None:
        self._choose_again(self.layer)

    def _choose_again(self, before: Any) -> None:
        """Of the layers as they are now, keep the chosen one, or take the active one, or else the last one."""
        with self._choice.changed.blocked():
            self._choice.reset_choices()
            found = list(self._choice.choices)
            active = self._viewer.layers.selection.active
            if self._is_optional:
                chosen = before if before in found else None
            else:
                chosen = next((layer for layer in (before, active) if layer in found), found[-1] if found else None)
            if chosen is not None:
                self._choice.value = chosen
        if (chosen is None) != (before is None) or chosen != before:
            self.layer_changed.emit(chosen)

    def _on_choice(self, layer: Any) -> None:
        self.layer_changed.emit(layer)


def _of_type(viewer: ViewerModel, kind: type) -> list[Any]:
    def is_prompts(layer: Any) -> bool:
        return type(layer).__name__ == "Shapes" and "object_id" in layer.features

    return [layer for layer in viewer.layers if isinstance(layer, kind) and not is_prompts(layer)]
