"""The released checkpoints: where they come from, where they lie, and how one is fetched whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from napari_sam2._errors import CheckpointError, DownloadError

__all__ = [
    "BUNDLED_FILE",
    "BUNDLED_MODEL",
    "CACHE_VARIABLE",
    "MIRROR_VARIABLE",
    "OFFLINE_VARIABLE",
    "RELEASES",
    "Cancelled",
    "ModelInfo",
    "Progress",
    "Release",
    "cache_folder",
    "download_model",
    "fetch",
    "find_local",
    "list_models",
    "model_hash",
    "release_url",
]

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the bytes that have arrived and the bytes expected (0 if the server does not say)."""
Cancelled = Callable[[], bool]
"""Asked between chunks; True ends the download."""

CACHE_VARIABLE = "NAPARI_SAM2_CACHE"
MIRROR_VARIABLE = "NAPARI_SAM2_MIRROR"
OFFLINE_VARIABLE = "NAPARI_SAM2_OFFLINE_FOLDER"

BUNDLED_MODEL = "sam2_micro"
BUNDLED_FILE = Path(__file__).parents[1] / "bundled" / "sam2_micro.safetensors"
_BUNDLED_PARAMETERS = 4_370_563
_BUNDLED_LICENCE = "BSD-3-Clause"

_HOST = "https://dl.fbaipublicfiles.com/segment_anything_2"
_ATTEMPTS = 3
_CHUNK_BYTES = 1 << 20
_STALE_PART_S = 3600.0  # an unfinished file nobody has written to for so long belongs to a dead process


@dataclass(frozen=True)
class Release:
    """One released checkpoint.

    Attributes
    ----------
    name : str
        Name in ``CONFIGS``.
    url : str
        Where it is published; its last part is the file name.
    sha256 : str
        Of the file, in lower-case hexadecimal digits.
    parameters : int
        Numbers in the state dict.
    size_mb : float
        Of the file, in units of 10^6 bytes, rounded.
    licence : str
        SPDX identifier of the weights' licence.
    """

    name: str
    url: str
    sha256: str
    parameters: int
    size_mb: float
    licence: str = "Apache-2.0"

    @property
    def file_name(self) -> str:
        """Last part of the URL."""
        return urlsplit(self.url).path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model before it is loaded.

    Attributes
    ----------
    name : str
        For ``load_model``.
    parameters : int
        Number of parameters.
    size_mb : float
        Size of the download or file, in units of 10^6 bytes.
    licence : str
        SPDX identifier of the weights' licence.
    is_present : bool
        Whether the file lies on this machine.
    path : Path
        Where it lies, or will lie after the download.
    url : str or None
        Where it comes from, the mirror included; None for the bundled model.
    sha256 : str or None
        Of the released file; None for the bundled model.
    """

    name: str
    parameters: int
    size_mb: float
    licence: str
    is_present: bool
    path: Path
    url: str | None
    sha256: str | None


_ROWS = (  # name, parameters, size in MB, SHA-256
    ("sam2.1_hiera_tiny", 38_962_754, 156, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    ("sam2.1_hiera_small", 46_060_610, 184, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    ("sam2.1_hiera_base_plus", 80_850_434, 324, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    ("sam2.1_hiera_large", 224_446_898, 898, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
    ("sam2_hiera_tiny", 38_946_242, 156, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    ("sam2_hiera_small", 46_044_098, 184, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    ("sam2_hiera_base_plus", 80_833_922, 323, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    ("sam2_hiera_large", 224_430_386, 898, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
)
RELEASES: dict[str, Release] = {
    name: Release(name, f"{_HOST}/{'092824' if '2.1' in name else '072824'}/{name}.pt", sha256, parameters, size_mb)
    for name, parameters, size_mb, sha256 in _ROWS
}


def list_models() -> tuple[ModelInfo, ...]:
    """Every model that ``load_model`` knows by name: the bundled one first.

    Returns
    -------
    tuple of ModelInfo
        Presence is looked up now; no file is read or hashed, nothing is downloaded.
    """
    has_bundled = BUNDLED_FILE.is_file()
    bundled = ModelInfo(
        name=BUNDLED_MODEL,
        parameters=_BUNDLED_PARAMETERS,
        size_mb=round((BUNDLED_FILE.stat().st_size if has_bundled else 2 * _BUNDLED_PARAMETERS) / 1e6, 1),
        licence=_BUNDLED_LICENCE,
        is_present=has_bundled,
        path=BUNDLED_FILE,
        url=None,
        sha256=None,
    )
    return (bundled, *(_describe(release) for release in RELEASES.values()))


def _describe(release: Release) -> ModelInfo:
    present = next((path for path in _candidates(release) if path.is_file()), None)
    return ModelInfo(
        name=release.name,
        parameters=release.parameters,
        size_mb=release.size_mb,
        licence=release.licence,
        is_present=present is not None,
        path=present or cache_folder() / release.file_name,
        url=release_url(release),
        sha256=release.sha256,
    )


def model_hash(path: str | Path) -> str:
    """SHA-256 of a file.

    Parameters
    ----------
    path : str or Path
        Any file.

    Returns
    -------
    str
        64 lower-case hexadecimal digits.

    Raises
    ------
    CheckpointError
        If the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); give the path of a file") from error


def cache_folder() -> Path:
    """Where downloads lie: ``NAPARI_SAM2_CACHE`` if set, else the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-sam2", appauthor=False))


def release_url(release: Release) -> str:
    """Where a release is fetched from: ``NAPARI_SAM2_MIRROR`` with the file name, or its published address."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    return f"{mirror.rstrip('/')}/{release.file_name}" if mirror else release.url


def download_model(
    name: str | Release, *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> Path:
    """Make sure that a released checkpoint lies on this machine.

    Parameters
    ----------
    name : str or Release
        One of the eight released names; or a row of one's own table.
    progress : callable, optional
        Called with (bytes done, bytes expected); begins anew if the connection is lost.
    cancelled : callable, optional
        Asked after each chunk; True ends the download.

    Returns
    -------
    Path
        The verified file; for the bundled model, the file of this installation.

    Raises
    ------
    CheckpointError
        If the name is not known.
    DownloadError
        If the file cannot be fetched, verified or written, or on cancelling. No partial file is left.
    """
    if name == BUNDLED_MODEL:
        return BUNDLED_FILE
    if isinstance(name, Release):
        release = name
    elif name in RELEASES:
        release = RELEASES[name]
    else:
        raise CheckpointError(f"the model {name!r} is not known; known are {', '.join([BUNDLED_MODEL, *RELEASES])}")
    found = find_local(release)
    if found is not None:
        return found
    return fetch(release, progress=progress, cancelled=cancelled)


def find_local(release: Release) -> Path | None:
    """The verified file of a release on this machine, or None if it has to be fetched.

    A file in the cache folder that is not what its name says is deleted.

    Raises
    ------
    DownloadError
        If the offline folder is set and neither it nor the cache holds the right file.
    """
    offline = os.environ.get(OFFLINE_VARIABLE)
    rejected: list[str] = []
    for path in _candidates(release):
        if not path.is_file():
            continue
        found = model_hash(path)
        if found == release.sha256:
            return path
        rejected.append(f"{path} has SHA-256 {found}, not {release.sha256}")
        if path.parent == cache_folder():
            path.unlink(missing_ok=True)
    if offline:
        why = "; ".join(rejected) or f"{release.file_name} is neither there nor in {cache_folder()}"
        raise DownloadError(
            f"{release.name} is not here and {OFFLINE_VARIABLE}={offline} forbids the network: {why}. "
            f"Put the file from {release.url} into that folder, or unset {OFFLINE_VARIABLE}"
        )
    for reason in rejected:
        logger.warning("%s: it was deleted and is fetched again", reason)
    return None


def _candidates(release: Release) -> list[Path]:
    """Where the file of a release may lie, in the order in which it is looked for."""
    offline = os.environ.get(OFFLINE_VARIABLE)
    folders = [Path(offline).expanduser()] if offline else []
    return [folder / release.file_name for folder in (*folders, cache_folder())]


def fetch(release: Release, *, progress: Progress | None = None, cancelled: Cancelled | None = None) -> Path:
    """Download a release into the cache folder, verified, and put it in place in one step.

    The body is written under a name of its own, so that two processes do not disturb each other; a lost
    connection is tried again from the beginning, up to three times.

    Raises
    ------
    DownloadError
        With the address, the cause and what can be done; nothing is left behind.
    """
    url = release_url(release)
    folder = cache_folder()
    path = folder / release.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(folder, release.file_name)
        descriptor, part_name = tempfile.mkstemp(prefix=f"{release.file_name}.", suffix=".part", dir=folder)
        os.close(descriptor)
    except OSError as error:
        raise DownloadError(
            f"{release.name} cannot be written to {folder} ({error.strerror or error}); "
            f"make the folder writable or set {CACHE_VARIABLE} to another"
        ) from error
    part = Path(part_name)
    logger.warning("downloading %s (%.0f MB) from %s to %s", release.name, release.size_mb, url, folder)
    try:
        _fetch_into(part, url, release, _Watcher(release.name, progress, cancelled))
        found = model_hash(part)
        if found != release.sha256:
            raise DownloadError(
                f"what came from {url} is not {release.name}: its SHA-256 is {found}, expected is {release.sha256}. "
                f"It was deleted; try again, check for a proxy that answers in its place, or {_remedy(release)}"
            )
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"{release.name} cannot be written to {path} ({error.strerror or error}); "
            f"free some space, make the folder writable, or set {CACHE_VARIABLE} to another"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


class _CancelledError(Exception):
    """Leaves the downloader when the caller no longer wants the file."""


class _Watcher:
    """Counts bytes for pooch, which takes it for a progress bar."""

    total = 0

    def __init__(self, name: str, progress: Progress | None, cancelled: Cancelled | None) -> None:
        self.name = name
        self.progress = progress
        self.cancelled = cancelled
        self.done = 0
        self.is_complete = False

    def start(self) -> None:
        """Begin an attempt."""
        self.done, self.total, self.is_complete = 0, 0, False
        self._ask()

    def update(self, num_bytes: int) -> None:
        """Note a chunk. pooch counts the last one as a whole."""
        self.done = min(self.done + num_bytes, self.total) if self.total else self.done + num_bytes
        self._ask()
        if self.progress is not None and not self.is_complete:
            self.progress(self.done, self.total)

    def reset(self) -> None:
        """The body is complete: pooch counts it once more, and nobody needs to hear of that."""
        self.is_complete = True

    def close(self) -> None:
        """Nothing to release."""

    def _ask(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise _CancelledError


def _fetch_into(part: Path, url: str, release: Release, watcher: _Watcher) -> None:
    from pooch import HTTPDownloader
    from requests import HTTPError, RequestException, Response
    from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

    responses: list[Response] = []
    remember = {"response": lambda response, **_: responses.append(response)}
    download = HTTPDownloader(progressbar=watcher, chunk_size=_CHUNK_BYTES, hooks=remember)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            watcher.start()
            download(url, str(part), None)
        except _CancelledError as cancel:
            raise DownloadError(f"the download of {release.name} was cancelled; nothing was left behind") from cancel
        except (HTTPError, MissingSchema, InvalidSchema, InvalidURL) as error:
            raise DownloadError(f"{url} cannot be fetched: {_one_line(error)}; {_remedy(release)}") from error
        except RequestException as error:
            if attempt == _ATTEMPTS:
                raise DownloadError(
                    f"{url} could not be fetched in {_ATTEMPTS} attempts: {_one_line(error)}. "
                    f"Check the connection, or {_remedy(release)}"
                ) from error
            logger.warning("attempt %d of %d to fetch %s failed: %s", attempt, _ATTEMPTS, url, _one_line(error))
        else:
            return
        finally:
            for response in responses:  # pooch leaves the connection open when an attempt fails
                response.close()
            responses.clear()


def _remedy(release: Release) -> str:
    return (
        f"fetch {release.url} by other means and put it at {cache_folder() / release.file_name} "
        f"(the folder follows {CACHE_VARIABLE}), or into a folder named by {OFFLINE_VARIABLE}; "
        f"{MIRROR_VARIABLE} may name a mirror's address"
    )


def _one_line(error: BaseException) -> str:
    """What went wrong at the bottom: the outer layers of an HTTP error only wrap it."""
    while error.__context__ is not None:
        error = error.__context__
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _remove_stale_parts(folder: Path, file_name: str) -> None:
    for part in folder.glob(f"{file_name}.*.part"):
        try:
            if time.time() - part.stat().st_mtime > _STALE_PART_S:
                part.unlink()
        except FileNotFoundError:  # another process was faster
            continue
