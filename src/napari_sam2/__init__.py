"""SAM 2 for microscopy stacks and movies: click a cell once, get it in every slice.

The names are listed in ``__init__.pyi`` and imported when they are first used, so that importing the package loads
neither torch, napari nor Qt.
"""

import lazy_loader

from napari_sam2._openmp import limit_spinning

limit_spinning()  # before torch is imported

__version__ = "0.1.0"

__getattr__, _dir, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*_names, "__version__"]  # noqa: PLE0604 - all are text


def __dir__() -> list[str]:
    return [*_dir(), "__version__"]
