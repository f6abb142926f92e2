"""How a command ends: every error becomes one line on stderr and an exit code.

====  ===========================================================================
code  meaning
====  ===========================================================================
0     everything asked for was done
1     unexpected error: ``--debug`` shows where
2     the command line was not understood
3     bad input: frames, prompts, axes or training data
4     a checkpoint is missing, damaged, not known or could not be downloaded
5     the device or precision is not to be had, or its memory ran out
6     a result could not be written
130   interrupted with Ctrl-C or SIGTERM; what was finished is kept
====  ===========================================================================
"""

from __future__ import annotations

import functools
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import typer

from napari_sam2._errors import CheckpointError, DeviceError, NapariSAM2Error, OutputError

__all__ = ["INTERRUPTED", "UNEXPECTED", "exit_code", "one_line_warnings", "reported"]

P = ParamSpec("P")
R = TypeVar("R")

UNEXPECTED = 1
INTERRUPTED = 130
_BAD_INPUT = 3
_CODES: tuple[tuple[type[Exception], int], ...] = ((CheckpointError, 4), (DeviceError, 5), (OutputError, 6))


def exit_code(error: NapariSAM2Error) -> int:
    """The exit code that stands for an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), _BAD_INPUT)


def reported(command: Callable[P, R], *, debug: bool = False) -> Callable[P, R]:
    """Wrap a command so that its errors are said in one line.

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
            return command(*args, **kwargs)
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            _say("interrupted", debug=debug)
            raise typer.Exit(INTERRUPTED) from None
        except NapariSAM2Error as error:
            _say(f"error: {_one_line(error)}", debug=debug)
            raise typer.Exit(exit_code(error)) from None
        except BrokenPipeError:
            raise  # the reader of our output has gone: typer ends quietly
        except Exception as error:  # the outermost edge: whatever else went wrong is said in one line too
            if type(error).__module__.partition(".")[0] in ("click", "typer"):
                raise  # a usage error, which typer words itself
            hint = "" if debug else "; run 'napari-sam2 --debug ...' to see where"
            _say(f"error: unexpected {type(error).__name__}: {_one_line(error)}{hint}", debug=debug)
            raise typer.Exit(UNEXPECTED) from None

    return wrapped


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Within it, warnings are said without file and line."""

    def show(
        message: Warning | str,
        category: type[Warning],  # noqa: ARG001 - the signature of warnings.showwarning
        filename: str,  # noqa: ARG001
        lineno: int,  # noqa: ARG001
        file: object = None,  # noqa: ARG001
        line: str | None = None,  # noqa: ARG001
    ) -> None:
        typer.echo(f"warning: {' '.join(str(message).split())}", err=True)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _say(line: str, *, debug: bool) -> None:
    sys.stdout.flush()
    if debug:
        traceback.print_exc(file=sys.stderr)
    typer.echo(line, err=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
