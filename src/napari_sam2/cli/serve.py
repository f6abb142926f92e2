"""``napari-sam2 serve``: compute for sessions on other computers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from napari_sam2._dask import require_dask
from napari_sam2._errors import DeviceError
from napari_sam2.cli._options import DeviceOption, ModelOption
from napari_sam2.cli._stopping import StopRequest
from napari_sam2.cli._terminal import say

__all__ = ["serve"]

_POLL_S = 0.2


def serve(
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Address to listen on; 0.0.0.0: all networks of this computer."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", help="Port to listen on; 0: any free one.")] = 8786,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            help="Sessions served at the same time [default: one for each GPU, else one].",
        ),
    ] = None,
    model: ModelOption = "sam2_micro",
    device: DeviceOption = "auto",
    certificates: Annotated[
        Path | None,
        typer.Option(
            "--certificates", metavar="FOLDER", help="Certificates as made by --new-certificates; encrypts with TLS."
        ),
    ] = None,
    new_certificates: Annotated[
        Path | None,
        typer.Option(
            "--new-certificates",
            metavar="FOLDER",
            help="Make certificates in a new folder, and use them. Copy FOLDER/client to the computers of the users.",
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Allow other computers without encryption: anyone who connects can run code here."
        ),
    ] = False,
    join: Annotated[
        str | None,
        typer.Option("--join", metavar="ADDRESS", help="Add the workers to a Dask scheduler that is already running."),
    ] = None,
    frame_cache: Annotated[
        int, typer.Option("--frame-cache", metavar="MIB", help="Memory for the frames that a session has sent.")
    ] = 1024,
    idle: Annotated[
        float,
        typer.Option(
            "--idle",
            metavar="MINUTES",
            help="Minutes without a request after which a session gives up its worker to one that is waiting.",
        ),
    ] = 10.0,
) -> None:
    """Compute for sessions of napari and of the commands on other computers, until Ctrl-C.

    Only this computer can connect unless --host is given. Anyone who can connect can run any program with
    your rights; with certificates, only their owners can connect. Users need FOLDER/client, and the address that is
    printed.

    \b
    For other computers in the network: the first start, and later ones:
      napari-sam2 serve --host 0.0.0.0 --new-certificates certificates
      napari-sam2 serve --host 0.0.0.0 --certificates certificates
    \b
    On the other computer:
      napari-sam2 track cells.tif --point 10,84,120 --compute tls://box:8786 --certificates client -o labels.tif
    """
    from napari_sam2.session.engines.certificates import make_certificates
    from napari_sam2.session.engines.server import ServerPlace, serving

    require_dask("a server")
    from napari_sam2.session.engines.engine_actor import ServerSettings

    if idle <= 0 or frame_cache < 1:
        raise DeviceError(f"--idle {idle:g} and --frame-cache {frame_cache} were given; expected numbers above 0")
    if new_certificates is not None:
        if certificates is not None:
            raise DeviceError("--certificates and --new-certificates were given; give one of them")
        certificates = new_certificates.expanduser()
        _, client = make_certificates(certificates)
        say(f"wrote certificates; copy {client} to the computers of the users")
    place = ServerPlace(host, port, workers, certificates, insecure, join)
    place.check()
    if join is None:  # where workers of others load it, they tell the first session what is wrong
        from napari_sam2.weights.loading import find_weights

        find_weights(model)
    settings = ServerSettings(model=model, device=device, frame_cache_bytes=frame_cache * 2**20, idle_s=idle * 60)
    with StopRequest("session's request") as stop, serving(place, settings) as server:
        say(f"serving at {server.address}; end with Ctrl-C")
        while not stop.is_set():
            server.check()
            time.sleep(_POLL_S)
    say("ended")
