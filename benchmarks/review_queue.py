"""How true the review queue is: precision and recall of its flags for masks whose IoU with the truth is below 0.7.

python benchmarks/review_queue.py FOLDER_OF_PACKS...
python benchmarks/review_queue.py FOLDER_OF_PACKS... --sessions kept --json review.json

Objects of procedural stacks and movies (new seeds), and of data packs with volumes, get one click each in the middle
of their largest section and are propagated in both directions. A mask that the model tracked is wrong if its IoU with
the truth is below 0.7, an empty one if the object is there at more than a quarter of its largest section. An object is
good if none of its masks is wrong. ``--sessions`` keeps the sessions, so that other rules can be tried without
tracking again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from clips import MIN_AREA, mask_iou
from numpy.typing import NDArray

from napari_sam2 import Prompt, Session
from napari_sam2.session.results.review import doubtful_frames
from napari_sam2.training.click_simulation import interior_point
from napari_sam2.training.packs import load_pack
from napari_sam2.training.synthetic import make_clip, make_demo_stack, make_dividing_cells_movie, make_em_stack

WRONG_BELOW = 0.7
MISSED_ABOVE = 0.25  # of the largest section: a smaller rest that is not found is the end of the object
CLIP_FRAMES, CLIP_SIZE = 16, 192
NUM_CLIPS = 6


@dataclass(frozen=True, eq=False)
class Case:
    """A stack with its truth.

    Attributes
    ----------
    name, group : str
        Of the stack, and of the line of the table that counts it; the groups of samples begin with "sample".
    frames, truth : numpy.ndarray
        (T, H, W[, 3]) values, and (T, H, W) labels.
    """

    name: str
    group: str
    frames: NDArray[np.generic]
    truth: NDArray[np.int32]


@dataclass(frozen=True)
class Truth:
    """What the queue says of one group, and what is true.

    Attributes
    ----------
    num_masks, num_wrong, num_flags, num_hits : int
        Masks that the model tracked, how many are wrong, flagged, and both.
    num_objects, num_good, num_false_on_good : int
        Objects, those without a wrong mask, and the flags on them.
    """

    num_masks: int = 0
    num_wrong: int = 0
    num_flags: int = 0
    num_hits: int = 0
    num_objects: int = 0
    num_good: int = 0
    num_false_on_good: int = 0

    def __add__(self, other: Truth) -> Truth:
        mine, others = asdict(self), asdict(other)
        return Truth(**{name: mine[name] + others[name] for name in mine})

    @property
    def precision(self) -> float:
        """Share of the flags that are on wrong masks; 1 without any."""
        return self.num_hits / self.num_flags if self.num_flags else 1.0

    @property
    def recall(self) -> float:
        """Share of the wrong masks that are flagged; 1 without any."""
        return self.num_hits / self.num_wrong if self.num_wrong else 1.0


def sample_cases() -> Iterator[Case]:
    """The samples of File > Open Sample."""
    for name, make in (("nuclei", make_demo_stack), ("cells", make_dividing_cells_movie), ("neurites", make_em_stack)):
        frames, truth = make()
        yield Case(name, f"sample {name}", frames, truth)


def procedural_cases(first_seed: int) -> Iterator[Case]:
    """Stacks and movies of other seeds, and clips of random kinds."""
    for seed in (first_seed, first_seed + 1):
        for name, make in (
            ("nuclei", make_demo_stack),
            ("cells", make_dividing_cells_movie),
            ("neurites", make_em_stack),
        ):
            frames, truth = make(seed)
            yield Case(f"{name}_{seed}", "procedural", frames, truth)
    for seed in range(first_seed, first_seed + NUM_CLIPS):
        clip = make_clip(np.random.default_rng(seed), num_frames=CLIP_FRAMES, size=CLIP_SIZE)
        yield Case(f"clip_{seed}", "procedural", clip.frames, clip.labels)


def pack_cases(folders: list[Path]) -> Iterator[Case]:
    """Volumes and movies of data packs."""
    for path in sorted(path for folder in folders for path in folder.glob("*.npz")):
        for at, stack in enumerate(load_pack(path)):
            if stack.is_sequence and len(stack) > 1:
                truth = np.asarray(stack.labels).astype(np.int32)
                if stack.trusted_ids is not None:
                    truth[~np.isin(truth, list(stack.trusted_ids))] = 0
                yield Case(f"{path.stem}_{at}", path.stem.rstrip("_0123456789"), stack.frames, truth)


def tracked(case: Case, limit: int, kept: Path | None, model: str) -> tuple[Session, dict[int, int]]:
    """A session with some objects of a case propagated, and object -> number in the truth."""
    truth = case.truth
    sizes = np.stack([np.bincount(plane.ravel(), minlength=int(truth.max()) + 1) for plane in truth])
    numbers = [int(i) for i in np.flatnonzero(sizes.max(0) >= MIN_AREA) if i]
    if len(numbers) > limit:
        numbers = sorted(np.random.default_rng(0).choice(numbers, limit, replace=False).tolist())
    places = {at + 1: int(number) for at, number in enumerate(numbers)}
    path = None if kept is None else kept / f"{case.name}.sam2"
    if path is not None and path.exists():
        return Session.load(path, case.frames), places
    session = Session(case.frames, model=model)
    for object_id, number in places.items():
        plane = int(sizes[:, number].argmax())
        point = interior_point(truth[plane] == number)
        session.new_object(object_id=object_id)
        session.set_prompt(plane, Prompt(points=[point], labels=[1]), object_id=object_id)
    if places:
        session.propagate("both")
    if path is not None:
        session.save(path)
    return session, places


def judge(session: Session, places: dict[int, int], truth: NDArray[np.int32]) -> Truth:
    """Compare the queue of a session with the truth."""
    flags = {(doubt.object_id, doubt.plane) for doubt in doubtful_frames(session)}
    found = Truth()
    for object_id, number in places.items():
        is_number = truth == number
        largest = is_number.sum((1, 2)).max()
        wrong: set[tuple[int, int]] = set()
        mine = {(i, p): m for (i, p), m in session.store.masks.items() if i == object_id and m.kind != "prompted"}
        for (_, plane), mask in mine.items():
            there = is_number[plane]
            if mask.area:
                is_wrong = mask_iou(mask.to_image(there.shape), there) < WRONG_BELOW
            else:
                is_wrong = bool(there.sum() > MISSED_ABOVE * largest)
            if is_wrong:
                wrong.add((object_id, plane))
        flagged = flags & mine.keys()
        found += Truth(
            len(mine),
            len(wrong),
            len(flagged),
            len(flagged & wrong),
            1,
            int(not wrong),
            0 if wrong else len(flagged),
        )
    return found


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", help="folders of data packs")
    parser.add_argument("--model", default="sam2_micro")
    parser.add_argument("--limit", type=int, default=8, help="objects of each stack")
    parser.add_argument("--seed", type=int, default=1001, help="first seed of the procedural stacks")
    parser.add_argument("--sessions", type=Path, help="folder in which tracked sessions are kept")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.sessions is not None:
        args.sessions.mkdir(parents=True, exist_ok=True)
    groups: dict[str, Truth] = {}
    for cases in (sample_cases(), procedural_cases(args.seed), pack_cases(args.folders)):
        for case in cases:
            session, places = tracked(case, args.limit, args.sessions, args.model)
            found = judge(session, places, case.truth)
            session.close()
            groups[case.group] = groups.get(case.group, Truth()) + found
            print(f"{case.name}: {found}", flush=True)
    groups["all"] = sum(groups.values(), Truth())
    print(f"{'':28} objects  good  masks  wrong  flags  precision  recall  flags on good")
    for name, each in groups.items():
        print(
            f"{name:28} {each.num_objects:7}  {each.num_good:4}  {each.num_masks:5}  {each.num_wrong:5}  "
            f"{each.num_flags:5}  {each.precision:9.2f}  {each.recall:6.2f}  {each.num_false_on_good:13}"
        )
    if args.json is not None:
        args.json.write_text(json.dumps({name: asdict(each) for name, each in groups.items()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
