"""The ``napari-sam2`` command: one file per command, errors in one line, exit codes as in ``_errors``.

Each command is a function with typer annotations in a module of the same name, which may define a class for it,
``COMMAND_CLASS``, or a mapping of commands below it, ``SUBCOMMANDS``. Modules whose names begin with an underscore are
not commands. Modules that take long to import (torch, napari_sam2.inference) are imported inside the functions, so that
``--help`` answers quickly.
"""

from __future__ import annotations

import logging
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

from napari_sam2.cli._errors import INTERRUPTED, one_line_warnings, reported
from napari_sam2.cli._stopping import termination_interrupts
from napari_sam2.cli._terminal import end_output, say

__all__ = ["build_app", "main"]

_EPILOG = (
    "Exit codes: 0 done, 1 unexpected error, 2 command line not understood, 3 bad input, 4 checkpoint or download, "
    "5 device or memory, 6 output, 7 some files of a batch failed, 130 interrupted (Ctrl-C, SIGTERM or SIGHUP)."
)
_DEBUG = "--debug"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process with its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; default: those of the process. ``--debug`` may be anywhere before ``--``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    debug = _DEBUG in given[:end]
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(message)s", stream=sys.stderr)
    for noisy in ("urllib3", "PIL", "numcodecs", "asyncio", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # it logs every odd tag; what keeps a file from being read is an error of this package
    logging.getLogger("tifffile").setLevel(logging.DEBUG if debug else logging.CRITICAL)
    with one_line_warnings(), termination_interrupts():
        try:
            app = build_app(debug=debug)
        except KeyboardInterrupt:  # while the commands are imported
            say("interrupted", err=True)
            sys.exit(INTERRUPTED)
        sys.exit(end_output(_run(app, [a for a in given[:end] if a != _DEBUG] + given[end:])))


def _run(app: typer.Typer, arguments: list[str]) -> int:
    """The exit code."""
    try:
        app(args=arguments, prog_name="napari-sam2")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except OSError as error:  # typer could not print a help text
        say(f"error: standard output cannot be written ({error.strerror or error})", err=True)
        return 6
    return 0


def build_app(*, debug: bool = False) -> typer.Typer:
    """The application with every command of this folder.

    Parameters
    ----------
    debug : bool, default False
        Errors show their traceback.
    """
    app = typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        epilog=_EPILOG,
        help="SAM 2 for microscopy: segment images, and track objects through stacks and movies.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_before_any_command)
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            home = import_module(f"{__name__}.{module.name}")
            command = getattr(home, module.name)
            if hasattr(home, "SUBCOMMANDS"):
                app.add_typer(_group(command, home.SUBCOMMANDS, debug=debug), name=module.name)
                continue
            app.command(module.name, cls=getattr(home, "COMMAND_CLASS", None))(reported(command, debug=debug))
    return app


def _group(about: Callable[[], None], commands: Mapping[str, Callable[..., None]], *, debug: bool) -> typer.Typer:
    """Commands under a common name, described by the docstring of a function."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=about.__doc__)
    for name, command in commands.items():
        group.command(name)(reported(command, debug=debug))
    return group


def _print_version(is_given: bool) -> None:
    if is_given:
        say(f"napari-sam2 {version('napari-sam2')}")
        raise typer.Exit


def _before_any_command(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option(_DEBUG, help="Show the traceback of an error.")] = False,
) -> None:
    """SAM 2 for microscopy: segment images, and track objects through stacks and movies."""
