"""Objects like a given one: automatic candidates of a slice, ranked by size, shape and intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam2._viewer.image_source import placement_of
from napari_sam2.labels.outlines import mask_polygons

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2._viewer.binding import ViewerBinding

__all__ = ["Candidate", "Likeness", "OutlineLayer", "rank_alike"]


@dataclass(frozen=True)
class Likeness:
    """By how much two objects may differ in each feature before they count as one step less alike.

    Attributes
    ----------
    log_area : float
        Natural logarithm of the area: 0.4 is a factor of 1.5.
    eccentricity, solidity : float
        As of ``skimage.measure.regionprops``.
    mean, sd : float
        Of the intensity, where black is 0 and white is 1.
    certainty : float
        Steps that a candidate loses from a predicted IoU of 1 to 0.
    covered : float
        Share of a candidate on other objects from which on it is not offered.
    """

    log_area: float = 0.4
    eccentricity: float = 0.25
    solidity: float = 0.08
    mean: float = 0.12
    sd: float = 0.08
    certainty: float = 2.0
    covered: float = 0.3

    @property
    def scales(self) -> tuple[float, ...]:
        """In the order of the features."""
        return self.log_area, self.eccentricity, self.solidity, self.mean, self.sd


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask that may be an object.

    Attributes
    ----------
    top, left : int
        Place of the window in the image, in pixels.
    mask : numpy.ndarray
        (h, w) bool, the window.
    predicted_iou : float
        0 to 1.
    """

    top: int
    left: int
    mask: NDArray[np.bool_]
    predicted_iou: float = 1.0

    @classmethod
    def of(cls, mask: NDArray[np.bool_], predicted_iou: float = 1.0, offset: tuple[int, int] = (0, 0)) -> Candidate:
        """Cut the window of an (H, W) mask, which is not empty and begins at ``offset`` (row, column) of the image."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
        return cls(int(rows[0]) + offset[0], int(columns[0]) + offset[1], window, predicted_iou)

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the window in the image."""
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def covered(self, labels: NDArray[np.integer[Any]]) -> float:
        """Share of its area that lies on objects of (H, W) labels."""
        return float((labels[self.place][self.mask] > 0).mean())

    def in_image(self, hw: tuple[int, int]) -> NDArray[np.bool_]:
        """The mask of the whole image."""
        image = np.zeros(hw, bool)
        image[self.place] = self.mask
        return image


def rank_alike(
    image: NDArray[np.uint8], example: Candidate, candidates: Sequence[Candidate], settings: Likeness | None = None
) -> list[Candidate]:
    """Sort candidates by how much they are like an example, most first.

    Parameters
    ----------
    image : (H, W, 3) uint8 array
        The slice as the model sees it.
    example : Candidate
        The mask of the object.
    candidates : sequence of Candidate
        Masks of the same image.
    settings : Likeness, optional
        What counts how much.

    Returns
    -------
    list of Candidate
    """
    chosen = settings or Likeness()
    scales = np.array(chosen.scales)
    wanted = _features(image, example)
    far = [
        float((np.abs(_features(image, each) - wanted) / scales).sum() + chosen.certainty * (1 - each.predicted_iou))
        for each in candidates
    ]
    return [candidates[at] for at in np.argsort(far, kind="stable")]


def _features(image: NDArray[np.uint8], candidate: Candidate) -> NDArray[np.float64]:
    from skimage.measure import regionprops

    grey = image[candidate.place].mean(axis=-1) / 255
    (found,) = regionprops(candidate.mask.astype(np.uint8))
    values = grey[candidate.mask]
    return np.array([np.log(found.area), found.eccentricity, found.solidity, values.mean(), values.std()])


@dataclass(eq=False)
class OutlineLayer:
    """A Shapes layer that shows the outline of the candidate that is offered, and nothing between offers."""

    binding: ViewerBinding
    _layer: Any = field(default=None, init=False)

    def show(self, candidate: Candidate, plane: int) -> None:
        """Draw its outline, and bring it into view."""
        binding = self.binding
        viewer, image = binding.viewer, binding.images[0]
        active = viewer.layers.selection.active
        self.hide()
        index = binding.geometry.index(plane)
        start = np.array((candidate.top, candidate.left)) - 0.5  # corners of pixels, and not their centres
        rings = [ring[:, ::-1] + start for polygon in mask_polygons(candidate.mask) for ring in polygon[:1]]
        data = [np.column_stack((np.tile(index, (len(ring), 1)), ring)) if index else ring for ring in rings]
        self._layer = viewer.add_shapes(
            data,
            shape_type="polygon",
            face_color="transparent",
            edge_color="yellow",
            edge_width=1,
            name="like this?",
            **placement_of(image, binding.level).arguments(),
        )
        self._layer.editable = False
        viewer.layers.selection.active = active
        middle = np.array((candidate.top, candidate.left)) + np.array(candidate.mask.shape) / 2
        binding.bring_into_view((float(middle[0]), float(middle[1])))

    def hide(self) -> None:
        """Take the layer away."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self.binding.viewer.layers:
            self.binding.viewer.layers.remove(layer)
