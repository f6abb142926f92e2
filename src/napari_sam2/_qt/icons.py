"""Icons drawn from short SVG paths, in the colour of the text beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from qtpy.QtCore import QByteArray, QEvent, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPalette, QPixmap
from qtpy.QtWidgets import QSizePolicy, QToolButton, QWidget

from napari_sam2._viewer.labels_layer import object_colour

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ICONS", "IconButton", "colour_icon", "draw_icon", "swatch"]

_SIZE = 18  # pixels
_STYLE = (
    "QToolButton { background: transparent; border: none; border-radius: 3px; padding: 1px; }"
    "QToolButton:hover, QToolButton:focus { background: rgba(128, 128, 128, 90); }"
    "QToolButton:checked { background: rgba(90, 110, 230, 220); }"
    "QToolButton::menu-indicator { image: none; }"
)
_FADED = 0.35  # opacity of what cannot be pressed

_LOCK = '<rect x="5" y="11" width="14" height="9" rx="1.5" {fill}/><path d="M8 11V8a4 4 0 0 1 8 0v3"/>'
_EYE = '<path d="M2 12s4-6.5 10-6.5S22 12 22 12s-4 6.5-10 6.5S2 12 2 12z"/>'

# on 24 x 24 units; "fill" stands for a filled part
ICONS: Mapping[str, str] = MappingProxyType(
    {
        "select": '<path d="M5 3l14 8-6.5 1.8L9 19z" {fill}/>',
        "point": '<circle cx="12" cy="12" r="3" {fill}/><path d="M12 2v5M12 17v5M2 12h5M17 12h5"/>',
        "box": '<rect x="4" y="5" width="16" height="14" stroke-dasharray="4 2.5"/>',
        "lasso": '<path d="M8 17c-6-1-7-9 1-12s14 3 11 8-7 4-12 4c-2 0-3 2-1 4"/>',
        "scribble": '<path d="M3 16c3-9 5-9 6-3s3 6 5-1 4-6 7-1"/>',
        "paint": '<path d="M20 4L10 14M10 14c-3-1-5 1-5 3s-1 3-2 3c4 2 9 0 9-4 0-1-1-2-2-2z"/>',
        "gear": '<circle cx="12" cy="12" r="5"/><circle cx="12" cy="12" r="8.6" stroke-width="3" '
        'stroke-dasharray="3.4 3.35"/>',
        "eye": _EYE + '<circle cx="12" cy="12" r="3" {fill}/>',
        "eye_off": _EYE + '<path d="M4 20L20 4"/>',
        "outline": '<path d="M12 4c5 0 8 3 8 8s-4 8-9 8-7-4-7-8 3-8 8-8z" stroke-width="2.6"/>',
        "warning": '<path d="M12 4L22 20H2z"/><path d="M12 10v5M12 17v1"/>',
        "outdated": '<path d="M19 8a8 8 0 1 0 1 6M20 3v6h-6" stroke-width="2.4"/>',
        "lock": _LOCK,
        "lock_half": _LOCK.replace("{fill}", "") + '<rect x="5" y="15.5" width="14" height="4.5" {fill}/>',
        "lock_open": '<rect x="5" y="11" width="14" height="9" rx="1.5"/><path d="M8 11V7a4 4 0 0 1 7.6-1.7"/>',
        "backward": '<path d="M11 6l-6 6 6 6M19 6l-6 6 6 6"/>',
        "forward": '<path d="M5 6l6 6-6 6M13 6l6 6-6 6"/>',
        "previous": '<path d="M15 5l-7 7 7 7"/>',
        "next": '<path d="M9 5l7 7-7 7"/>',
        "pause": '<path d="M8 5v14M16 5v14" stroke-width="3.5"/>',
        "resume": '<path d="M7 4l12 8-12 8z" {fill}/>',
        "stop": '<rect x="6" y="6" width="12" height="12" {fill}/>',
        "check": '<path d="M4 13l5 5L20 6" stroke-width="2.6"/>',
        "undo": '<path d="M9 5L4 10l5 5M4 10h10c8 0 8 10 0 10h-4"/>',
        "redo": '<path d="M15 5l5 5-5 5M20 10H10c-8 0-8 10 0 10h4"/>',
        "menu": '<path d="M4 6h16M4 12h16M4 18h16"/>',
        "measure": '<path d="M3 16L16 3l5 5L8 21zM7 12l2 2M10 9l3 3M13 6l2 2"/>',
        "lineage": '<path d="M3 12h7M10 6v12M10 6h11M10 18h11" stroke-width="2.4"/>',
        "save": '<path d="M4 4h13l3 3v13H4zM8 4v5h7V4M7 20v-7h10v7"/>',
        "open": '<path d="M3 19V5h6l2 3h9v3M3 19l4-8h15l-4 8z"/>',
        "object": '<circle cx="12" cy="12" r="6" {fill}/>',  # as prompt points are drawn
        "background": '<path d="M6 6l12 12M18 6L6 18" stroke-width="2.6"/>',
        "plus": '<path d="M12 4v16M4 12h16" stroke-width="2.6"/>',
    }
)


def draw_icon(name: str, colour: QColor) -> QIcon:
    """One of ``ICONS`` in a colour, fainter where it is disabled."""
    icon = QIcon()
    for mode, opacity in ((QIcon.Mode.Normal, 1.0), (QIcon.Mode.Disabled, _FADED)):
        icon.addPixmap(_draw(name, colour, opacity), mode)
    return icon


def _draw(name: str, colour: QColor, opacity: float) -> QPixmap:
    parts = ICONS[name].replace("{fill}", f'fill="{colour.name()}"')
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="{4 * _SIZE}" height="{4 * _SIZE}">'
        f'<g fill="none" stroke="{colour.name()}" stroke-width="2" stroke-linejoin="round" stroke-linecap="round" '
        f'opacity="{opacity}">{parts}</g></svg>'
    )
    pixmap = QPixmap()
    pixmap.loadFromData(QByteArray(svg.encode()), "SVG")
    return pixmap


class IconButton(QToolButton):
    """A flat button with an icon, whose tooltip says what it does and which key does it too.

    Parameters
    ----------
    icon : str
        One of ``ICONS``.
    name : str
        Object name.
    tip : str
        Tooltip; its first sentence is the accessible name.
    text : str, optional
        Shown beside the icon.
    checkable : bool
        Whether it stays down.
    """

    def __init__(
        self, icon: str, name: str, tip: str, *, text: str = "", checkable: bool = False, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._icon_name = icon
        self._drawn: tuple[str, str] | None = None
        self.setObjectName(name)
        self.setCheckable(checkable)
        self.setAutoRaise(True)
        self.setStyleSheet(_STYLE)
        self.setIconSize(QSize(_SIZE, _SIZE))
        self.setText(text)
        self.setToolButtonStyle(
            Qt.ToolButtonStyle.ToolButtonTextBesideIcon if text else Qt.ToolButtonStyle.ToolButtonIconOnly
        )
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.set_tip(tip)
        self._redraw()

    def set_tip(self, tip: str) -> None:
        """Change what the button says of itself."""
        self.setToolTip(tip)
        self.setAccessibleName(tip.split(". ")[0].rstrip("."))

    def set_icon_name(self, icon: str) -> None:
        """Show another icon."""
        self._icon_name = icon
        self._redraw()

    def _redraw(self) -> None:
        colour = self.palette().color(QPalette.ColorRole.ButtonText)
        wanted = (self._icon_name, colour.name())
        if wanted != self._drawn:
            self._drawn = wanted
            self.setIcon(draw_icon(self._icon_name, colour))

    def changeEvent(self, event: QEvent | None) -> None:  # noqa: N802 Qt's name
        """Follow the theme."""
        super().changeEvent(event)
        if event is not None and event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._redraw()


def swatch(object_id: int) -> QIcon:
    """A square in the colour of an object."""
    return colour_icon(object_colour(object_id))


def colour_icon(rgba: Sequence[float] | NDArray[np.float32]) -> QIcon:
    """A square in a colour of four values, 0 to 1, that stays so where its row is selected."""
    red, green, blue, _ = (int(255 * float(v)) for v in rgba)
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(red, green, blue))
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # otherwise tinted, and not the colour of the object
    return icon
