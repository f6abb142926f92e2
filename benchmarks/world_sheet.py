"""A picture of random worlds as they are trained on, each kind beside what it is to teach: a row of real crops below.

python benchmarks/world_sheet.py worlds.png
python benchmarks/world_sheet.py worlds.png --real FOLDER_OF_PACKS --seed 3

Outlines: objects green, parts magenta, clumps blue.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.io import imsave
from skimage.segmentation import find_boundaries

from napari_sam2.training.augment import augment_frames
from napari_sam2.training.crops import CropConfig, Cut, StackSource
from napari_sam2.training.packs import load_pack
from napari_sam2.training.worlds import ARRANGEMENTS
from napari_sam2.training.worlds.source import WorldSource

_SIDE, _COLUMNS = 112, 8
_SHOWN = CropConfig(reference_size=_SIDE, extent_core=(18.0, 50.0), extent_high=90.0, core_share=0.8)
_COLOURS = ((0, 255, 0), (255, 0, 255), (0, 140, 255))


def tile(cut: Cut, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The crop above, with outlines below; (2 S, S, 3)."""
    image = augment_frames(cut.frames, rng, black=cut.black)[0]
    drawn = image.copy()
    levels = (cut.labels, *cut.levels)
    for level, colour in reversed(list(zip(levels, _COLOURS, strict=False))):
        drawn[find_boundaries(level[0], mode="inner")] = colour
    return np.concatenate((image, drawn))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--real", type=Path, default=None, help="folder of packs, for a row of real crops")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for number, name in enumerate(ARRANGEMENTS):
        rng = np.random.default_rng([options.seed, number])
        source = WorldSource(arrangements=(name,))
        cuts = [source.sample(rng, 1, _SIDE, _SHOWN) for _ in range(_COLUMNS)]
        rows.append(np.concatenate([tile(cut, rng) for cut in cuts], axis=1))
    if options.real is not None:
        rng = np.random.default_rng(options.seed)
        paths = sorted(options.real.glob("*.npz"))[:_COLUMNS]
        cuts = [StackSource(path.stem, load_pack(path)).sample(rng, 1, _SIDE, _SHOWN) for path in paths]
        rows.append(np.concatenate([tile(cut, rng) for cut in cuts], axis=1))
    imsave(options.output, np.concatenate(rows), check_contrast=False)


if __name__ == "__main__":
    main()
