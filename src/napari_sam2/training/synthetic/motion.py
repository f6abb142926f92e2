"""How procedural objects are laid out and move: drift, growth, division, coming and going, passing through depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_sam2.training.synthetic.shapes import NUM_ANGLES, TILE, Blobs, Chains, random_outlines

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BlobLayout", "Dynamics", "blob_story", "chain_story", "scatter"]

Dynamics = Literal["stack", "coarse stack", "movie"]


@dataclass(frozen=True)
class BlobLayout:
    """What a population of blobs looks like; lengths in pixels.

    Attributes
    ----------
    radius : float
        Typical radius.
    radius_spread : float
        Relative spread of radii.
    aspect : float
        Typical length over width.
    roughness : float
        Deviation of outlines from an ellipse.
    density : float
        Share of the plane covered before overlaps are resolved.
    spacing : float
        Least distance between middles in mean radii; below 2 objects touch.
    clustered : float
        0 for an even scatter, up to 1 for clumps.
    stacked : float
        Share of the places of a z-stack at which objects lie directly above each other, from top to bottom.
    """

    radius: float
    radius_spread: float = 0.2
    aspect: float = 1.3
    roughness: float = 0.1
    density: float = 0.3
    spacing: float = 1.8
    clustered: float = 0.0
    stacked: float = 0.0


def scatter(
    rng: np.random.Generator, size: int, num: int, spacing: float, clustered: float = 0.0
) -> NDArray[np.float64]:
    """(N, 2) points in and just around a square, no two closer than ``spacing``; N is at most ``num``."""
    margin = spacing
    candidates = rng.uniform(-margin, size + margin, (num * 3, 2))
    if clustered > 0:
        hubs = rng.uniform(0, size, (max(1, num // 8), 2))
        picked = rng.random(len(candidates)) < clustered
        around = hubs[rng.integers(len(hubs), size=int(picked.sum()))]
        candidates[picked] = around + rng.normal(0, spacing * 1.8, around.shape)
    kept = np.empty((num, 2))
    count = 0
    for point in candidates:
        if count == num:
            break
        if not count or ((kept[:count] - point) ** 2).sum(1).min() >= spacing**2:
            kept[count] = point
            count += 1
    return kept[:count]


def _walk(rng: np.random.Generator, num_frames: int, num: int, speed: float) -> NDArray[np.float64]:
    """(T, N, 2) displacement: steady drift, own direction and a random walk; 0 on the first frame."""
    t = np.arange(num_frames)[:, None, None]
    common = rng.normal(0, 0.5 * speed, (1, 1, 2))
    own = rng.normal(0, 0.5 * speed, (1, num, 2))
    steps = np.cumsum(rng.normal(0, 0.4 * speed, (num_frames, num, 2)), axis=0)
    return (common + own) * t + steps - steps[:1]


def blob_story(
    rng: np.random.Generator,
    size: int,
    num_frames: int,
    layout: BlobLayout,
    dynamics: Dynamics,
    *,
    divide: float | None = None,
) -> list[Blobs]:
    """A population of blobs on every frame.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size : int
        Side of the plane in pixels.
    num_frames : int
        T.
    layout : BlobLayout
        What they look like.
    dynamics : {"movie", "stack", "coarse stack"}
        Motion, growth, division, coming and going; or sections through resting bodies.
    divide : float, optional
        Share of objects of a movie that divide; drawn, and often 0, if not given.

    Returns
    -------
    list of Blobs
        One for each frame; ids are 1..N, and daughters of a division have new ids.
    """
    area = math.pi * layout.radius**2
    is_stack = dynamics != "movie" and num_frames > 1
    is_coarse = dynamics == "coarse stack"
    stacks_in_z = is_stack and layout.stacked > 0
    planes = 2.2 if is_stack and not stacks_in_z else 1.0
    num = max(5, min(160, int(layout.density * planes * size**2 / area)))
    centres = scatter(rng, size, num, layout.spacing * layout.radius / math.sqrt(planes), layout.clustered)
    if stacks_in_z:
        centres, radii, depths = _stacked_in_z(rng, num_frames, centres, layout, is_coarse=is_coarse)
    else:
        radii = _radii(rng, layout, len(centres))
    num = len(centres)
    aspects = np.exp(np.abs(rng.normal(math.log(layout.aspect), 0.15, num)))
    angles = rng.uniform(0, 2 * np.pi, num)
    outlines = random_outlines(rng, num, layout.roughness)
    if is_stack:
        if not stacks_in_z:
            depths = _depths(rng, num_frames, radii, is_coarse=is_coarse)
        path, scales = _sections(rng, num_frames, radii, depths)
    else:
        path, scales = _lives(rng, num_frames, num, layout.radius)
    turn = rng.normal(0, 0.04, num) * np.arange(num_frames)[:, None]
    later = random_outlines(rng, num, layout.roughness)
    offsets = rng.integers(0, TILE, (num, 2))
    ids = np.arange(1, num + 1, dtype=np.int32)
    divisions = _divisions(rng, num_frames, num, divide) if dynamics == "movie" else {}
    story = []
    for t in range(num_frames):
        mix = np.float32(t / max(num_frames - 1, 1) * 0.7)
        shape = outlines + (later - outlines) * mix
        # texture of deeper planes is another part of the tile, reached slowly
        shift = offsets + (t if dynamics != "movie" else 0)
        blobs = Blobs(ids, centres + path[t], radii * scales[t], aspects, angles + turn[t], shape, shift)
        story.append(_split(blobs, divisions, t, num) if divisions else blobs)
    return story


def _lives(
    rng: np.random.Generator, num_frames: int, num: int, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Displacement (T, N, 2) and relative radius (T, N) of moving objects; 0 before birth and after death."""
    path = _walk(rng, num_frames, num, rng.uniform(0, 0.25) * radius)
    growth = np.exp(rng.normal(0, 0.015, num) * np.arange(num_frames)[:, None])
    for n in np.flatnonzero(rng.random(num) < 0.08):
        moment = int(rng.integers(num_frames))
        if moment and rng.random() < 0.5:
            growth[:moment, n] = 0
        elif moment:
            growth[moment:, n] = 0
    return path, growth


@dataclass(frozen=True, eq=False)
class _Depths:
    """Where N bodies lie in a z-stack, each (N,) in planes: the middle, and from there to the top and the bottom."""

    middle: NDArray[np.float64]
    half: NDArray[np.float64]


def _radii(rng: np.random.Generator, layout: BlobLayout, num: int) -> NDArray[np.float64]:
    return np.asarray(layout.radius * np.exp(rng.normal(0, layout.radius_spread, num)))


def _half_depths(rng: np.random.Generator, radii: NDArray[np.float64], *, is_coarse: bool) -> NDArray[np.float64]:
    """In coarse stacks few planes cut each object, as microscopes mostly take them."""
    half = np.maximum(radii * np.exp(rng.normal(0, 0.15, len(radii))) / rng.uniform(1.2, 5.0), 1.5)
    if is_coarse:
        half = rng.uniform(1.0, 4.5) * np.exp(rng.normal(0, 0.2, len(radii)))
    return np.asarray(half)


def _depths(rng: np.random.Generator, num_frames: int, radii: NDArray[np.float64], *, is_coarse: bool) -> _Depths:
    """Bodies anywhere in the stack."""
    half = _half_depths(rng, radii, is_coarse=is_coarse)
    return _Depths(rng.uniform(-0.4 * half, num_frames - 1 + 0.4 * half), half)


def _stacked_in_z(
    rng: np.random.Generator, num_frames: int, places: NDArray[np.float64], layout: BlobLayout, *, is_coarse: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], _Depths]:
    """Centres (N, 2), radii (N,) and depths of bodies stacked in z at some places; one body at the others.

    Bodies above each other nearly touch, overlap a little or leave a plane or two between them, and their middles
    wander from body to body, as nuclei do in tissue.
    """
    layers = num_frames // 2 + 4  # what sticks out of the stack is left out
    shape = (len(places), layers)
    radii = _radii(rng, layout, math.prod(shape))
    half = _half_depths(rng, radii, is_coarse=is_coarse).reshape(shape)
    steps = (half[:, 1:] + half[:, :-1]) * rng.uniform(0.75, 1.35, (len(places), layers - 1))
    start = rng.uniform(-2 * half[:, 0], half[:, 0])
    middle = start[:, None] + np.cumsum(np.pad(steps, ((0, 0), (1, 0))), axis=1)
    wander = rng.normal(0, rng.uniform(0.05, 0.5) * layout.radius, (*shape, 2))
    centres = places[:, None] + wander
    inside = (middle + half > -1) & (middle - half < num_frames)
    alone = np.zeros(shape, bool)
    alone[np.arange(len(places)), (inside * rng.random(shape)).argmax(axis=1)] = True
    kept = inside & (alone | (rng.random(len(places)) < layout.stacked)[:, None])
    return centres[kept], radii.reshape(shape)[kept], _Depths(middle[kept], half[kept])


def _sections(
    rng: np.random.Generator, num_frames: int, radii: NDArray[np.float64], depths: _Depths
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Displacement (T, N, 2) and relative radius (T, N) of planes through slightly leaning ellipsoids."""
    depth = np.arange(num_frames)[:, None] - depths.middle
    scales = np.sqrt(np.maximum(0, 1 - (depth / depths.half) ** 2))
    lean = rng.normal(0, 0.2, (len(radii), 2)) * (radii / depths.half)[:, None] * 0.6
    return depth[..., None] * lean, scales


def _divisions(
    rng: np.random.Generator, num_frames: int, num: int, share: float | None
) -> dict[int, tuple[int, float]]:
    """Row of each dividing object to its (frame, direction)."""
    if share is None:
        share = rng.uniform(0.05, 0.3) if rng.random() < 0.5 else 0.0
    if num_frames < 3 or share == 0:
        return {}
    rows = np.flatnonzero(rng.random(num) < share)
    return {int(n): (int(rng.integers(1, num_frames)), float(rng.uniform(0, np.pi))) for n in rows}


def _split(blobs: Blobs, divisions: dict[int, tuple[int, float]], frame: int, num: int) -> Blobs:
    """Replace each mother from its division on by two daughters with new ids that move apart."""
    radii = blobs.radii.copy()
    rows, centres = [], []
    daughters = []
    for k, (n, (moment, direction)) in enumerate(sorted(divisions.items())):
        if frame < moment or radii[n] < 1:
            continue
        apart = radii[n] * (0.62 + 0.12 * min(frame - moment, 5))
        step = np.array([math.sin(direction), math.cos(direction)]) * apart
        for side in (-1, 1):
            rows.append(n)
            centres.append(blobs.centres_yx[n] + side * step)
            daughters.append(num + 2 * k + (1 if side > 0 else 0) + 1)
    if not rows:
        return blobs
    small = radii[rows] * 0.72
    radii[rows] = 0
    return Blobs(
        np.concatenate([blobs.ids, np.array(daughters, np.int32)]),
        np.concatenate([blobs.centres_yx, np.array(centres)]),
        np.concatenate([radii, small]),
        np.concatenate([blobs.aspects, np.full(len(rows), 1.15)]),
        np.concatenate([blobs.angles, blobs.angles[rows]]),
        np.concatenate([blobs.outlines, np.roll(blobs.outlines[rows], NUM_ANGLES // 3, axis=1)]),
        np.concatenate([blobs.offsets, blobs.offsets[rows]]),
    )


def chain_story(
    rng: np.random.Generator,
    size: int,
    num_frames: int,
    *,
    length: float,
    half_width: float,
    num: int,
    bend: float,
    tapered: bool,
) -> list[Chains]:
    """Elongated objects on every frame: they glide along themselves, drift, turn and bend.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    size, num_frames : int
        Side of the plane and T.
    length, half_width : float
        Typical length and half width in pixels.
    num : int
        Number of objects.
    bend : float
        Total change of direction along an object, radians.
    tapered : bool
        Whether ends are thinner than the middle, as in a spindle.

    Returns
    -------
    list of Chains
        One for each frame.
    """
    num_points = 4 if bend < 0.4 else 9
    centres = scatter(rng, size, num, 2.2 * half_width)
    num = len(centres)
    lengths = length * np.exp(rng.normal(0, 0.25, num))
    widths = half_width * np.exp(rng.normal(0, 0.12, num))
    heading = rng.uniform(0, 2 * np.pi, num)
    if rng.random() < 0.3:
        heading = rng.uniform(0, np.pi) + rng.normal(0, 0.25, num)
    curl = rng.normal(0, bend, (num, num_points - 1)).cumsum(1) / math.sqrt(num_points)
    path = _walk(rng, num_frames, num, 0.3 * half_width)
    glide = rng.normal(0, 0.04, num) * lengths
    spin, flex = rng.normal(0, 0.03, num), rng.normal(0, 0.15 * bend, curl.shape)
    profile = np.ones(num_points)
    if tapered:
        profile = np.maximum(0.25, np.sin(np.linspace(0.12, np.pi - 0.12, num_points)) ** 0.8)
    story = []
    for t in range(num_frames):
        direction = heading[:, None] + spin[:, None] * t + curl + flex * math.sin(t / 3)
        step = np.stack([np.sin(direction), np.cos(direction)], -1) * (lengths / (num_points - 1))[:, None, None]
        points = np.concatenate([np.zeros((num, 1, 2)), np.cumsum(step, axis=1)], axis=1)
        points -= points.mean(axis=1, keepdims=True)
        ahead = np.stack([np.sin(heading), np.cos(heading)], -1) * (glide * t)[:, None]
        points += (centres + path[t] + ahead)[:, None]
        story.append(Chains(np.arange(1, num + 1, dtype=np.int32), points, widths[:, None] * profile))
    return story
