"""Text for the terminal: safe to print for any names of files and objects, and errors when it cannot be."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress

import typer

from napari_sam2._errors import OutputError
from napari_sam2._messages import in_shell_words

__all__ = ["end_output", "error_line", "print_table", "printable", "say"]


def say(text: object = "", *, err: bool = False) -> None:
    """Print lines to standard output, or to standard error.

    Parameters
    ----------
    text : object
        Printed as `printable`, line by line.
    err : bool, default False
        To standard error, where a failure is ignored: there is no place left to report it.

    Raises
    ------
    OutputError
        If standard output cannot be written, such as to a full disk.
    """
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    shown = "\n".join(printable(line) for line in str(text).split("\n"))
    try:
        typer.echo(shown.encode(encoding, "backslashreplace").decode(encoding), err=err)
    except BrokenPipeError:
        raise  # the reader has gone: typer ends quietly
    except OSError as error:
        if not err:
            raise _not_printed(error) from error


def printable(text: str) -> str:
    """The text with control characters as escape sequences: names in files must not control the terminal."""
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else _escaped(c) for c in text)


def error_line(error: BaseException) -> str:
    """The message of an error or warning on one line, in the words of the shell."""
    return " ".join(in_shell_words(error).split()) or type(error).__name__


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, aligned to the right."""
    lines = [tuple(header), *(tuple(printable(text) for text in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        say("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def end_output(code: int) -> int:
    """Flush standard output at the end of the process; the exit code, which is 6 if that fails."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return code
    except OSError as error:
        if code == 0:
            say(f"error: {_not_printed(error)}", err=True)
        with suppress(OSError, ValueError):  # Python flushes again as it ends, and would report the same once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or 6
    return code


def _not_printed(error: OSError) -> OutputError:
    return OutputError(f"standard output cannot be written ({error.strerror or error}); free space, or print elsewhere")


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
