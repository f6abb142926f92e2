"""Released checkpoints: where they come from, where they are stored, and how one is downloaded."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from napari_sam2._arguments import checked
from napari_sam2._errors import CheckpointError, DownloadError
from napari_sam2._files import partial_path, put_in_place, remove_partial
from napari_sam2._messages import one_line, shown

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
"""Called with the number of bytes received and expected (0 if the server does not tell)."""
Cancelled = Callable[[], bool]
"""Called between chunks; True ends the download."""

CACHE_VARIABLE = "NAPARI_SAM2_CACHE"
MIRROR_VARIABLE = "NAPARI_SAM2_MIRROR"
OFFLINE_VARIABLE = "NAPARI_SAM2_OFFLINE_FOLDER"

BUNDLED_MODEL = "sam2_micro"
BUNDLED_FILE = Path(__file__).parents[1] / "bundled" / "sam2_micro.safetensors"
_BUNDLED_PARAMETERS = 5_913_361
_BUNDLED_LICENCE = "BSD-3-Clause"

_HOST = "https://dl.fbaipublicfiles.com/segment_anything_2"
_ATTEMPTS = 3
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Release:
    """One released checkpoint.

    Attributes
    ----------
    name : str
        Name of its configuration in ``CONFIGS``.
    url : str
        Address at which it is published; the last part is the file name.
    sha256 : str
        Hash of the file, in lower-case hexadecimal digits.
    parameters : int
        Number of parameters.
    size_mb : float
        Size of the file in units of 10^6 bytes, rounded.
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
    """Description of a model, without loading it.

    Attributes
    ----------
    name : str
        Name for ``load_model``.
    parameters : int
        Number of parameters.
    size_mb : float
        Size of the download or file, in units of 10^6 bytes.
    licence : str
        SPDX identifier of the weights' licence.
    is_present : bool
        Whether the file is on this computer.
    path : Path
        Where the file is, or will be after the download.
    url : str or None
        Address it is downloaded from, which may be a mirror; None for the bundled model.
    sha256 : str or None
        Hash of the released file; None for the bundled model.
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
    """List every model that ``load_model`` knows by name, the bundled one first.

    Returns
    -------
    tuple of ModelInfo
        Whether each is present is checked now; nothing is read, hashed or downloaded.
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
    """Compute the SHA-256 of a file.

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
    """Folder of downloads: ``NAPARI_SAM2_CACHE`` if set, else the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-sam2", appauthor=False))


def release_url(release: Release) -> str:
    """Address to download a release from: ``NAPARI_SAM2_MIRROR`` with the file name, or where it is published."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    return f"{mirror.rstrip('/')}/{release.file_name}" if mirror else release.url


@checked(CheckpointError)
def download_model(
    name: str | Release, *, progress: Progress | None = None, cancelled: Cancelled | None = None
) -> Path:
    """Download a released checkpoint unless it is on this computer.

    Parameters
    ----------
    name : str or Release
        One of the eight released names, or a `Release` of your own.
    progress : callable, optional
        Called with (bytes received, bytes expected); restarts from 0 if the connection is lost.
    cancelled : callable, optional
        Called after each chunk; True ends the download.

    Returns
    -------
    Path
        The verified file; for the bundled model, the file of this installation.

    Raises
    ------
    CheckpointError
        If the name is not known.
    DownloadError
        If the file cannot be downloaded, verified or written, or the download is cancelled. No partial file is left.
    """
    if name == BUNDLED_MODEL:
        return BUNDLED_FILE
    if isinstance(name, Release):
        release = name
    elif isinstance(name, str) and name in RELEASES:  # type: ignore[redundant-expr]  # not all callers are typed
        release = RELEASES[name]
    else:
        raise CheckpointError(
            f"the model {shown(name)} is unknown; available are {', '.join([BUNDLED_MODEL, *RELEASES])}"
        )
    found = find_local(release)
    if found is not None:
        return found
    return fetch(release, progress=progress, cancelled=cancelled)


def find_local(release: Release) -> Path | None:
    """Find the verified file of a release on this computer; None if it has to be downloaded.

    A file in the cache folder with another hash than its name promises is deleted.

    Raises
    ------
    DownloadError
        If the offline folder is set and neither it nor the cache folder contains the right file.
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
            f"{release.name} is not on this computer, and {OFFLINE_VARIABLE}={offline} forbids downloads: {why}. "
            f"Put the file from {release.url} into that folder, or unset {OFFLINE_VARIABLE}"
        )
    for reason in rejected:
        logger.warning("%s: it was deleted and is downloaded again", reason)
    return None


def _candidates(release: Release) -> list[Path]:
    """Places where the file of a release may be, in order of preference."""
    offline = os.environ.get(OFFLINE_VARIABLE)
    folders = [Path(offline).expanduser()] if offline else []
    return [folder / release.file_name for folder in (*folders, cache_folder())]


def fetch(release: Release, *, progress: Progress | None = None, cancelled: Cancelled | None = None) -> Path:
    """Download a release into the cache folder, verify it, and give it its name in one step.

    pooch downloads into a folder that belongs to this process, so that two processes do not disturb each other, and
    starts again when a connection fails or the file is not the expected one, three attempts in all.

    Raises
    ------
    DownloadError
        With the address, the cause and what can be done; nothing is left behind.
    """
    url = release_url(release)
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url} cannot be downloaded: only http and https addresses can; {_remedy(release)}")
    path = cache_folder() / release.file_name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = partial_path(path)
        part.mkdir()
    except OSError as error:
        raise DownloadError(
            f"{release.name} cannot be written to {path.parent} ({error.strerror or error}); "
            f"make the folder writable or set {CACHE_VARIABLE} to another"
        ) from error
    logger.warning("downloading %s (%.0f MB) from %s to %s", release.name, release.size_mb, url, path.parent)
    try:
        put_in_place(_fetch_into(part, url, release, _Watcher(progress, cancelled)), path)
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise DownloadError(
            f"{release.name} cannot be written to {path} ({error.strerror or error}); "
            f"free some space, make the folder writable, or set {CACHE_VARIABLE} to another"
        ) from error
    finally:
        remove_partial(part)
    return path


class _CancelledError(Exception):
    """Leaves pooch when the caller no longer wants the file."""


class _Watcher:
    """Counts bytes, as the progress bar of pooch's downloader."""

    total = 0

    def __init__(self, progress: Progress | None, cancelled: Cancelled | None) -> None:
        self.progress = progress
        self.cancelled = cancelled
        self.done = 0
        self.is_complete = False

    def start(self) -> None:
        """Begin an attempt."""
        self.done, self.total, self.is_complete = 0, 0, False
        self._check_cancelled()

    def update(self, num_bytes: int) -> None:
        """Count a chunk; pooch counts the last one as a full one."""
        self.done = min(self.done + num_bytes, self.total) if self.total else self.done + num_bytes
        self._check_cancelled()
        if self.progress is not None and not self.is_complete:
            self.progress(self.done, self.total)

    def reset(self) -> None:
        """The body is complete; pooch counts all of it once more, which is not reported."""
        self.is_complete = True

    def close(self) -> None:
        """Nothing to release."""

    def _check_cancelled(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise _CancelledError


def _fetch_into(folder: Path, url: str, release: Release, watcher: _Watcher) -> Path:
    """The verified file, in ``folder``."""
    import pooch
    from requests import RequestException, Response

    responses: list[Response] = []
    remember = {"response": lambda response, **_: responses.append(response)}
    http = pooch.HTTPDownloader(progressbar=watcher, chunk_size=_CHUNK_BYTES, hooks=remember)

    def download(url: str, output_file: str, store: object) -> None:
        watcher.start()
        try:
            http(url, output_file, store)
        except RequestException as error:
            logger.warning("an attempt to download %s failed: %s", url, _innermost(error))
            raise
        finally:
            for response in responses:  # pooch leaves the connection open when an attempt fails
                response.close()
            responses.clear()

    store = pooch.create(
        path=folder,
        base_url="",
        registry={release.file_name: f"sha256:{release.sha256}"},
        urls={release.file_name: url},
        retry_if_failed=_ATTEMPTS - 1,
    )
    try:
        with _at_level(pooch.get_logger(), logging.WARNING):  # it announces the temporary folder
            return Path(store.fetch(release.file_name, downloader=download))
    except _CancelledError as cancel:
        raise DownloadError(f"the download of {release.name} was cancelled; nothing was left behind") from cancel
    except RequestException as error:
        raise DownloadError(
            f"{url} could not be downloaded in {_ATTEMPTS} attempts: {_innermost(error)}. "
            f"Check the connection, or {_remedy(release)}"
        ) from error
    except ValueError as error:
        raise DownloadError(
            f"the file from {url} is not {release.name}: {_innermost(error)} "
            f"Try again, check whether a proxy changes the file, or {_remedy(release)}"
        ) from error


@contextmanager
def _at_level(log: logging.Logger, level: int) -> Iterator[None]:
    before = log.level
    log.setLevel(level)
    try:
        yield
    finally:
        log.setLevel(before)


def _remedy(release: Release) -> str:
    return (
        f"download {release.url} in another way and save it as {cache_folder() / release.file_name} "
        f"(set {CACHE_VARIABLE} for another folder), or into a folder named by {OFFLINE_VARIABLE}; "
        f"{MIRROR_VARIABLE} may name a mirror's address"
    )


def _innermost(error: BaseException) -> str:
    """The innermost cause: the outer layers of an HTTP error only wrap it."""
    while error.__context__ is not None:
        error = error.__context__
    return one_line(error, longest=300)
