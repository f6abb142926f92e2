"""What importing loads, and that everything headless works where no Qt binding can be imported."""

from __future__ import annotations

import importlib
import subprocess
import sys

import grimp
import pytest

import napari_sam2

QT = ("PyQt5", "PyQt6", "PySide2", "PySide6", "qtpy", "superqt", "magicgui")


def loaded_after(code: str) -> set[str]:
    """Top-level packages loaded in a fresh process after running ``code``."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        pytest.param("import napari_sam2", {"torch", "numpy", "napari", "typer", *QT}, id="package"),
        pytest.param("import napari_sam2; napari_sam2.Prompt", {"torch", "napari", *QT}, id="prompt"),
        pytest.param("import napari_sam2; napari_sam2.list_models()", {"torch", "napari", "pooch", *QT}, id="models"),
        pytest.param("import napari_sam2.cli as c; c.build_app()", {"torch", "napari", "skimage", *QT}, id="cli"),
        pytest.param("import napari_sam2._qt.main_widget", {"torch", "zarr", "numcodecs"}, id="dock"),
    ],
)
def test_import_loads_nothing_heavy(code: str, absent: set[str]) -> None:
    assert loaded_after(code) & absent == set()


def test_tracking_imports_nothing_on_the_way() -> None:
    """sympy, which some functions of torch import when first called, takes a second in which no window moves."""
    code = """
import numpy as np
from napari_sam2 import SAM2VideoSegmenter
segmenter = SAM2VideoSegmenter()
segmenter.set_video(np.random.default_rng(0).integers(0, 255, (7, 64, 64)).astype(np.uint8))
segmenter.add_clicks(0, [(20, 20)])
segmenter.track_objects()
"""
    assert loaded_after(code) & {"sympy", "matplotlib", "pandas", *QT} == set()


def test_headless_api_works_where_qt_and_napari_cannot_be_imported() -> None:
    blocker = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {(*QT, "napari")!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
import pkgutil, importlib
import napari_sam2
for name in napari_sam2.__all__:
    assert getattr(napari_sam2, name) is not None, name
for module in pkgutil.walk_packages(napari_sam2.__path__, "napari_sam2."):
    if module.name.split(".")[1] not in ("_qt", "_viewer"):
        importlib.import_module(module.name)
"""
    assert not loaded_after(blocker) & {"napari", *QT}


def test_network_loads_no_numpy_of_its_own() -> None:
    import napari_sam2.network

    for module in ("attention", "config", "features", "hiera", "layers", "mask_decoder", "sam2"):
        assert "np" not in vars(importlib.import_module(f"{napari_sam2.network.__name__}.{module}"))


@pytest.mark.parametrize("name", napari_sam2.__all__)
def test_public_name_resolves_and_is_listed(name: str) -> None:
    value = getattr(napari_sam2, name)
    assert value is not None
    assert name in dir(napari_sam2)
    if hasattr(value, "__name__"):
        assert value.__name__ == name
        assert value.__doc__


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for type checkers count: whoever reads a module has to read what they name, too."""
    graph = grimp.build_graph("napari_sam2", exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    in_circles = {module for module in imports if module in _reached_from(module, imports)}
    assert in_circles == set()


def _reached_from(module: str, imports: dict[str, set[str]]) -> set[str]:
    """All modules that a module imports, directly or through others."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        new = imports[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="SAM3"):
        napari_sam2.SAM3  # noqa: B018
    with pytest.raises(ImportError):
        exec("from napari_sam2 import SAM3")


def test_version_is_that_of_the_installation() -> None:
    from importlib.metadata import version

    assert napari_sam2.__version__ == version("napari-sam2")
