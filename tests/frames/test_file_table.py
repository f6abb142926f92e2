"""The page of files that open says what opens."""

from __future__ import annotations

import subprocess
import sys

import pytest

from places import ROOT

SCRIPT = ROOT / "docs" / "make_file_table.py"


@pytest.mark.skipif(not SCRIPT.is_file(), reason="the docs are not here")
def test_page_of_files_is_what_its_script_writes():
    found = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr or "run python docs/make_file_table.py"
