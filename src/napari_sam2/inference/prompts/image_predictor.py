"""Segment objects in one image from clicks, boxes and masks; each view is encoded once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_sam2._arguments import as_array, checked_calls
from napari_sam2._checks import check_frame, check_number
from napari_sam2._errors import FrameError, PromptError
from napari_sam2._messages import shown
from napari_sam2._types import FrameSource, MaskPrediction, Prompt
from napari_sam2.frames import image_to_rgb
from napari_sam2.inference.masks.components import clean_low_resolution
from napari_sam2.inference.masks.logits import LOGIT_LIMIT
from napari_sam2.inference.prompts.prompt_arrays import (
    NO_POINTS,
    as_prompts,
    clicks_in,
    mask_inputs_of,
    prompts_from_arrays,
)
from napari_sam2.inference.views.click_search import (
    ClickSearchSettings,
    ViewCandidates,
    answer_prompts,
    keep_clicked_components,
)
from napari_sam2.inference.views.embedding_cache import EmbeddingCache
from napari_sam2.inference.views.encoder import encode_views, one_row_per_view, views_to_model
from napari_sam2.inference.views.lattice import WindowLattice
from napari_sam2.inference.views.transforms import masks_to_image, not_mirrored, prompts_to_model, resample_logits
from napari_sam2.inference.views.view import (
    View,
    choose_view,
    contains_prompt,
    view_for_extent,
    whole_view,
)
from napari_sam2.inference.views.view_tracking import view_with_prompt
from napari_sam2.network.features import ImageEmbedding
from napari_sam2.network.sam2 import SAM2, STABILITY_THRESHOLD
from napari_sam2.weights.loading import ensure_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

__all__ = ["SAM2ImagePredictor"]

_BATCH = 16  # prompts decoded together


@checked_calls(PromptError)
class SAM2ImagePredictor:
    """Segments prompted objects in one image.

    Parameters
    ----------
    model : SAM2, str, Path or None
        A network, or a name or path for ``load_model``; ``None`` is the bundled model.
    mask_threshold : float, default 0.0
        Logits above this are part of the mask.
    max_hole_area, max_sprinkle_area : float, default 0
        Holes are filled and islands removed up to these areas, in pixels of the low-resolution mask (a quarter of the
        model's input), on any device. 0 leaves masks unchanged.
    stability_threshold : float or None, default 0.98
        A single mask with a lower stability is replaced by the best of three; ``None`` never.
    cache : EmbeddingCache, optional
        Cache of encoded views, which can be shared with other predictors.
    click_search : ClickSearchSettings, optional
        How clicks are decoded at several scales, for models with a native window.

    Raises
    ------
    PromptError
        If a threshold or area is not allowed.

    Notes
    -----
    With a model that has a ``native_window``, such as ``sam2_micro``, each prompt is decoded in a crop around it, at a
    suitable scale. With the released models the whole image is resized to the model's input, as in the reference.

    References
    ----------
    .. [1] Ravi et al., SAM 2, 2024. arXiv:2408.00714

    Examples
    --------
    >>> predictor = SAM2ImagePredictor()
    >>> predictor.set_image(image)
    >>> masks, scores, logits = predictor.predict(point_coords=[[120, 80]], point_labels=[1])
    """

    def __init__(
        self,
        model: SAM2 | str | Path | None = None,
        *,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        stability_threshold: float | None = STABILITY_THRESHOLD,
        cache: EmbeddingCache | None = None,
        click_search: ClickSearchSettings = ClickSearchSettings(),
    ) -> None:
        check_number("mask_threshold", mask_threshold)
        check_number("max_hole_area", max_hole_area, 0)
        check_number("max_sprinkle_area", max_sprinkle_area, 0)
        if stability_threshold is not None:
            check_number("stability_threshold", stability_threshold, 0, 1)
        self.model = ensure_model(model)
        self.click_search = click_search
        self.mask_threshold = mask_threshold
        self.max_hole_area = max_hole_area
        self.max_sprinkle_area = max_sprinkle_area
        self.stability_threshold = stability_threshold
        self.cache = EmbeddingCache() if cache is None else cache
        self._rgb: NDArray[np.uint8] | None = None
        self._key: tuple[str, int] = ("", 0)
        self._last_views: list[View] = []
        self._num_frames = 1

    # ------------------------------------------------------------------ image
    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the current image."""
        rgb = self._require_image()
        return rgb.shape[0], rgb.shape[1]

    def set_image(self, image: ArrayLike) -> None:
        """Set the image to segment.

        Parameters
        ----------
        image : array-like
            (H, W), (H, W, 3 or 4) or (C, H, W) of any dtype. 8-bit RGB is used unchanged; the contrast of anything else
            is stretched from the 0.1 to the 99.9 percentile.

        Raises
        ------
        FrameError
            If the array is empty or is not an image.
        PromptError
            If it is not an array of numbers.
        """
        rgb = image_to_rgb(image)
        digest = hashlib.blake2b(rgb.tobytes(), digest_size=16).hexdigest()
        self._set(rgb, (f"image:{rgb.shape}:{digest}", 0))
        self._num_frames = 1

    def set_frame(self, frames: FrameSource, frame: int) -> None:
        """Set one frame of a stack as the image; encoded views are shared with a video segmenter using the same cache.

        Prompts are answered as in a session of the stack: a box without the narrower view of single images.

        Raises
        ------
        FrameError
            If ``frames`` is not a frame source, or the frame cannot be read.
        PromptError
            If the frame does not exist.
        """
        if not isinstance(frames, FrameSource):
            raise FrameError(
                f"{type(frames).__name__} was given as frames; give the result of open_frames, or use set_image(image)"
            )
        frame = check_frame(frame, len(frames))
        self._set(frames[frame], (frames.key, frame))
        self._num_frames = len(frames)

    def _set(self, rgb: NDArray[np.uint8], key: tuple[str, int]) -> None:
        self._rgb = rgb
        self._key = key
        self._last_views = []
        if self.model.config.native_window is None:
            with torch.inference_mode():
                self._embed(whole_view(self.image_hw))

    def reset(self) -> None:
        """Remove the image."""
        self._rgb = None
        self._last_views = []

    def get_image_embedding(self) -> NDArray[np.float32]:
        """Features of the whole image, the input of the mask decoder, (1, C, S/16, S/16) float32."""
        with torch.inference_mode():
            return self.model.without_memory(self._embed(whole_view(self.image_hw))).float().cpu().numpy()

    def _require_image(self) -> NDArray[np.uint8]:
        if self._rgb is None:
            raise PromptError("no image is set; call set_image(image) before predict")
        return self._rgb

    def _embed(self, view: View) -> ImageEmbedding:
        return self._embed_all([view])[view]

    def _embed_all(self, views: Iterable[View]) -> dict[View, ImageEmbedding]:
        rgb, model = self._require_image(), self.model
        each = list(dict.fromkeys(views))
        keys = [(*self._key, view, model.image_size, id(model), "bilinear") for view in each]
        found = self.cache.get_or_encode_all(keys, lambda missing: encode_views(model, rgb, [each[i] for i in missing]))
        return dict(zip(each, found, strict=True))

    # ------------------------------------------------------------------ prompts
    def predict(
        self,
        prompts: Prompt | Sequence[Prompt] | None = None,
        *,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> MaskPrediction:
        """Segment prompted objects.

        Parameters
        ----------
        prompts : Prompt or sequence of Prompt, optional
            One prompt, or one per object; objects are decoded in as few calls as possible. Replaces the next three
            parameters.
        point_coords : (N, 2) or (P, N, 2) array-like, optional
            Clicks as (x, y) in image pixels.
        point_labels : (N,) or (P, N) array-like, optional
            1 for object, 0 for background; default all 1.
        box : (4,) or (P, 4) array-like, optional
            x0, y0, x1, y1 in image pixels.
        mask_input : (1, h, w) or (P, 1, h, w) array-like, optional
            ``logits`` of the latest prediction of the same object, to be refined. If the new prompt lies outside the
            view of that prediction, the view is enlarged.
        multimask_output : bool, default True
            Return three candidates, for ambiguous prompts; otherwise one mask.
        return_logits : bool, default False
            Return float32 logits at the size of the image instead of bool masks.

        Returns
        -------
        MaskPrediction
            ``masks`` (M, H, W), ``scores`` (M,), ``logits`` (M, h, w), M = 3 or 1; with a leading axis of P for
            a sequence of prompts or a batch.

        Raises
        ------
        PromptError
            If no image is set, no prompt is given, or a prompt is malformed or lies outside the image.
        """
        hw = self.image_hw
        if prompts is None:
            batch, mask_inputs, is_single = prompts_from_arrays(point_coords, point_labels, box, mask_input)
        else:
            if any(value is not None for value in (point_coords, point_labels, box)):
                raise PromptError("prompts and point_coords, point_labels or box were given; give one or the other")
            is_single = isinstance(prompts, Prompt)
            batch = as_prompts(prompts)
            mask_inputs = mask_inputs_of(mask_input, len(batch))
        if not batch:
            raise PromptError("an empty list of prompts was given; give at least one")
        for prompt in batch:
            if prompt is not None:
                prompt.check_inside(hw)
        views, earlier = self._views(batch, mask_inputs)
        with torch.inference_mode():
            low, scores, views = self._answer(batch, views, earlier, multimask=multimask_output)
            low = self._cleaned(low)
            full = [masks_to_image(low[i : i + 1], view, hw)[0] for i, view in enumerate(views)]
            masks = [(m if return_logits else m > self.mask_threshold).cpu().numpy() for m in full]
        self._last_views = views
        logits = low.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).cpu().numpy()
        if is_single:
            return MaskPrediction(masks[0], scores[0].cpu().numpy(), logits[0])
        return MaskPrediction(np.stack(masks), scores.cpu().numpy(), logits)

    def predict_points(
        self,
        points_xy: NDArray[np.float32],
        *,
        multimask_output: bool = True,
        mask_input: Tensor | None = None,
        window: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one positive click per object, for automatic masks; logits are returned as tensors.

        Parameters
        ----------
        points_xy : numpy.ndarray
            (N, 2) clicks in image pixels.
        multimask_output : bool, default True
            Three candidates per click, or one mask.
        mask_input : Tensor, optional
            (N, 1, h, w) low-resolution logits to refine, from the same points and ``window``.
        window : int, optional
            Side in image pixels of the views of a model with a native window; default that window. Views lie on a
            `WindowLattice`, and each point is decoded in the view with the nearest centre.

        Returns
        -------
        logits, scores, low_resolution : Tensor
            (N, M, H, W) float32 at the size of the image, (N, M) and (N, M, h, w).

        Raises
        ------
        PromptError
            As ``decode_points``.
        """
        low, scores, views = self.decode_points(
            points_xy, multimask_output=multimask_output, mask_input=mask_input, window=window
        )
        hw = self.image_hw
        full = low.new_empty((*low.shape[:2], *hw))
        for view in dict.fromkeys(views):
            rows = [i for i, each in enumerate(views) if each == view]
            full[rows] = masks_to_image(low[rows], view, hw)
        return full, scores, low

    def decode_points(
        self,
        points_xy: NDArray[np.float32],
        *,
        multimask_output: bool = True,
        mask_input: Tensor | None = None,
        window: int | None = None,
    ) -> tuple[Tensor, Tensor, list[View]]:
        """Decode one positive click per object as ``predict_points``, without resizing masks to the image.

        Returns
        -------
        low_resolution, scores : Tensor
            (N, M, h, w) and (N, M).
        views : list of View
            The view of each click.

        Raises
        ------
        PromptError
            If no image is set, there is no click, a click lies outside the image, or ``mask_input`` has another shape.
        """
        prompts = clicks_in(points_xy, self.image_hw)
        values = None if mask_input is None else as_array(mask_input, "mask_input", PromptError)
        inputs = mask_inputs_of(values, len(prompts))
        results: list[tuple[Tensor, Tensor]] = []
        order: list[int] = []
        views: dict[int, View] = {}
        with torch.inference_mode():
            for view, rows in self._points_by_view(points_xy, window).items():
                low, scores, _ = self._decode(
                    [prompts[i] for i in rows],
                    [view] * len(rows),
                    [inputs[i] for i in rows],
                    multimask=multimask_output,
                )
                results.append((self._cleaned(low), scores))
                order += rows
                views |= dict.fromkeys(rows, view)
            back = torch.from_numpy(np.argsort(order)).to(self.model.device)
            low, scores = results[0] if len(results) == 1 else (torch.cat(p)[back] for p in zip(*results, strict=True))
        return low, scores, [views[i] for i in range(len(prompts))]

    def predict_zoomed(self, points_xy: NDArray[np.float32], boxes_xyxy: NDArray[np.float32]) -> list[ViewCandidates]:
        """Decode single clicks, each in a view scaled to a box around the object.

        Parameters
        ----------
        points_xy : numpy.ndarray
            (N, 2) clicks in image pixels.
        boxes_xyxy : numpy.ndarray
            (N, 4) x0, y0, x1, y1 around the clicked objects, in image pixels.

        Returns
        -------
        list of ViewCandidates
            One per click: view, logits (1, 3, h, w) of masks without components that the click is not in, and scores
            (1, 3). Models without a native window always see the whole image.

        Raises
        ------
        PromptError
            If no image is set, there is no click, a click lies outside the image, or there is not one box per click.
        """
        hw, window = self.image_hw, self.model.config.native_window
        prompts = clicks_in(points_xy, hw)
        if boxes_xyxy.shape != (len(prompts), 4):
            raise PromptError(
                f"clicks of shape {points_xy.shape} and boxes of shape {boxes_xyxy.shape} were given; expected "
                "(N, 2) and (N, 4), one of each per object"
            )
        views = [choose_view(Prompt(box=box), hw, window) for box in boxes_xyxy]
        with torch.inference_mode():
            found = self._candidates(prompts, views, [None] * len(prompts), multimask=True)
        dropped = self.click_search.dropped_logit
        return [
            keep_clicked_components(each, prompt, dropped_logit=dropped)
            for each, prompt in zip(found, prompts, strict=True)
        ]

    @property
    def has_dense_maps(self) -> bool:
        """Whether the model has a dense head, so that `dense_maps` can be called."""
        return self.model.dense_head is not None

    def dense_maps(self, views: Sequence[View]) -> NDArray[np.float32]:
        """Foreground, borders, distances and affinities of the image, without a prompt.

        Parameters
        ----------
        views : sequence of View
            Windows of the image.

        Returns
        -------
        (B, C, S/4, S/4) float32 array
            From 0 to 1, one row per view; the channels are those of `DenseHead`.

        Raises
        ------
        PromptError
            If the model has no dense head, or no view is given.
        """
        head = self.model.dense_head
        if head is None:
            raise PromptError(
                f"dense maps were requested of {self.model.config.name}, which has no dense head; use sam2_micro, or a "
                "grid of points"
            )
        if not views:
            raise PromptError("no view was given; give at least one window of the image")
        with torch.inference_mode():
            each = list(dict.fromkeys(views))
            embedding = one_row_per_view(self._embed_all(each), each)
            logits: Tensor = head(embedding, views_to_model(self.model, self._require_image(), each))
            maps: NDArray[np.float32] = logits.float().sigmoid().cpu().numpy()
            return maps[[each.index(view) for view in views]]

    def answer_objects(
        self, prompts: Sequence[Prompt], rough_logits: Sequence[NDArray[np.float32] | None], views: Sequence[View]
    ) -> list[ViewCandidates]:
        """The mask of each object in a view of its own, such as the tiles of `dense_maps`.

        Parameters
        ----------
        prompts : sequence of Prompt
            The box of each object, or a click.
        rough_logits : sequence of numpy.ndarray or None
            (S/4, S/4) float32 logits of a rough mask of each object in its view, where S is the model's input size;
            None for an object without one.
        views : sequence of View
            One per object.

        Returns
        -------
        list of ViewCandidates
            One per object, with one mask.

        Raises
        ------
        PromptError
            If there is no object, or not one rough mask or None and one view per object, or a rough mask does not have
            two axes or contains NaN.
        """
        for rough in rough_logits:
            if rough is not None and (rough.ndim != 2 or not rough.size or not np.isfinite(rough).all()):
                raise PromptError(f"the rough mask {shown(rough)} was given; expected (h, w) finite logits")
        return self._answer_in_views(prompts, "objects", views, rough_logits, multimask=False)

    def answer_clicks(self, points_xy: NDArray[np.float32], views: Sequence[View]) -> list[ViewCandidates]:
        """The three candidates of each click in a view of its own, such as the tiles of `dense_maps`.

        Parameters
        ----------
        points_xy : numpy.ndarray
            (N, 2) clicks in image pixels.
        views : sequence of View
            One per click.

        Returns
        -------
        list of ViewCandidates
            One per click.

        Raises
        ------
        PromptError
            If no image is set, there is no click, a click lies outside the image, or there is not one view per click.
        """
        clicks = clicks_in(points_xy, self.image_hw)
        return self._answer_in_views(clicks, "clicks", views, [None] * len(clicks), multimask=True)

    def _answer_in_views(
        self,
        prompts: Sequence[Prompt],
        kind: str,
        views: Sequence[View],
        logits: Sequence[NDArray[np.float32] | None],
        *,
        multimask: bool,
    ) -> list[ViewCandidates]:
        for name, given in (("views", views), ("rough masks", logits)):
            if not prompts or len(prompts) != len(given):
                raise PromptError(
                    f"{len(prompts)} {kind} and {len(given)} {name} were given; expected as many {name} as {kind}, "
                    "at least one"
                )
        with torch.inference_mode():
            return self._candidates(prompts, views, logits, multimask=multimask)

    def _points_by_view(self, points_xy: NDArray[np.float32], window: int | None) -> dict[View, list[int]]:
        """Indices of the points to decode in each view."""
        hw, native = self.image_hw, self.model.config.native_window
        if native is None:
            return {whole_view(hw): list(range(len(points_xy)))}
        lattice = WindowLattice(hw, native if window is None else window)
        boxes = lattice.boxes()
        members: dict[View, list[int]] = defaultdict(list)
        for i, index in enumerate(lattice.nearest(points_xy).tolist()):
            x0, y0, x1, y1 = boxes[index]
            centre_xy = ((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2)
            members[view_for_extent(centre_xy, lattice.side, hw)].append(i)
        return members

    def _cleaned(self, low: Tensor) -> Tensor:
        return clean_low_resolution(
            low,
            mask_threshold=self.mask_threshold,
            max_hole_area=self.max_hole_area,
            max_sprinkle_area=self.max_sprinkle_area,
        )

    def _views(
        self, prompts: Sequence[Prompt | None], mask_inputs: Sequence[NDArray[np.float32] | None]
    ) -> tuple[list[View], list[Tensor | None]]:
        """The view of each prompt, and its earlier logits (1, 1, h, w) in that view.

        Earlier logits belong to the view they were predicted in. Where the prompt reaches beyond it, a view is chosen
        that contains both the prompt and the earlier mask, and the logits are resampled.
        """
        hw, window = self.image_hw, self.model.config.native_window
        views: list[View] = []
        logits: list[Tensor | None] = []
        for i, (prompt, given) in enumerate(zip(prompts, mask_inputs, strict=True)):
            low = None if given is None else torch.from_numpy(given)[None, None]
            previous = self._last_views[i] if low is not None and len(self._last_views) == len(prompts) else None
            if previous is not None:
                view = previous
                if prompt is not None and low is not None and not contains_prompt(previous, prompt):
                    view = view_with_prompt(previous, (low[0, 0] > 0).numpy(), prompt, hw)
                    low = resample_logits(low, previous, view)
            elif prompt is None:
                if window is not None:
                    raise PromptError("mask_input alone was given before any prediction; give a point or a box with it")
                view = whole_view(hw)
            else:
                view = choose_view(prompt, hw, window)
            views.append(view)
            logits.append(low)
        return views, logits

    def _answer(
        self,
        prompts: Sequence[Prompt | None],
        views: Sequence[View],
        logits: Sequence[Tensor | None],
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor, list[View]]:
        """Logits, scores and final view of each prompt."""

        def decode(
            rows: Sequence[int], several: Sequence[View], given: Sequence[Tensor | None]
        ) -> list[ViewCandidates]:
            low = [None if each is None else each[0, 0].float().cpu().numpy() for each in given]
            return self._candidates([prompts[i] for i in rows], several, low, multimask=multimask)

        settings = self.click_search.for_frames(self._num_frames)
        found = answer_prompts(decode, prompts, views, logits, self.image_hw, self.model.config.native_window, settings)
        return (
            torch.cat([each.logits for each in found]),
            torch.cat([each.scores for each in found]),
            [each.view for each in found],
        )

    def _candidates(
        self,
        prompts: Sequence[Prompt | None],
        views: Sequence[View],
        mask_inputs: Sequence[NDArray[np.float32] | None],
        *,
        multimask: bool,
    ) -> list[ViewCandidates]:
        low, scores, presence = self._decode(prompts, views, mask_inputs, multimask=multimask)
        probability = presence.cpu().tolist()
        return [ViewCandidates(view, low[i : i + 1], scores[i : i + 1], probability[i]) for i, view in enumerate(views)]

    def _decode(
        self,
        prompts: Sequence[Prompt | None],
        views: Sequence[View],
        mask_inputs: Sequence[NDArray[np.float32] | None],
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(P, M, h, w) logits, (P, M) scores and (P,) presence; prompts of the same form share decoder calls."""
        groups: dict[tuple[int, bool, bool], list[int]] = defaultdict(list)
        for i, (prompt, given) in enumerate(zip(prompts, mask_inputs, strict=True)):
            num_points = 0 if prompt is None else len(prompt.points)
            has_mask = given is not None or (prompt is not None and prompt.has_mask)
            groups[(num_points, prompt is not None and prompt.box is not None, has_mask)].append(i)
        found: dict[int, tuple[Tensor, ...]] = {}
        for members in groups.values():
            for start in range(0, len(members), _BATCH):
                part = members[start : start + _BATCH]
                decoded = self._decode_batch([prompts[i] for i in part], [views[i] for i in part],
                                             [mask_inputs[i] for i in part], multimask=multimask)  # fmt: skip
                found |= {i: tuple(each[row] for each in decoded) for row, i in enumerate(part)}
        low, scores, presence = (
            torch.stack(each) for each in zip(*(found[i] for i in range(len(prompts))), strict=True)
        )
        return low, scores, presence

    def _decode_batch(
        self,
        prompts: Sequence[Prompt | None],
        views: Sequence[View],
        mask_inputs: Sequence[NDArray[np.float32] | None],
        *,
        multimask: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        embedding = one_row_per_view(self._embed_all(views), views)
        prompt = prompts_to_model(
            [p if p is not None else NO_POINTS for p in prompts],
            views,
            model.image_size,
            device=model.device,
            mask_inputs=mask_inputs,
        )
        decoded = model.decode_masks(
            model.without_memory(embedding),
            embedding.high_res,
            prompt,
            multimask=multimask,
            stability_threshold=self.stability_threshold,
        )
        logits = not_mirrored(decoded.logits.float(), views)
        return logits, decoded.iou.float(), decoded.object_score.float()[:, 0].sigmoid()
