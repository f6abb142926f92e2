"""The errors this package raises on purpose: one base class, each also the builtin a caller would expect. A warning."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "DeviceError",
    "DownloadError",
    "FrameError",
    "NapariSAM2Error",
    "OutputError",
    "PlanesLeftOutWarning",
    "PromptError",
    "TrainingError",
]


class NapariSAM2Error(Exception):
    """Base of every error raised on purpose; its text says what was given, what is allowed and what to do."""


class CheckpointError(NapariSAM2Error, ValueError):
    """A weights file is missing, damaged, or does not fit any known configuration."""


class DownloadError(CheckpointError, OSError):
    """A checkpoint could not be fetched or written; nothing is left under its final name."""


class DeviceError(NapariSAM2Error, RuntimeError):
    """The asked-for device or precision does not exist here, or its memory ran out."""


class FrameError(NapariSAM2Error, ValueError):
    """An image, stack or file cannot be read as frames with the given axes and intensities."""


class OutputError(NapariSAM2Error, OSError):
    """A result could not be written; nothing half-written is left under the final name."""


class PlanesLeftOutWarning(UserWarning):
    """Of an image with time points and planes only some are read, as nothing was said about which."""


class PromptError(NapariSAM2Error, ValueError):
    """A prompt is malformed, lies outside the image, or names an object or frame that does not exist."""


class TrainingError(NapariSAM2Error, ValueError):
    """Training data, configuration or state does not allow training to start or go on."""
