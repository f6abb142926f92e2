"""Errors and warnings of this package: one base class, each error also derived from the matching built-in one."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

__all__ = [
    "CheckpointError",
    "DeviceError",
    "DiskFullError",
    "DownloadError",
    "FrameError",
    "NapariSAM2Error",
    "OutputError",
    "PlanesLeftOutWarning",
    "PromptError",
    "SessionFileError",
    "TrainingError",
    "warn_caller",
]


class NapariSAM2Error(Exception):
    """Base of all errors of this package; the message says what was given, what is allowed and what to do."""


class CheckpointError(NapariSAM2Error, ValueError):
    """A weights file is missing, damaged, or does not match any known configuration."""


class DownloadError(CheckpointError, OSError):
    """A checkpoint could not be downloaded or written; no incomplete file is left under its name."""


class DeviceError(NapariSAM2Error, RuntimeError):
    """The requested device or precision is not available, or the device ran out of memory."""


class FrameError(NapariSAM2Error, ValueError):
    """An image, stack or file cannot be read as frames with the given axes and intensities."""


class OutputError(NapariSAM2Error, OSError):
    """A result could not be written; no incomplete file is left under its name."""


class DiskFullError(OutputError):
    """A result could not be written as the disk, or the user's quota, is full."""


class PlanesLeftOutWarning(UserWarning):
    """Only one time point (or plane) of an image with both axes is read, because none was chosen."""


class PromptError(NapariSAM2Error, ValueError):
    """A prompt is malformed, lies outside the image, or names an object or frame that does not exist."""


class SessionFileError(NapariSAM2Error, ValueError):
    """A session file is missing, damaged, of another version, or something else than a session."""


class TrainingError(NapariSAM2Error, ValueError):
    """Training cannot start or continue with the given data, configuration or saved state."""


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the place, outside of this package, that called it, however many calls lie between."""
    package = str(Path(__file__).parent)
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
