"""Geometry of random worlds: objects of drawn shapes in a drawn arrangement, their parts, and the clumps they form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.measure import label as label_pieces

from napari_sam2.training.warp import smooth_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Labels = NDArray[np.int32]

__all__ = ["ARRANGEMENTS", "Scene", "draw_scene", "number_pieces"]

SIDE = 288
_MIN_AREA = 14
_MAX_OBJECTS = 220
_PARTS_SHARE = 0.5
_CLUMP_SHARE = 0.7
_PARTS_ARE_MEANT = 0.15  # of the scenes with a large part in each object: nuclei in pale cells


@dataclass(frozen=True, eq=False)
class Scene:
    """Labelled geometry on one canvas.

    Attributes
    ----------
    objects : numpy.ndarray
        (SIDE, SIDE) int32, the objects that are meant as a rule.
    parts : tuple of numpy.ndarray
        The same of each kind of part inside objects, none or more.
    clumps : numpy.ndarray or None
        The same of groups of objects close to each other.
    hosts : numpy.ndarray or None
        Larger bodies around the objects, if these are parts of something.
    """

    objects: Labels
    parts: tuple[Labels, ...] = ()
    clumps: Labels | None = None
    hosts: Labels | None = None


def draw_scene(rng: np.random.Generator, arrangement: str | None = None) -> Scene:
    """Draw a scene.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of randomness.
    arrangement : str, optional
        One of ``ARRANGEMENTS``; a random one if not given.
    """
    names = tuple(ARRANGEMENTS)
    while True:
        name = names[int(rng.integers(len(names)))] if arrangement is None else arrangement
        size = math.exp(rng.uniform(math.log(10), math.log(80)))
        objects = number_pieces(ARRANGEMENTS[name](rng, size))
        if objects.any():
            break
    parts = _parts(rng, objects) if rng.random() < _PARTS_SHARE else ()
    if parts and rng.random() < _PARTS_ARE_MEANT:
        return Scene(parts[0], parts[1:], None, objects)
    clumps = _clumps(rng, objects) if rng.random() < _CLUMP_SHARE else None
    return Scene(objects, parts, clumps)


def number_pieces(labels: Labels) -> Labels:
    """Each connected piece of a label with a number of its own, without specks."""
    pieces = label_pieces(labels, background=0, connectivity=1)
    areas = np.bincount(pieces.reshape(-1))
    keep = areas >= _MIN_AREA
    keep[0] = False
    numbers = np.zeros(len(areas), np.int32)
    numbers[keep] = np.arange(1, int(keep.sum()) + 1)
    found: Labels = numbers[pieces]
    return found


# ---------------------------------------------------------------- shapes


def _outline(rng: np.random.Generator) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A family of closed outlines; each call of the result draws one as relative radius by angle."""
    kind = rng.choice(["ellipse", "smooth", "rough", "polygon", "spiky", "bean"], p=[0.25, 0.25, 0.1, 0.2, 0.08, 0.12])
    strength = rng.uniform(0.3, 1)
    corners = int(rng.integers(3, 9))

    def radius(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        if kind == "polygon":
            turns = np.sort(rng.uniform(0, 2 * np.pi, corners + 2))
            turns += rng.uniform(0, 2 * np.pi)
            reach = rng.uniform(0.6, 1, corners + 2)
            away = np.cos(theta[:, None] - turns)
            drawn = np.where(away > 0.15, reach / np.maximum(away, 0.15), 9.0).min(1)
            return np.asarray(np.minimum(drawn, 1.5))
        orders = {"ellipse": 1, "smooth": 4, "rough": 16, "spiky": 8, "bean": 3}[str(kind)]
        k = np.arange(2, 2 + orders)
        waves = np.exp(1j * k * theta[:, None])
        size = rng.normal(0, 1, orders) + 1j * rng.normal(0, 1, orders)
        bumps = (waves @ (size / k ** (0.7 if kind == "rough" else 1.1))).real * strength
        if kind == "ellipse":
            return np.ones_like(theta)
        if kind == "spiky":
            return np.asarray(0.55 + 0.35 * np.abs(bumps) ** 1.5)
        if kind == "bean":
            dent = np.exp(-((np.angle(np.exp(1j * theta)) / 0.6) ** 2))
            return np.asarray(1 - strength * 0.6 * dent + 0.05 * bumps)
        return np.asarray(np.clip(1 + (0.2 if kind == "smooth" else 0.15) * bumps, 0.35, 1.8))

    return radius


def _blob(
    rng: np.random.Generator,
    outline: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    radius: float,
    aspect: float,
    angle: float,
) -> NDArray[np.bool_]:
    """A mask around its middle, of odd sides."""
    table = outline(np.arange(128, dtype=np.float64) * (2 * np.pi / 128))
    half = max(2, math.ceil(radius * math.sqrt(aspect) * float(table.max())) + 1)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    y, x = y + rng.uniform(-0.5, 0.5), x + rng.uniform(-0.5, 0.5)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    along, across = along / math.sqrt(aspect), across * math.sqrt(aspect)
    theta = np.arctan2(across, along) * (128 / (2 * np.pi))
    low = np.floor(theta).astype(int)
    share = theta - low
    reach = table[low % 128] * (1 - share) + table[(low + 1) % 128] * share
    return np.asarray(np.hypot(along, across) <= radius * reach)


def _rod(
    rng: np.random.Generator, length: float, half_width: float, angle: float, bend: float, waist: float, taper: float
) -> NDArray[np.bool_]:
    """A capsule, bent, thinner in its middle or towards one end."""
    half = max(2, math.ceil(length / 2 + half_width) + 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    y, x = y + rng.uniform(-0.5, 0.5), x + rng.uniform(-0.5, 0.5)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    straight = max(length / 2 - half_width, 0.0)
    across = across - bend * (along**2 / max(length, 1) - length / 12)
    width = half_width * (1 - waist * np.exp(-((along / half_width) ** 2)))
    width = width * (1 - taper * np.clip(along / max(length, 1) + 0.5, 0, 1))
    return np.asarray(np.hypot(np.maximum(np.abs(along) - straight, 0) * (width > 0), across) <= width)


def _stamp(
    labels: Labels, taken: NDArray[np.bool_], mask: NDArray[np.bool_], y: float, x: float, number: int, mode: str
) -> bool:
    """Put a mask onto the canvas; ``apart`` refuses overlap, ``beside`` takes what is free, ``over`` covers."""
    half_y, half_x = mask.shape[0] // 2, mask.shape[1] // 2
    top, left = round(y) - half_y, round(x) - half_x
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + mask.shape[0], SIDE), min(left + mask.shape[1], SIDE)
    if y0 >= y1 or x0 >= x1:
        return False
    inside = mask[y0 - top : y1 - top, x0 - left : x1 - left]
    spot = (slice(y0, y1), slice(x0, x1))
    covered = np.count_nonzero(inside & taken[spot])
    limit = {"apart": 0.0, "beside": 0.3, "over": 0.6}[mode]
    if covered > limit * np.count_nonzero(inside):
        return False
    painted = inside if mode == "over" else inside & ~taken[spot]
    labels[spot][painted] = number
    taken[spot] |= inside
    return True


# ---------------------------------------------------------------- arrangements


def _gap(rng: np.random.Generator) -> int:
    """Free pixels around each object: mostly none or a thin line."""
    return int(rng.choice([0, 1, 2, 3, 5], p=[0.35, 0.25, 0.2, 0.1, 0.1]))


def _positions(rng: np.random.Generator, count: int, size: float) -> NDArray[np.float64]:
    """(count, 2) places: anywhere, in clusters, on a lattice or along curves."""
    kind = rng.choice(["anywhere", "clusters", "lattice", "curves"], p=[0.4, 0.35, 0.1, 0.15])
    if kind == "anywhere":
        return rng.uniform(0, SIDE, (count, 2))
    if kind == "clusters":
        centres = rng.uniform(0, SIDE, (int(rng.integers(1, 7)), 2))
        spread = rng.uniform(0.8, 3) * size
        return np.asarray(centres[rng.integers(len(centres), size=count)] + rng.normal(0, spread, (count, 2)))
    if kind == "lattice":
        pitch = size * rng.uniform(0.95, 1.6)
        y, x = np.mgrid[0:SIDE:pitch, 0:SIDE:pitch]
        places = np.stack((y.ravel(), x.ravel() + (np.round(y.ravel() / pitch) % 2) * pitch / 2), 1)
        return np.asarray(rng.permutation(places + rng.normal(0, 0.06 * size, places.shape)))
    num = max(1, count // 12)
    curves = []
    for start in rng.uniform(0, SIDE, (num, 2)):
        turn = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, 13))
        steps = np.stack((np.sin(turn), np.cos(turn)), 1) * size * rng.uniform(0.85, 1.1)
        curves.append(start + np.cumsum(steps, 0))
    return np.concatenate(curves)


def _bodies(rng: np.random.Generator, size: float) -> Labels:
    """Blobs and particles, alone, touching or over each other."""
    labels, taken = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), bool)
    outline, mode = _outline(rng), str(rng.choice(["apart", "beside", "over"], p=[0.25, 0.45, 0.3]))
    spread, aspect, gap = rng.uniform(0.05, 0.6), rng.uniform(1, 2.5), _gap(rng)
    filled = rng.uniform(0.15, 2.0)
    count = int(np.clip(filled * (SIDE / size) ** 2, 3, _MAX_OBJECTS))
    aligned = rng.uniform(0, np.pi) if rng.random() < 0.3 else None
    places = _positions(rng, count, size)
    for number, (y, x) in enumerate(places, start=1):
        radius = size / 2 * float(np.clip(math.exp(rng.normal(0, spread)), 0.3, 3))
        angle = rng.uniform(0, np.pi) if aligned is None else aligned + rng.normal(0, 0.15)
        mask = _blob(rng, outline, radius, aspect ** rng.uniform(0.3, 1), angle)
        _stamp(labels, taken, _thinned(mask, gap) if mode == "over" else mask, y, x, number, mode)
    return labels if mode == "over" else _separated(labels, gap)


def _thinned(mask: NDArray[np.bool_], gap: int) -> NDArray[np.bool_]:
    return ndimage.binary_erosion(mask, iterations=gap) if 0 < gap < min(mask.shape) // 6 else mask


def _separated(labels: Labels, gap: int) -> Labels:
    """Labels with ``gap`` free pixels along all contacts."""
    if gap == 0:
        return labels
    contact = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        first, second = (labels[:-1], labels[1:]) if axis == 0 else (labels[:, :-1], labels[:, 1:])
        meets = (first != second) & (first > 0) & (second > 0)
        if axis == 0:
            contact[:-1] |= meets
        else:
            contact[:, :-1] |= meets
    if not contact.any():
        return labels
    near = ndimage.distance_transform_edt(~contact) < (gap + 0.6) / 2
    return np.where(near, np.int32(0), labels)


def _packed_rods(rng: np.random.Generator, size: float) -> Labels:
    """Rods side by side and end to end along a field of directions, as growth and division leave them."""
    labels, taken = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), bool)
    slender = rng.uniform(1.5, 10)
    half_width = max(size / slender / 2, 2.2)
    gap, turn = _gap(rng), rng.uniform(0, np.pi)
    field = turn + rng.uniform(0, 1.6) * smooth_field(rng, (SIDE, SIDE), int(rng.integers(1, 5)))
    region = smooth_field(rng, (SIDE, SIDE), int(rng.integers(2, 5))) > rng.uniform(-1.5, 0.6)
    waist_share, taper = rng.uniform(0, 0.5), rng.uniform(0, 0.5) * (rng.random() < 0.25)
    mess = rng.uniform(0, 0.35)
    free = np.flatnonzero(region)
    if not len(free):
        return labels
    room = len(free) / (2 * half_width * size)
    tries = int(np.clip(2.5 * room, 20, 500))
    number = 0
    for place in rng.choice(free, tries):
        y, x = divmod(int(place), SIDE)
        if taken[y, x] or number >= _MAX_OBJECTS:
            continue
        length = size * rng.uniform(0.65, 1.35)
        angle = float(field[y, x]) + rng.normal(0, mess)
        waist = rng.uniform(0.2, 0.7) if rng.random() < waist_share else 0.0
        mask = _rod(rng, length, half_width * rng.uniform(0.9, 1.1), angle, rng.normal(0, 0.25), waist, taper)
        number += _stamp(labels, taken, mask, y, x, number + 1, "beside")
    return _separated(labels, gap)


def _colony(rng: np.random.Generator, size: float) -> Labels:
    """Rods of like width in bent lanes, side by side and end to end, in patches of different directions."""
    width = max(size / rng.uniform(2, 7), 4.5)
    patches = rng.uniform(0, SIDE, (max(1, round(SIDE / size / rng.uniform(0.8, 4))), 2))
    patch = _nearest_seed(rng, patches, 1.0, rng.uniform(0, 1)) - 1
    turn = rng.uniform(0, np.pi) + rng.uniform(0, 1.6) * rng.standard_normal(len(patches))
    bend = size * rng.uniform(0, 0.9) * smooth_field(rng, (SIDE, SIDE), int(rng.integers(1, 4)))
    y, x = np.mgrid[0:SIDE, 0:SIDE] - SIDE / 2
    sine, cosine = np.sin(turn)[patch], np.cos(turn)[patch]
    u = (y * cosine - x * sine + bend) / width + patch * rng.uniform(0, 1)
    lane = np.floor(u).astype(np.int64)
    across = np.abs(u - lane - 0.5)  # 0 in the middle of a lane, 0.5 at its sides
    # lanes are cut at their own places
    lanes = np.unique(patch * 4096 + lane, return_inverse=True)[1].reshape(SIDE, SIDE)
    count = int(lanes.max()) + 1
    v = (x * cosine + y * sine) / size + rng.uniform(0, 1, count)[lanes]
    first = int(np.floor(v.min())) - 1
    cuts = np.arange(first, int(np.ceil(v.max())) + 3) + rng.uniform(
        -0.35, 0.35, (count, int(np.ceil(v.max())) + 3 - first)
    )
    part = np.floor(v).astype(np.int64) - first
    part = part - (v < cuts[lanes, part]) + (v >= cuts[lanes, part + 1])
    from_end = size * np.minimum(v - cuts[lanes, part], cuts[lanes, part + 1] - v) / width  # in widths of a lane
    squareness = rng.uniform(0, 1) if rng.random() < 0.3 else 0.0
    reach = 0.5 * rng.uniform(0.88, 1.0)
    side = np.hypot(np.maximum(0.5 - from_end, 0) * (1 - squareness), across)
    inside = side <= reach
    rods = lanes * 512 + part
    pieces = number_pieces(
        np.unique(np.where(inside, rods, -1), return_inverse=True)[1].reshape(SIDE, SIDE).astype(np.int32)
    )
    # none cut by the border between patches, and none where the colony has not grown
    region = smooth_field(rng, (SIDE, SIDE), int(rng.integers(2, 6))) > rng.uniform(-2, 0.5)
    index = np.arange(1, int(pieces.max()) + 1)
    if not len(index):
        return pieces
    areas = ndimage.sum_labels(np.ones_like(pieces), pieces, index)
    grown = ndimage.mean(region, pieces, index) > 0.5
    alone = rng.random(len(index)) < rng.uniform(0.4, 1)
    kept = np.concatenate(([False], grown & alone & (areas > 0.45 * np.median(areas))))
    return _separated(np.where(kept[pieces], pieces, np.int32(0)), _gap(rng))


def _rod_clusters(rng: np.random.Generator, size: float) -> Labels:
    """Clusters of a few bent rods that lie side by side over their whole length, as after divisions without room."""
    labels, taken = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), bool)
    width = max(size / rng.uniform(3, 10), 4.0)
    most, bend = int(rng.integers(1, 6)), rng.uniform(0, 0.9)
    count = int(np.clip(rng.uniform(0.1, 1.2) * SIDE**2 / (size * width * (1 + most)), 2, _MAX_OBJECTS // most))
    number = 0
    for top, left in rng.uniform(0, SIDE, (count, 2)).tolist():
        lanes = int(rng.integers(1, most + 1))
        half = math.ceil(size + lanes * width / 2) + 2
        y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
        angle, turn = rng.uniform(0, 2 * np.pi), rng.normal(0, bend) + 1e-3
        radius = size / turn  # of the arc in the middle of the cluster
        y, x = x * math.sin(angle) + y * math.cos(angle) - radius, x * math.cos(angle) - y * math.sin(angle)
        across = (np.hypot(x, y) - abs(radius)) / width + lanes / 2
        along = np.arctan2(x, -math.copysign(1, radius) * y) * abs(radius)
        shifts, lengths = rng.normal(0, 0.15, lanes) * size, size * rng.uniform(0.7, 1.15, lanes)
        lane = np.floor(across).astype(int)
        row = lane.clip(0, lanes - 1)
        end = np.maximum(np.abs(along - shifts[row]) - (lengths[row] - width) / 2, 0) / width
        mask = (lane == row) & (np.hypot(end, across - lane - 0.5) <= 0.5) & (np.abs(along) < 1.5 * abs(radius))
        for each in range(lanes):
            number += _stamp(labels, taken, mask & (row == each), top, left, number + 1, "beside")
    return _separated(labels, _gap(rng))


def _budding(rng: np.random.Generator, size: float) -> Labels:
    """Round cells with one or more buds at necks, each bud an object."""
    labels, taken = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), bool)
    outline, aspect, gap = _outline(rng), rng.uniform(1, 1.5), _gap(rng)
    count = int(np.clip(rng.uniform(0.2, 1.5) * (SIDE / size) ** 2, 3, _MAX_OBJECTS))
    bud_share, number = rng.uniform(0.2, 0.9), 0
    for place in _positions(rng, count, size):
        radius = size / 2 * math.exp(rng.normal(0, 0.2))
        body, at = _blob(rng, outline, radius, aspect, rng.uniform(0, 3)), place
        number += _stamp(labels, taken, body, at[0], at[1], number + 1, "beside")
        while rng.random() < bud_share and number < _MAX_OBJECTS:
            angle, young = rng.uniform(0, 2 * np.pi), radius * rng.uniform(0.35, 0.95)
            away = (radius + young) * rng.uniform(0.85, 1.0)
            at, radius = at + away * np.array([math.sin(angle), math.cos(angle)]), young
            bud = _blob(rng, outline, radius, aspect, angle)
            number += _stamp(labels, taken, bud, at[0], at[1], number + 1, "beside")
    return _separated(labels, gap)


def _overlapping(rng: np.random.Generator, size: float) -> Labels:
    """Groups of rounded bodies pressed into each other, told apart by the notches in their common outline only."""
    labels, nearest = np.zeros((SIDE, SIDE), np.int32), np.ones((SIDE, SIDE))
    most, spread, aspect = int(rng.integers(1, 7)), rng.uniform(0.05, 0.3), rng.uniform(1, 2.2)
    closeness = rng.uniform(0.7, 0.95)
    count = int(np.clip(rng.uniform(0.15, 1.0) * (SIDE / size) ** 2, 3, _MAX_OBJECTS))
    number = 0
    while number < count:
        group = [(*rng.uniform(0, SIDE, 2).tolist(), size / 2 * math.exp(rng.normal(0, spread)))]
        for _ in range(int(rng.integers(0, most))):
            y, x, radius = group[int(rng.integers(len(group)))]
            own, angle = size / 2 * math.exp(rng.normal(0, spread)), rng.uniform(0, 2 * math.pi)
            away = (radius + own) * closeness * rng.uniform(0.9, 1.05)
            group.append((y + away * math.sin(angle), x + away * math.cos(angle), own))
        for y, x, radius in group:
            number += 1
            reach = math.ceil(radius * math.sqrt(aspect)) + 1
            y0, y1 = max(int(y) - reach, 0), min(int(y) + reach + 2, SIDE)
            x0, x1 = max(int(x) - reach, 0), min(int(x) + reach + 2, SIDE)
            if y0 >= y1 or x0 >= x1:
                continue
            stretch, angle = math.sqrt(aspect ** rng.uniform(0, 1)), rng.uniform(0, math.pi)
            rows, columns = np.ogrid[y0:y1, x0:x1]
            dy, dx = rows - y, columns - x
            along, across = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
            away_from_middle = np.hypot(along / stretch, across * stretch) / radius
            spot = (slice(y0, y1), slice(x0, x1))
            closer = away_from_middle < nearest[spot]
            labels[spot][closer] = number
            nearest[spot][closer] = away_from_middle[closer]
    return _separated(labels, 0 if rng.random() < 0.7 else 1)


def _nearest_seed(rng: np.random.Generator, seeds: NDArray[np.float64], anisotropy: float, bent: float) -> Labels:
    """For each pixel the row of the nearest seed, plus 1."""
    marked = np.ones((SIDE, SIDE), bool)
    rows = np.zeros((SIDE, SIDE), np.int32)
    at = np.clip(np.rint(seeds), 0, SIDE - 1).astype(int)
    marked[at[:, 0], at[:, 1]] = False
    rows[at[:, 0], at[:, 1]] = np.arange(1, len(at) + 1)
    nearest = ndimage.distance_transform_edt(
        marked, sampling=(1.0, anisotropy), return_distances=False, return_indices=True
    )
    labels: Labels = rows[nearest[0], nearest[1]]
    if bent <= 0:
        return labels
    cells = int(rng.integers(3, 20))
    moves = [smooth_field(rng, (SIDE, SIDE), cells) * np.float32(bent * SIDE / cells * 0.2) for _ in range(2)]
    y, x = np.indices((SIDE, SIDE))
    y = np.clip(np.rint(y + moves[0]), 0, SIDE - 1).astype(int)
    x = np.clip(np.rint(x + moves[1]), 0, SIDE - 1).astype(int)
    moved: Labels = labels[y, x]
    return moved


def _tissue(rng: np.random.Generator, size: float) -> Labels:
    """Cells that fill the plane, with walls between them, some of them missing; or irregular grains."""
    count = int(np.clip((SIDE / size) ** 2, 4, 900))
    if rng.random() < 0.5:
        seeds = rng.uniform(0, SIDE, (count, 2))
    else:  # rather even
        pitch = size
        y, x = np.mgrid[pitch / 2 : SIDE : pitch, pitch / 2 : SIDE : pitch]
        seeds = np.stack((y.ravel(), x.ravel()), 1) + rng.normal(0, pitch * rng.uniform(0.1, 0.35), (y.size, 2))
    labels = _nearest_seed(rng, seeds, math.exp(rng.normal(0, 0.3)), rng.uniform(0, 1) * (rng.random() < 0.6))
    if rng.random() < 0.3:  # grains: seeds in groups
        groups = max(2, int(count / rng.uniform(2, 8)))
        owner = np.concatenate(([0], rng.integers(1, groups + 1, len(seeds))))
        coarse = rng.uniform(0, SIDE, (groups, 2))
        away = ((seeds[:, None] - coarse[None]) ** 2).sum(-1)
        owner[1:] = away.argmin(1) + 1
        labels = owner.astype(np.int32)[labels]
    if rng.random() < 0.4:
        gone = rng.random(int(labels.max()) + 1) < rng.uniform(0.05, 0.6)
        labels = np.where(gone[labels], np.int32(0), labels)
    if rng.random() < 0.3:
        labels = np.where(smooth_field(rng, labels.shape, int(rng.integers(1, 5))) > 0.8, np.int32(0), labels)
    wall = 0 if rng.random() < 0.3 else int(np.clip(math.exp(rng.uniform(0, math.log(8))), 1, size / 4))
    return _separated(labels, wall)


def _domains(rng: np.random.Generator, size: float) -> Labels:
    """Pores, precipitates, islands: where a random field is high."""
    cells = max(2, round(SIDE / size * rng.uniform(0.6, 1.2)))
    field = smooth_field(rng, (SIDE, SIDE), cells)
    for finer in (2, 4, 8):
        field = field + smooth_field(rng, (SIDE, SIDE), min(cells * finer, 140)) * np.float32(rng.uniform(0, 0.35))
    if rng.random() < 0.3:
        field = np.abs(field) * -1 + np.float32(0.8)
    high = np.quantile(field, rng.uniform(0.5, 0.92))
    mask = field > high
    if rng.random() < 0.5:
        mask = ndimage.binary_opening(mask, iterations=1)
    if rng.random() < 0.3:
        mask = ndimage.binary_fill_holes(mask)
    labels: Labels = label_pieces(mask, connectivity=1).astype(np.int32)
    return labels


def _path(rng: np.random.Generator, length: float, wind: float, angle: float) -> NDArray[np.float64]:
    """(N, 2) points a pixel apart along a winding line from 0."""
    steps = max(4, int(length))
    turn = angle + ndimage.gaussian_filter1d(np.cumsum(rng.normal(0, wind, steps)), 3)
    return np.cumsum(np.stack((np.sin(turn), np.cos(turn)), 1), 0)


def _tube(path: NDArray[np.float64], widths: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """A mask of discs along a path, and its middle."""
    low, high = path.min(0) - widths.max() - 2, path.max(0) + widths.max() + 2
    middle = np.rint((low + high) / 2)
    half = np.ceil((high - low) / 2).astype(int) + 1
    mask = np.zeros((2 * half[0] + 1, 2 * half[1] + 1), bool)
    for point, width in zip(path, widths, strict=True):
        y, x = point - middle + half
        reach = int(width) + 2
        top, left = int(y) - reach, int(x) - reach
        rows, columns = np.ogrid[top : top + 2 * reach + 2, left : left + 2 * reach + 2]
        mask[top : top + 2 * reach + 2, left : left + 2 * reach + 2] |= (rows - y) ** 2 + (columns - x) ** 2 <= width**2
    return mask, middle


def _fibres(rng: np.random.Generator, size: float) -> Labels:
    """Worms and fibres that cross or lie side by side."""
    labels, taken = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), bool)
    width = float(np.clip(size / 8, 1.5, 9)) * rng.uniform(0.7, 1.2)
    length, wind = width * rng.uniform(10, 60), rng.uniform(0.01, 0.12)
    mode = str(rng.choice(["over", "beside", "apart"], p=[0.5, 0.25, 0.25]))
    common = rng.uniform(0, np.pi) if rng.random() < 0.4 else None
    count = int(np.clip(rng.uniform(0.1, 0.7) * SIDE**2 / (2 * width * length), 2, 60))
    for number in range(1, count + 1):
        angle = rng.uniform(0, 2 * np.pi) if common is None else common + rng.normal(0, 0.2)
        path = _path(rng, min(length * rng.uniform(0.6, 1.4), 500), wind, angle)
        place = rng.uniform(0, SIDE, 2)
        ends = np.minimum(np.arange(len(path)), np.arange(len(path))[::-1]) / max(len(path) / 2, 1)
        widths = width * (1 - rng.uniform(0, 0.7) * (1 - ends) ** 2)
        mask, middle = _tube(path[::2], widths[::2])
        y, x = (place + middle - path.mean(0)).tolist()
        _stamp(labels, taken, mask, y, x, number, mode)
    return _separated(labels, _gap(rng))


def _spread_cells(rng: np.random.Generator, size: float) -> Labels:
    """Flat cells with processes."""
    labels, taken = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), bool)
    size = max(size, 28)
    outline, aspect = _outline(rng), rng.uniform(1, 3)
    count = int(np.clip(rng.uniform(0.1, 0.8) * (SIDE / size) ** 2, 2, 60))
    arms, thin = rng.uniform(1, 6), rng.uniform(0.06, 0.22)
    for number, place in enumerate(_positions(rng, count, size)[:count], start=1):
        radius = size / 2 * rng.uniform(0.35, 0.6)
        body = _blob(rng, outline, radius, aspect, rng.uniform(0, np.pi))
        mask = np.zeros((4 * int(size) + 1,) * 2, bool)
        middle, half = 2 * int(size), body.shape[0] // 2
        if half > middle:
            continue
        mask[middle - half : middle + half + 1, middle - half : middle + half + 1] |= body
        for _ in range(int(rng.poisson(arms))):
            path = _path(rng, size * rng.uniform(0.4, 1.2), 0.06, rng.uniform(0, 2 * np.pi))
            widths = np.linspace(max(radius * rng.uniform(0.3, 0.9), 2), max(size * thin / 2, 1.2), len(path))
            arm, at = _tube(path[::2], widths[::2])
            top, left = (np.array([middle, middle]) + at - np.array(arm.shape) // 2).astype(int)
            y0, x0 = max(top, 0), max(left, 0)
            part = arm[y0 - top : mask.shape[0] - top, x0 - left : mask.shape[1] - left]
            mask[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] |= part
        _stamp(labels, taken, mask, place[0], place[1], number, "beside")
    return _separated(labels, _gap(rng))


def _glands(rng: np.random.Generator, size: float) -> Labels:
    """Rings of cells around lumina: the cells, or the rings as wholes."""
    size = max(size, 12)
    outline = _outline(rng)
    rings, taken = np.zeros((SIDE, SIDE), np.int32), np.zeros((SIDE, SIDE), bool)
    large = size * rng.uniform(2.5, 5)
    count = int(np.clip(rng.uniform(0.4, 1.2) * (SIDE / large) ** 2, 1, 30))
    for number, (y, x) in enumerate(rng.uniform(0, SIDE, (count, 2)), start=1):
        _stamp(
            rings, taken, _blob(rng, outline, large / 2, rng.uniform(1, 1.6), rng.uniform(0, 3)), y, x, number, "beside"
        )
    depth = ndimage.distance_transform_edt(rings > 0)
    rings[depth > size * rng.uniform(0.6, 1.1)] = 0
    if rng.random() < 0.4:
        return rings
    cells = _nearest_seed(rng, rng.uniform(0, SIDE, (int(np.clip((SIDE / size) ** 2, 4, 900)), 2)), 1.0, 0.0)
    return _separated(np.where(rings > 0, cells + rings * 1000, 0).astype(np.int32), _gap(rng))


ARRANGEMENTS: dict[str, Callable[[np.random.Generator, float], Labels]] = {
    "bodies": _bodies,
    "packed_rods": _packed_rods,
    "colony": _colony,
    "rod_clusters": _rod_clusters,
    "budding": _budding,
    "overlapping": _overlapping,
    "tissue": _tissue,
    "domains": _domains,
    "fibres": _fibres,
    "spread_cells": _spread_cells,
    "glands": _glands,
}
"""How objects may lie; each takes a generator and the size of an object in pixels and gives labels."""


# ---------------------------------------------------------------- parts and clumps


def _relative_depth(labels: Labels) -> NDArray[np.float32]:
    """0 at an object's outline, 1 at its deepest point."""
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    depth = ndimage.distance_transform_edt(~(edge | (labels == 0)))
    most = ndimage.maximum(depth, labels, np.arange(int(labels.max()) + 1))
    relative: NDArray[np.float32] = (depth / np.maximum(most, 1)[labels] * (labels > 0)).astype(np.float32)
    return relative


def _parts(rng: np.random.Generator, objects: Labels) -> tuple[Labels, ...]:
    """One or two kinds of parts: a core in each object, and bodies inside the objects or inside the cores."""
    found: list[Labels] = []
    relative = _relative_depth(objects)
    side = objects.shape
    if rng.random() < 0.65:
        uneven = smooth_field(rng, side, int(rng.integers(6, 24))) * np.float32(rng.uniform(0, 0.25))
        core = relative + uneven * (relative > 0.15) > rng.uniform(0.35, 0.75)
        found.append(number_pieces(np.where(core, objects, np.int32(0))))
    if not found or rng.random() < 0.4:
        host = found[0] if found and rng.random() < 0.4 else objects
        speckle = smooth_field(rng, side, int(rng.integers(24, 110)))
        inner = (host > 0) & (relative > rng.uniform(0.05, 0.35))
        grains = inner & (speckle > rng.uniform(0.6, 1.6))
        if found and host is objects:
            grains &= found[0] == 0
        found.append(number_pieces(np.where(grains, objects, np.int32(0))))
    return tuple(part for part in found if part.any())


def _clumps(rng: np.random.Generator, objects: Labels) -> Labels | None:
    """Groups of objects with at most a few pixels between them."""
    reach = rng.uniform(1.5, 5)
    close = ndimage.distance_transform_edt(objects == 0) <= reach
    filled = ndimage.distance_transform_edt(close) > reach
    groups: Labels = label_pieces(filled | (objects > 0), connectivity=1).astype(np.int32)
    members = np.zeros(int(groups.max()) + 1, int)
    ids, first = np.unique(objects, return_index=True)
    np.add.at(members, groups.reshape(-1)[first[ids > 0]], 1)
    members[0] = 0
    areas = np.bincount(groups.reshape(-1))
    keep = (members >= 2) & (areas < 0.5 * objects.size)
    if not keep.any():
        return None
    return np.where(keep[groups], groups, np.int32(0))
