"""What labels of two, three and four dimensions have in common, wherever they are kept, and views of one as another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LabelImage", "LabelStack", "LabelVolumes", "ReindexedLabels", "stack_as_volumes", "time_point"]

Index = TypeVar("Index", contravariant=True)


class LabelImage(Protocol):
    """(H, W) labels, read and written in parts: a numpy or zarr array."""

    def __getitem__(self, part: tuple[slice, slice], /) -> NDArray[np.int32]: ...

    def __setitem__(self, part: tuple[slice, slice], labels: NDArray[np.int32], /) -> None: ...


class LabelStack(Protocol):
    """(T, H, W) labels, read and written frame by frame: a numpy or zarr array, or a `LabelWriter`."""

    def __getitem__(self, frame: int, /) -> Any: ...

    def __setitem__(self, frame: int, labels: NDArray[np.int32], /) -> None: ...


class LabelVolumes(Protocol):
    """(T, Z, Y, X) labels, read and written plane by plane: a numpy or zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, Z, Y, X)."""

    def __getitem__(self, place: tuple[int, int], /) -> NDArray[np.int32]: ...

    def __setitem__(self, place: tuple[int, int], labels: NDArray[np.int32], /) -> None: ...


class ReindexedLabels(Generic[Index]):
    """Planes of labels that are kept under other indices, read and written where they are.

    Parameters
    ----------
    labels : indexable
        Where the planes are kept.
    shape : tuple of int
        Shape seen from outside.
    index_of : callable
        From an index into this view to the index into ``labels``.
    """

    def __init__(self, labels: Any, shape: tuple[int, ...], index_of: Callable[[Index], Any]) -> None:
        self.shape = shape
        self._labels, self._index_of = labels, index_of

    def __getitem__(self, place: Index, /) -> NDArray[np.int32]:
        return np.asarray(self._labels[self._index_of(place)])

    def __setitem__(self, place: Index, labels: NDArray[np.int32], /) -> None:
        self._labels[self._index_of(place)] = labels


def time_point(labels: LabelVolumes, time: int) -> ReindexedLabels[int]:
    """The (Z, Y, X) labels of one time point of (T, Z, Y, X) labels."""
    return ReindexedLabels(labels, tuple(labels.shape[1:]), lambda z: (time, z))


def stack_as_volumes(
    labels: LabelStack, shape: tuple[int, int, int], num_slices: int
) -> ReindexedLabels[tuple[int, int]]:
    """(T, Z, Y, X) labels of a stack of T * Z planes, in which the slices of one time point follow each other.

    Parameters
    ----------
    labels : LabelStack
        The planes.
    shape : tuple of int
        (T * Z, Y, X).
    num_slices : int
        Z.
    """
    return ReindexedLabels(
        labels, (shape[0] // num_slices, num_slices, *shape[1:]), lambda place: place[0] * num_slices + place[1]
    )
