"""``napari-sam2 run --on``: the prompts of a session for many other files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam2._errors import CheckpointError, DeviceError, PromptError
from napari_sam2._files import expand
from napari_sam2.cli._option_groups import ModelOptions

if TYPE_CHECKING:
    from napari_sam2.cli._option_groups import ComputeOptions

__all__ = ["OtherFiles"]

_PLACES, _EVERYTHING = "same", "automatic"


@dataclass(frozen=True)
class OtherFiles:
    """Other files to apply a session to."""

    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="FOLDER|GLOB",
            help="Apply the session to these files instead, in a batch; -o is the folder of the results. Repeatable.",
        ),
    ] = None
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            metavar="same|automatic",
            help="With --on: 'same': its prompts at the same places of each file, tracked through stacks; 'automatic': "
            "everything in each file, with the model of the session.",
        ),
    ] = _PLACES
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="With --on: worker processes on this computer.")
    ] = None
    restart: Annotated[bool, typer.Option("--restart", help="With --on: process finished files again.")] = False

    def check_left_out(self) -> None:
        """Raise PromptError if an option of a batch was given without ``--on``."""
        given = {"--rule": self.rule != _PLACES, "--workers": self.workers is not None, "--restart": self.restart}
        for option, is_given in given.items():
            if is_given:
                raise PromptError(f"{option} requires --on FILES; give both, or leave it out")

    def run(
        self,
        session: Path,
        folder: Path,
        model: str | None,
        device: str,
        dtype: str,
        elsewhere: ComputeOptions,
        *,
        quiet: bool,
    ) -> None:
        """Run the batch.

        Raises
        ------
        PromptError
            If the rule is none of the two, or the session has no prompts that can be used on other files.
        DeviceError
            If a server is to compute: a batch has workers of its own.
        SessionFileError, OutputError, FrameError
            As for ``open_document`` and ``run_batch``.
        """
        if self.rule not in (_PLACES, _EVERYTHING):
            raise PromptError(f"--rule {self.rule} was given; expected {_PLACES} or {_EVERYTHING}")
        if elsewhere.address("auto") is not None:
            raise DeviceError(
                "--compute and --on cannot be combined; 'napari-sam2 batch track --scheduler ADDRESS' takes the list "
                "that --on writes"
            )
        from napari_sam2.batch.jobs import AutoJob, TrackJob
        from napari_sam2.batch.session_prompts import list_with_prompts, usable_prompts
        from napari_sam2.cli.batch import Files, Work, run_job
        from napari_sam2.frames.geometry import StackGeometry
        from napari_sam2.session.files.database import read_content, read_header

        header = read_header(session)
        if model is None and header.model.is_network:
            raise CheckpointError(
                f"{session} was made with a network that has no file; give the file of such weights, with --model"
            )
        network = ModelOptions(header.model.name if model is None else model, device, dtype)
        files, work = Files(), Work(workers=self.workers, restart=self.restart, quiet=quiet)
        inputs = self.on or []
        if self.rule == _EVERYTHING:
            run_job(AutoJob(), inputs, folder, network, files, work)
            return
        image = header.image
        content = read_content(session, StackGeometry(image.shape, image.frame_axis))
        prompts = usable_prompts({key: entry.prompt for key, entry in content.prompts.items()}, len(image.shape))
        run_job(TrackJob(), [list_with_prompts(prompts, inputs, None, expand(folder))], folder, network, files, work)
