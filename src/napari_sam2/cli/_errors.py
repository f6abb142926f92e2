"""How a command ends: every error becomes one line on stderr and an exit code.

====  ===========================================================================
code  meaning
====  ===========================================================================
0     everything requested was done
1     unexpected error: ``--debug`` shows where
2     the command line was not understood
3     bad input: frames, prompts, axes, session files or training data
4     a checkpoint is missing, damaged, unknown or could not be downloaded
5     the device or precision is not available, or memory ran out
6     a result could not be written
7     some files of a batch failed; the others are done
130   interrupted with Ctrl-C, SIGTERM or SIGHUP; finished results are kept
====  ===========================================================================
"""

from __future__ import annotations

import errno
import functools
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import typer

from napari_sam2._errors import CheckpointError, DeviceError, FrameError, NapariSAM2Error, OutputError
from napari_sam2.cli._terminal import error_line, say

__all__ = ["INTERRUPTED", "SOME_FAILED", "UNEXPECTED", "exit_code", "one_line_warnings", "reported"]

P = ParamSpec("P")
R = TypeVar("R")

UNEXPECTED = 1
SOME_FAILED = 7
INTERRUPTED = 130
_BAD_INPUT = 3
_CODES: tuple[tuple[type[Exception], int], ...] = ((CheckpointError, 4), (DeviceError, 5), (OutputError, 6))
_BAD_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)


def exit_code(error: NapariSAM2Error) -> int:
    """The exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), _BAD_INPUT)


def reported(command: Callable[P, R], *, debug: bool = False) -> Callable[P, R]:
    """Wrap a command so that its errors are reported in one line.

    Parameters
    ----------
    command : callable
        A function that typer makes a command of; its signature is kept.
    debug : bool, default False
        Print the traceback too.

    Returns
    -------
    callable
        Raises ``typer.Exit`` with the code of the table above.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            _check_users(kwargs)
            return command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            _report("interrupted", debug=debug)
            raise typer.Exit(INTERRUPTED) from None
        except NapariSAM2Error as error:
            _report(f"error: {error_line(error)}", debug=debug)
            raise typer.Exit(exit_code(error)) from None
        except BrokenPipeError:
            raise  # the reader of our output has gone: typer ends quietly
        except MemoryError as error:
            _report(f"error: not enough memory ({error_line(error)}); use a smaller image, tile or region", debug=debug)
            raise typer.Exit(exit_code(DeviceError())) from None
        except Exception as error:  # the last resort: anything else is reported in one line too
            if type(error).__module__.partition(".")[0] in ("click", "typer"):
                raise  # a usage error, which typer words itself
            if isinstance(error, OSError) and error.errno in _BAD_NAMES:
                _report(f"error: {error_line(error)}", debug=debug)
                raise typer.Exit(_BAD_INPUT) from None
            hint = "" if debug else "; run 'napari-sam2 --debug ...' to see where"
            _report(f"error: unexpected {type(error).__name__}: {error_line(error)}{hint}", debug=debug)
            raise typer.Exit(UNEXPECTED) from None

    return wrapped


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Within it, warnings are printed without file and line; deprecations, which concern developers, are not."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,  # noqa: ARG001 - the signature of warnings.showwarning
        lineno: int,  # noqa: ARG001
        file: object = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        if issubclass(category, DeprecationWarning | PendingDeprecationWarning):
            return
        text = error_line(message) if isinstance(message, Warning) else message
        say(f"warning: {text}", err=True)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _check_users(arguments: Mapping[str, object]) -> None:
    """Raise FrameError if a path begins with the home folder of a user that does not exist."""
    for value in arguments.values():
        if isinstance(value, Path):
            try:
                value.expanduser()
            except RuntimeError as error:
                raise FrameError(
                    f"{value} was given: {error}; if the name itself begins with ~, write ./{value}"
                ) from error


def _report(line: str, *, debug: bool) -> None:
    with suppress(OSError):  # reported at the end of the process
        sys.stdout.flush()
    if debug:
        with suppress(OSError):
            traceback.print_exc(file=sys.stderr)
    say(line, err=True)
