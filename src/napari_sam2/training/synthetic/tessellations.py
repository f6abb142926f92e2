"""Procedural planes that objects fill: epithelia with walls, and neurites as an electron microscope shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_sam2.training.synthetic.appearance import MAX_IDS, boundary_of, draw_grey_look
from napari_sam2.training.synthetic.shapes import (
    Blobs,
    Canvas,
    blank_canvas,
    draw_blobs,
    make_tile,
    random_outlines,
    tessellate,
)
from napari_sam2.training.warp import smooth_field, spline_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = tuple[list[NDArray[np.float32]], list[NDArray[np.int32]]]

__all__ = ["electron_clip", "membrane_clip"]


@dataclass(frozen=True, eq=False)
class _Mosaic:
    """Seeds that move through T frames under a deformation that changes slowly.

    ``seeds`` (T, N, 2) and ``weights`` (T, N) in pixels; ``owners`` (N,) int32; ``knots`` (T, 2, n, n) in pixels.
    """

    seeds: NDArray[np.float64]
    weights: NDArray[np.float64]
    owners: NDArray[np.int32]
    knots: NDArray[np.float32]

    def labels(self, frame: int, size: int) -> NDArray[np.int32]:
        warp = spline_field(self.knots[frame, 0], (size, size)), spline_field(self.knots[frame, 1], (size, size))
        return tessellate(self.seeds[frame], self.weights[frame], self.owners, warp)


def _draw_mosaic(
    rng: np.random.Generator,
    size: int,
    num_frames: int,
    *,
    spacing: float,
    irregular: float,
    merge: float,
    pace: float,
    variety: float = 0.0,
) -> _Mosaic:
    """``irregular`` scales deformation, ``merge`` is the share of seeds joined, ``pace`` the motion.

    ``variety`` is the relative spread of sizes: at 0.8 few wide regions lie among many narrow ones.
    """
    num = max(4, min(130, int(1.3 * (size / spacing) ** 2 * (1 + 2 * variety))))
    reach = spacing * np.sort(np.exp(rng.normal(-0.5 * variety, variety, num)))[::-1]
    start, reach = _pack(rng, size, np.minimum(reach, 0.45 * size))
    num = len(start)
    t = np.arange(num_frames)[:, None, None]
    walk = np.cumsum(rng.normal(0, 0.35 * pace * spacing, (num_frames, num, 2)), axis=0)
    path = rng.normal(0, 0.5 * pace * spacing, (1, num, 2)) * t + walk - walk[:1]
    # a seed alone among others takes a disk of about half its reach
    base = 0.25 * reach**2 + rng.normal(0, irregular * 0.15 * spacing**2, num)
    # weights that rise and fall: regions grow, shrink and end
    wave = np.sin(rng.uniform(0, 2 * np.pi, num) + rng.uniform(0.5, 2, num) * pace * 3 * t[..., 0])
    weights = base + irregular * 0.2 * reach**2 * wave
    owners = np.arange(1, num + 1, dtype=np.int32)
    for n in np.flatnonzero(rng.random(num) < merge):
        distance = np.hypot(*(start - start[n]).T) - 0.5 * reach
        distance[n] = np.inf
        owners[n] = owners[int(distance.argmin())]
    cells = max(2, round(size / spacing * rng.uniform(0.5, 1.2)))
    first = rng.normal(0, 1, (1, 2, cells + 3, cells + 3))
    later = rng.normal(0, 1, (1, 2, cells + 3, cells + 3))
    angle = np.minimum(pace * 1.5 * t[..., None], np.pi / 2)
    knots = (np.cos(angle) * first + np.sin(angle) * later) * (irregular * 0.16 * size / cells)
    return _Mosaic(start + path, weights, owners, knots.astype(np.float32))


def _pack(
    rng: np.random.Generator, size: int, reach: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Place disks of given reach, widest first, where they overlap little; those without room are left out."""
    margin = 0.15 * size
    places = np.empty((len(reach), 2))
    kept = np.empty(len(reach))
    count = 0
    tries = rng.uniform(-margin, size + margin, (len(reach), 12, 2))
    for want, candidates in zip(reach, tries, strict=True):
        gaps = np.hypot(*(candidates[:, None] - places[None, :count]).transpose(2, 0, 1)) - 0.5 * kept[:count]
        free = np.flatnonzero(gaps.min(axis=1, initial=np.inf) > 0.28 * want)
        if len(free):
            places[count], kept[count] = candidates[free[0]], want
            count += 1
    return places[:count], kept[:count]


def membrane_clip(rng: np.random.Generator, size: int, num_frames: int) -> Frames:
    """Cells that fill the plane between bright or dark walls, in places with gaps."""
    spacing = size / 256 * math.exp(rng.uniform(math.log(22), math.log(75)))
    mosaic = _draw_mosaic(
        rng,
        size,
        num_frames,
        spacing=spacing,
        irregular=rng.uniform(0.1, 0.7),
        merge=0.0,
        pace=rng.uniform(0, 0.06),
        variety=rng.uniform(0, 0.3),
    )
    look = draw_grey_look(rng, "fluorescence", size, dense=True)
    tile = make_tile(rng)
    thickness = size / 256 * rng.uniform(0.6, 2.2)
    bright, dark = rng.uniform(0.5, 1.2), rng.uniform(0.05, 0.35)
    if rng.random() < 0.3:
        bright, dark = 0.05, rng.uniform(0.35, 0.6)
    gap = smooth_field(rng, (size, size), 3) > 1.1 if rng.random() < 0.4 else np.zeros((size, size), bool)
    strength = np.clip(1 + 0.35 * smooth_field(rng, (size, size), 8), 0.25, 2)
    shift, grain = rng.integers(0, 256, 2), np.float32(rng.uniform(0.05, 0.25))
    images, labels = [], []
    for t in range(num_frames):
        regions = mosaic.labels(t, size)
        void = _merge_gap(regions, gap)
        wall = _soft_walls(regions, thickness) * strength
        rows, columns = np.arange(size)[:, None] + shift[0] + t, np.arange(size)[None] + shift[1]
        fill = np.float32(dark) * np.maximum(1 + grain * tile[rows % 256, columns % 256], 0)
        body = fill * np.take(look.brightness, regions % MAX_IDS) * (regions > 0)
        amount = body * (1 - wall) + np.float32(bright) * wall
        amount[void] *= 0.25
        images.append(_expose(rng, amount, look.grain, look.blur, look.background))
        labels.append(regions)
    return images, labels


def _merge_gap(regions: NDArray[np.int32], gap: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Turn every region mostly inside the gap into background, in place; returns where background is."""
    if gap.any():
        areas = np.bincount(regions.reshape(-1))
        inside = np.bincount(regions.reshape(-1), weights=gap.reshape(-1))
        gone = inside > 0.6 * np.maximum(areas, 1)
        regions[gone[regions]] = 0
    plane: NDArray[np.bool_] = regions == 0
    return plane


def _soft_walls(labels: NDArray[np.int32], thickness: float) -> NDArray[np.float32]:
    """Walls between labels as 0..1, about ``thickness`` pixels to each side."""
    edge = boundary_of(labels).astype(np.float32)
    soft = ndimage.gaussian_filter(edge, 0.6 * thickness, truncate=2.5)
    # a straight edge two pixels wide peaks at about 2 / (sigma sqrt(2 pi)) after the blur
    peak = min(1.0, 2 / (0.6 * thickness * 2.5 + 0.4))
    return np.asarray(np.clip(soft * np.float32(1.25 / peak), 0, 1))


def _expose(
    rng: np.random.Generator, amount: NDArray[np.float32], grain: float, blur: float, background: float
) -> NDArray[np.float32]:
    image = ndimage.gaussian_filter(amount, blur, truncate=2.5) + np.float32(background)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + noise * np.float32(grain) * np.sqrt(np.maximum(image, 0) + np.float32(0.1))
    plane: NDArray[np.float32] = np.clip(image, 0, 1).astype(np.float32) * np.float32(255)
    return plane


@dataclass(frozen=True, eq=False)
class _Stain:
    """How an electron section looks: levels 0..1, lengths in pixels."""

    cytosol: float
    membrane: float
    thickness: float
    spread: NDArray[np.float32]
    grain: float
    grain_width: float
    blur: float
    texture: float


def electron_clip(
    rng: np.random.Generator,
    size: int,
    num_frames: int,
    *,
    spacing: float | None = None,
    grain: float | None = None,
) -> Frames:
    """Neurites cut across: dark membranes, grainy cytoplasm of several greys, mitochondria and vesicles.

    ``spacing`` is the typical width of a neurite in pixels, ``grain`` the strength of the noise (0 to 1); drawn if
    not given.
    """
    scale = size / 256
    spacing = scale * math.exp(rng.uniform(math.log(22), math.log(80))) if spacing is None else spacing
    mosaic = _draw_mosaic(
        rng, size, num_frames, spacing=spacing, irregular=rng.uniform(0.5, 1.5), merge=rng.uniform(0.15, 0.5),
        pace=rng.uniform(0.01, 0.08), variety=rng.uniform(0.2, 0.9),
    )  # fmt: skip
    stain = _Stain(
        cytosol=rng.uniform(0.5, 0.75),
        membrane=rng.uniform(0.1, 0.35),
        thickness=scale * rng.uniform(0.9, 2.4) * (spacing / scale / 45) ** 0.5,
        spread=rng.normal(0, rng.uniform(0.01, 0.06), MAX_IDS).astype(np.float32),
        grain=rng.uniform(0.01, 0.08) if grain is None else grain,
        grain_width=scale * rng.uniform(0.4, 1.4),
        blur=scale * rng.uniform(0.4, 1.4),
        texture=rng.uniform(0.01, 0.06),
    )
    tile = make_tile(rng, 128)
    patches = np.clip(1 + 0.3 * smooth_field(rng, (size, size), 6), 0.3, 1.6)
    organelles = _organelles(rng, size, num_frames, spacing)
    images, labels = [], []
    for t in range(num_frames):
        regions = mosaic.labels(t, size)
        inner = blank_canvas(size)
        draw_blobs(inner, organelles[t], tile, reach=1.0)
        images.append(_section(rng, regions, inner, stain, tile, patches, t))
        labels.append(regions)
    return images, labels


def _organelles(rng: np.random.Generator, size: int, num_frames: int, spacing: float) -> list[Blobs]:
    """Mitochondria and vesicles, drifting slowly; ids 1.. for mitochondria, from 512 on for vesicles."""
    num_large = int(rng.integers(2, 5 + int(14 * min(1.0, (size / spacing / 8)))))
    num_small = int(rng.integers(0, 40))
    num = num_large + num_small
    centres = rng.uniform(0, size, (num, 2))
    radii = np.concatenate(
        [spacing * rng.uniform(0.14, 0.3, num_large), np.maximum(1.2, spacing * rng.uniform(0.02, 0.06, num_small))]
    )
    ids = np.concatenate([np.arange(1, num_large + 1), np.arange(512, 512 + num_small)]).astype(np.int32)
    aspects, angles = rng.uniform(1, 2.2, num), rng.uniform(0, np.pi, num)
    outlines, offsets = random_outlines(rng, num, 0.1), rng.integers(0, 256, (num, 2))
    speed = rng.normal(0, 0.03 * spacing, (num, 2))
    middle, depth = rng.uniform(0, num_frames, num), rng.uniform(2, 12, num)
    story = []
    for t in range(num_frames):
        swell = np.sqrt(np.maximum(0, 1 - ((t - middle) / depth) ** 2)) if num_frames > 1 else np.ones(num)
        story.append(Blobs(ids, centres + speed * t, radii * swell, aspects, angles, outlines, offsets))
    return story


def _section(
    rng: np.random.Generator,
    regions: NDArray[np.int32],
    inner: Canvas,
    stain: _Stain,
    tile: NDArray[np.float32],
    patches: NDArray[np.float32],
    frame: int,
) -> NDArray[np.float32]:
    size = regions.shape[0]
    wall = _soft_walls(regions, stain.thickness) * patches
    rows, columns = np.arange(size)[:, None] + 3 * frame, np.arange(size)[None]
    level = np.float32(stain.cytosol) + np.take(stain.spread, regions % MAX_IDS)
    level = level + np.float32(stain.texture) * tile[rows % 256, columns % 256]
    # organelles stay clear of membranes: the product keeps them inside one neurite
    mito = (inner.labels > 0) & (inner.labels < 512)
    vesicle = inner.labels >= 512
    ring = np.exp(-(((inner.rho - np.float32(0.9)) / np.float32(0.12)) ** 2))
    shade = np.where(mito, np.float32(0.14) + np.float32(0.15) * ring + np.float32(0.05) * inner.texture, 0)
    shade = shade + np.float32(0.2) * vesicle
    level = level - shade * (1 - np.clip(1.5 * wall, 0, 1))
    image = level + (np.float32(stain.membrane) - level) * np.clip(wall, 0, 1)
    image = ndimage.gaussian_filter(image.astype(np.float32), stain.blur, truncate=2.5)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, stain.grain_width, truncate=2.0) * np.float32(1 + 2.5 * stain.grain_width)
    plane: NDArray[np.float32] = np.clip(image + np.float32(stain.grain) * noise, 0, 1) * np.float32(255)
    return plane
