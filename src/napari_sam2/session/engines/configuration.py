"""What is remembered about servers between sessions: the address that was used last, and the certificates."""

from __future__ import annotations

import os
from pathlib import Path

from napari_sam2._errors import OutputError
from napari_sam2._files import write_whole

__all__ = ["FOLDER_VARIABLE", "configuration_folder", "remember_server", "remembered_server"]

FOLDER_VARIABLE = "NAPARI_SAM2_CONFIG"
_FILE = "server.txt"


def configuration_folder() -> Path:
    """``NAPARI_SAM2_CONFIG`` if set, else the folder for configuration that the system has for this user."""
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser()
    import platformdirs

    return platformdirs.user_config_path("napari-sam2", appauthor=False)


def remembered_server() -> str | None:
    """The address that was remembered; None: this computer."""
    try:
        text = (configuration_folder() / _FILE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text or None


def remember_server(address: str | None) -> None:
    """Remember an address, or with None this computer; raises OutputError if that is not possible."""
    folder = configuration_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be created ({error.strerror or error}); free space there") from error
    write_whole(folder / _FILE, lambda part: part.write_text(address or "", encoding="utf-8"))
