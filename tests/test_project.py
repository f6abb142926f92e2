"""What the project's own files promise each other: the README's commands, what CI runs, what a release contains."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib

import pytest

from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def readme_commands() -> list[str]:
    """The lines of the README's first two shell blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [block.strip() for block in blocks[:2]]


def test_readme_begins_with_one_command_to_run_and_one_to_test():
    run, test = readme_commands()
    assert "\n" not in run
    assert run.endswith("napari-sam2 demo")
    assert "\n" not in test
    assert test.endswith("pytest")


def test_ci_reads_its_test_command_from_the_readme():
    shown = subprocess.run(
        ["bash", str(ROOT / ".ci" / "run"), "--show"], capture_output=True, text=True, check=True, timeout=20
    )
    assert shown.stdout.strip() == readme_commands()[1]


@pytest.mark.parametrize("command", readme_commands(), ids=["run", "test"])
def test_readme_commands_hold_torch_to_the_tested_release(command):
    assert "-c constraints.txt" in command
    assert re.search(r"^torch==\d+\.\d+\.\d+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_no_qt_binding_is_installed_unless_asked_for():
    bindings = re.compile(r"^(pyqt|pyside|napari\[)", re.IGNORECASE)
    assert not [name for name in PROJECT["dependencies"] if bindings.match(name)]
    assert any(bindings.match(name) for name in PROJECT["optional-dependencies"]["gui"])


def imported_packages():
    """Top-level packages that the modules of src import."""
    packages = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                packages |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                packages.add(str(node.module).partition(".")[0])
    return packages - set(sys.stdlib_module_names) - {"napari_sam2"}


def test_declared_dependencies_are_the_imported_ones():
    distributions = {
        "PIL": "pillow", "bioio_base": "bioio-base", "ctc_metrics": "py-ctcmetrics", "geff_spec": "geff-spec",
        "skimage": "scikit-image", "yaml": "pyyaml",
    }  # fmt: skip
    imported = {distributions.get(name, name.replace("lightning_", "lightning-")) for name in imported_packages()}
    extras = PROJECT["optional-dependencies"]
    lists = (
        PROJECT["dependencies"],
        *(extras[name] for name in ("train", "formats", "czi", "tracks", "metrics", "cluster")),
    )
    declared = {re.split(r"[\[<>=]", name)[0] for names in lists for name in names}
    assert imported - declared == set()
    # by bioio and tifffile; by distributed, and as users name it in a file
    found_by_others = {"bioio-dv", "bioio-imageio", "bioio-nd2", "imagecodecs", "bokeh", "dask-jobqueue"}
    assert declared - imported - found_by_others == set()


def test_docs_describe_every_extra():
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(PROJECT["optional-dependencies"])


def test_tests_mirror_the_rooms_of_the_package():
    source = ROOT / "src/napari_sam2"
    folders = [path.parent.relative_to(source).parts for path in source.rglob("__init__.py")]
    rooms = [ROOT.joinpath("tests", *(part.removeprefix("_") for part in parts)) for parts in folders if parts]
    without = [
        r.name for r in rooms if not list(r.rglob("test_*.py")) and not r.with_name(f"test_{r.name}.py").exists()
    ]
    assert without == []


def test_picture_of_the_readme_exists():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures
    assert [p for p in pictures if not p.startswith("https://") and not (ROOT / p).is_file()] == []


def test_citation_is_that_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    date = re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)
    assert version is not None
    assert date is not None
    assert f"## [{version[1]}] - {date[1]}" in changelog
    assert f'__version__ = "{version[1]}"' in (ROOT / "src/napari_sam2/__init__.py").read_text(encoding="utf-8")


def test_changelog_describes_this_version_by_kind():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"', (ROOT / "src/napari_sam2/__init__.py").read_text(), re.MULTILINE)
    assert version is not None
    section = re.search(rf"^## \[{re.escape(version[1])}\] - \d{{4}}-\d\d-\d\d\n(.*)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert re.findall(r"^### (\w+)$", section[1].split("\n## ")[0], re.MULTILINE) == ["Added", "Changed", "Fixed"]
