"""A combo box of a viewer's layers of one kind, that follows the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QSizePolicy, QWidget

from napari_sam2._qt.connections import Connections
from napari_sam2._qt.layout import named

if TYPE_CHECKING:
    from napari.components import ViewerModel

__all__ = ["LayerCombo"]


class LayerCombo(QComboBox):
    """Choose a layer.

    Parameters
    ----------
    viewer : napari.Viewer or ViewerModel
        Whose layers.
    kind : str
        Name of the class of layers, such as "Image".
    name, tip : str
        For tests, and for the user.

    Attributes
    ----------
    layer_changed : Signal
        Emitted with the layer, or None.
    """

    layer_changed = Signal(object)

    def __init__(self, viewer: ViewerModel, kind: str, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        named(self, name, tip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._viewer = viewer
        self._kind = kind
        self._layers: list[Any] = []
        self._connections = Connections(self)
        for event in ("inserted", "removed", "reordered", "renamed"):
            self._connections.connect(getattr(viewer.layers.events, event), self._on_layers)
        self.currentIndexChanged.connect(self._on_index)
        self._on_layers()

    @property
    def layer(self) -> Any:
        """The chosen layer; None if there is none."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def choose(self, layer: Any) -> None:
        """Select a layer of the viewer."""
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def let_go(self) -> None:
        """Stop following the viewer."""
        self._connections.clear()

    def _on_layers(self, _event: Any = None) -> None:
        before = self.layer
        found = [layer for layer in self._viewer.layers if _is_a(layer, self._kind)]
        self.blockSignals(True)
        self.clear()
        self._layers = found
        self.addItems([layer.name for layer in found])
        if before is not None and before in found:
            self.setCurrentIndex(found.index(before))
        else:
            active = self._viewer.layers.selection.active
            self.setCurrentIndex(found.index(active) if active in found else len(found) - 1)
        self.blockSignals(False)
        if (self.layer is None) != (before is None) or self.layer != before:
            self.layer_changed.emit(self.layer)

    def _on_index(self, _index: int) -> None:
        self.layer_changed.emit(self.layer)


def _is_a(layer: Any, kind: str) -> bool:
    # through napari's proxy `type(layer)` is the proxy's, while `__class__` is the layer's
    return bool(layer.__class__.__name__ == kind)
