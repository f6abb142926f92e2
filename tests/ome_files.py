"""OME-TIFF files with several positions, as microscopes write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray


def save_positions(path: Path, *shape: int) -> Path:
    """One file with images (P, Z, Y, X) of one size, each with its number as value."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for number in range(shape[0]):
            tif.write(np.full(shape[1:], number, np.uint8), metadata={"axes": "ZYX"}, photometric="minisblack")
    return path


def save_positions_in_files(folder: Path, images: NDArray[np.generic]) -> list[Path]:
    """A file for each of (P, Z, Y, X) images; each file describes all of them."""
    num_planes, height, width = images.shape[1:]
    files = [folder / f"a_Pos{i}.ome.tif" for i in range(len(images))]
    described = "".join(
        f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="{images.dtype}" SizeX="{width}" '
        f'SizeY="{height}" SizeZ="{num_planes}" SizeC="1" SizeT="1"><Channel ID="Channel:{i}"/>'
        + "".join(
            f'<TiffData FirstZ="{z}" IFD="{z}" PlaneCount="1"><UUID FileName="{file.name}">urn:uuid:{i:036d}</UUID>'
            "</TiffData>"
            for z in range(num_planes)
        )
        + "</Pixels></Image>"
        for i, file in enumerate(files)
    )
    for i, file in enumerate(files):
        begin = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        text = f'{begin}UUID="urn:uuid:{i:036d}">{described}</OME>'
        tifffile.imwrite(file, images[i], description=text, metadata=None, photometric="minisblack")
    return files
