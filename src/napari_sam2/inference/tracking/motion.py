"""Where an object is expected on the next frame: a Kalman filter of its centre, with constant velocity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_sam2.inference.views.view_tracking import extent_in_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam2.inference.views.view import View

__all__ = ["Motion", "MotionSettings", "Prediction", "predict_motion", "predict_position"]


@dataclass(frozen=True)
class MotionSettings:
    """How the movement of objects is predicted; lengths are fractions of the object's longer side.

    Attributes
    ----------
    num_frames : int
        Latest frames on which the object is visible that are used.
    speed : float
        Standard deviation of the velocity of an object about which nothing is known, per frame.
    acceleration : float
        Standard deviation of the change of velocity, per frame.
    noise : float
        Standard deviation of a measured centre.
    min_offset : float
        Shorter movements are left to tracking: those of slow objects are mostly changes of shape.
    is_predicted : bool
        Whether movements are predicted at all. Only for movies: in z-stacks tracks get worse.
    """

    num_frames: int = 6
    speed: float = 0.3
    acceleration: float = 0.1
    noise: float = 0.08
    min_offset: float = 0.25
    is_predicted: bool = False


class Prediction(NamedTuple):
    """Expected centre (x, y) and its standard deviation, in image pixels."""

    x: float
    y: float
    spread: float


class Motion(NamedTuple):
    """Where an object is expected; centre (x, y), area and longer side of its last mask, in pixels of the image."""

    expected: Prediction
    last_xy: tuple[float, float]
    last_area: float
    side: float

    def offset(self, settings: MotionSettings) -> tuple[int, int]:
        """Expected movement (x, y) since the last mask in whole pixels; zero where it is short."""
        x, y = round(self.expected.x - self.last_xy[0]), round(self.expected.y - self.last_xy[1])
        if not settings.is_predicted or max(abs(x), abs(y)) < settings.min_offset * self.side:
            return 0, 0
        return x, y


def predict_motion(
    frames: Sequence[int],
    masks: Sequence[NDArray[np.bool_]],
    views: Sequence[View],
    frame: int,
    settings: MotionSettings,
) -> Motion:
    """Predict the movement of an object from its masks.

    Parameters
    ----------
    frames : sequence of int
        Frames on which it was visible, in the order of tracking; at least one.
    masks : sequence of numpy.ndarray
        Its low-resolution mask (h, w) on each of them; none is empty.
    views : sequence of View
        The view of each mask, moved along with the stage to ``frame``.
    frame : int
        The frame to predict.
    settings : MotionSettings
        How fast objects move and turn.

    Returns
    -------
    Motion
    """
    extents = [extent for mask, view in zip(masks, views, strict=True) if (extent := extent_in_image(mask, view))]
    last, area = extents[-1], views[-1].width * views[-1].height / masks[-1].size * float(masks[-1].sum())
    expected = predict_position(frames, [(e.x, e.y) for e in extents], frame, last.side, settings)
    return Motion(expected, (last.x, last.y), area, last.side)


def predict_position(
    frames: Sequence[int], centres_xy: Sequence[tuple[float, float]], frame: int, side: float, settings: MotionSettings
) -> Prediction:
    """Predict the centre of an object.

    Parameters
    ----------
    frames : sequence of int
        Frames on which it was visible, in the order of tracking; at least one.
    centres_xy : sequence of (float, float)
        Its centre on each of them.
    frame : int
        The frame to predict, beyond the last one.
    side : float
        Longer side of the object, in image pixels.
    settings : MotionSettings
        How fast objects move and turn.

    Returns
    -------
    Prediction

    References
    ----------
    .. [1] Kalman, A new approach to linear filtering and prediction problems, Journal of Basic Engineering 82 (1960).
       doi:10.1115/1.3662552
    """
    noise, acceleration = (side * settings.noise) ** 2, (side * settings.acceleration) ** 2
    state = np.array([centres_xy[0], (0.0, 0.0)])  # position and velocity; x and y do not depend on each other
    covariance = np.diag([noise, (side * settings.speed) ** 2])
    for before, now, measured in zip(frames, [*frames[1:], frame], [*centres_xy[1:], None], strict=True):
        steps = abs(now - before)
        transition = np.array([[1.0, steps], [0.0, 1.0]])
        state = transition @ state
        turn = np.array([[steps**3 / 3, steps**2 / 2], [steps**2 / 2, steps]]) * acceleration
        covariance = transition @ covariance @ transition.T + turn
        if measured is not None:
            gain = covariance[:, 0] / (covariance[0, 0] + noise)
            state = state + gain[:, None] * (np.array(measured) - state[0])
            covariance = covariance - np.outer(gain, covariance[0])
    (x, y), spread = state[0], float(np.sqrt(covariance[0, 0]))
    return Prediction(float(x), float(y), spread)
