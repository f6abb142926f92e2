"""Tables of a session's objects and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from napari_sam2.session.state.store import SessionStore

__all__ = ["lineage_table", "object_table", "score_table"]


def score_table(store: SessionStore) -> pd.DataFrame:
    """One row per object and plane with a mask, by object in the order of creation, then plane.

    Parameters
    ----------
    store : SessionStore
        Of a session.

    Returns
    -------
    pandas.DataFrame
        object; name; frame (position on the frame axis); for each other axis before H and W its index, as axis_0,
        axis_1 and so on; iou (predicted, 0 to 1) and object_score (logit), NaN where the model did not predict the
        mask; area in pixels; kind ("prompted", "tracked", "painted" or "lost"); locked; stale.
    """
    import pandas as pd

    geometry = store.geometry
    columns = ["object", "name", "frame", *(f"axis_{a}" for a in geometry.fixed_axes)]
    columns += ["iou", "object_score", "area", "kind", "locked", "stale"]
    rows = []
    for object_id, item in store.objects.items():
        for plane in store.planes_of(object_id):
            mask, index = store.masks[object_id, plane], geometry.index(plane)
            rows.append(
                (
                    object_id,
                    item.name,
                    geometry.frame(plane),
                    *(index[a] for a in geometry.fixed_axes),
                    mask.iou,
                    mask.object_score,
                    mask.area,
                    mask.kind,
                    plane in item.locked,
                    mask.is_stale,
                )
            )
    table = pd.DataFrame(rows, columns=columns)
    whole = ["object", "frame", *(f"axis_{a}" for a in geometry.fixed_axes), "area"]
    kinds = dict.fromkeys(whole, int) | {"iou": float, "object_score": float, "locked": bool, "stale": bool}
    return table.astype(kinds)


def object_table(store: SessionStore) -> pd.DataFrame:
    """One row per object, in the order of creation.

    Parameters
    ----------
    store : SessionStore
        Of a session.

    Returns
    -------
    pandas.DataFrame
        object; name; class; prompts (planes with one); frames (planes that show it); first and last of those planes, -1
        where there is none; mean_iou over planes with a score; mean_area where it is shown, in pixels; locked
        (planes); visible.
    """
    import pandas as pd

    rows = []
    for object_id, item in store.objects.items():
        masks = {plane: store.masks[object_id, plane] for plane in store.planes_of(object_id)}
        shown = [plane for plane, mask in masks.items() if mask.area]
        scores = [mask.iou for mask in masks.values() if mask.area and not np.isnan(mask.iou)]
        rows.append(
            (
                object_id,
                item.name,
                item.class_name,
                len(store.prompts_of(object_id)),
                len(shown),
                shown[0] if shown else -1,
                shown[-1] if shown else -1,
                float(np.mean(scores)) if scores else float("nan"),
                float(np.mean([masks[plane].area for plane in shown])) if shown else float("nan"),
                len(item.locked),
                item.is_visible,
            )
        )
    columns = [
        "object",
        "name",
        "class",
        "prompts",
        "frames",
        "first",
        "last",
        "mean_iou",
        "mean_area",
        "locked",
        "visible",
    ]
    return pd.DataFrame(rows, columns=columns)


def lineage_table(store: SessionStore) -> pd.DataFrame:
    """One row per object, in the order of creation, with its parent and its daughters.

    Parameters
    ----------
    store : SessionStore
        Of a session.

    Returns
    -------
    pandas.DataFrame
        As for ``Session.lineage``.
    """
    import pandas as pd

    generations: dict[int, int] = {}

    def generation(object_id: int) -> int:
        line = []
        current: int | None = object_id
        while current is not None and current not in generations:
            line.append(current)
            current = store.objects[current].parent
        depth = -1 if current is None else generations[current]
        for each in reversed(line):
            depth += 1
            generations[each] = depth
        return generations[object_id]

    daughters: dict[int, list[int]] = {}
    for object_id, item in store.objects.items():
        if item.parent is not None:
            daughters.setdefault(item.parent, []).append(object_id)
    rows = []
    for object_id, item in store.objects.items():
        shown = [plane for plane in store.planes_of(object_id) if store.masks[object_id, plane].area]
        rows.append(
            (
                object_id,
                item.name,
                item.parent or 0,
                -1 if item.born is None else item.born,
                shown[0] if shown else -1,
                shown[-1] if shown else -1,
                generation(object_id),
                tuple(sorted(daughters.get(object_id, ()))),
            )
        )
    columns = ["object", "name", "parent", "born", "first", "last", "generation", "daughters"]
    return pd.DataFrame(rows, columns=columns)
