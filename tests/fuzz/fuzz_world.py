"""The names that fuzzed calls use: small images, files, sessions and predictors, each made anew for each call."""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image
from safetensors.torch import save_file

import napari_sam2
from factories import make_model, make_movie
from napari_sam2 import Prompt, SAM2AutomaticMaskGenerator, SAM2ImagePredictor, SAM2VideoSegmenter, Session, open_frames
from napari_sam2.session.results import export

__all__ = ["Files", "World"]

HW = (24, 32)


class Files:
    """Files on disk that calls may read, in a folder that they may write to; made once.

    Parameters
    ----------
    folder : Path
        Empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.movie = make_movie(4, HW)
        self.model = make_model()
        self.tiff = folder / "movie.tif"
        tifffile.imwrite(self.tiff, self.movie, imagej=True, metadata={"axes": "TYX"})
        self.png = folder / "picture.png"
        Image.fromarray(self.movie[0]).save(self.png)
        self.images = folder / "images"
        self.images.mkdir()
        for t in (0, 1, 2):
            Image.fromarray(self.movie[t]).save(self.images / f"{t}.png")
        self.zarr = folder / "movie.zarr"
        import zarr

        zarr.save_array(str(self.zarr), self.movie)
        self.weights = folder / "weights.safetensors"
        tensors = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(tensors, self.weights, metadata={"model": "sam2_micro", "image_size": "64"})
        self.junk = folder / "junk.sam2"
        self.junk.write_bytes(bytes(range(256)) * 8)
        self.fifo = folder / "fifo.png"
        os.mkfifo(self.fifo)
        self.full = folder / "full.tif"
        self.full.symlink_to("/dev/full")
        self.session = folder / "saved.sam2"
        with Session(self.tiff, model=self.weights) as session:
            session.add_points([[0, 20, 15]])
            session.add_box([[2, 2, 3], [2, 12, 14]])
            session.propagate()
            session.save(self.session)


class World:
    """Names for one call or sequence of calls.

    Parameters
    ----------
    files : Files
        What lies on disk.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self.failures: list[Exception] = []
        self._opened: list[Session] = []
        self._num_paths = 0
        movie = files.movie.copy()
        y, x = np.mgrid[: HW[0], : HW[1]]
        disc = (y - 12) ** 2 + (x - 15) ** 2 < 40
        seeds = np.zeros(HW, np.int32)
        seeds[disc], seeds[2:6, 24:30] = 1, 2
        many = np.zeros((48, 64), np.int32)
        for i in range(12):
            top, left = 4 + 15 * (i // 4), 3 + 15 * (i % 4)
            many[top : top + 9, left : left + 9] = i + 1
        public = {name: getattr(napari_sam2, name) for name in napari_sam2.__all__}
        exports = {name: getattr(export, name) for name in export.__all__}
        self.names: dict[str, Any] = {
            **public, **exports, "np": np, "torch": torch, "Path": Path, "nan": float("nan"), "inf": float("inf"),
            "re": re,
            "sys": sys, "types": types, "decimal": decimal, "fractions": fractions, "datetime": dt,
            "movie": movie,
            "disc": disc, "seeds": seeds, "rgb": np.repeat(movie[0][..., None], 3, -1), "model": files.model,
            "volumes": np.stack([movie, movie[::-1]]), "label_volumes": np.stack([np.stack([seeds] * 3)] * 2),
            "many_images": [(many > 0) * np.uint8(90) + np.uint8(20)], "many_labels": [many],
            "tiff_path": files.tiff, "png_path": files.png, "folder_path": files.images, "zarr_path": str(files.zarr),
            "weights_path": files.weights, "junk_path": files.junk, "fifo_path": files.fifo, "full_link": files.full,
            "session_path": files.session, "new_path": self._new_path, "ignore": lambda *_, **__: None,
            "never": lambda: False,
            "always": lambda: True, "keep_all": list, "run_at_once": lambda function: function(), "nested": _nested,
            "cyclic": _cyclic, "unhashable": _Unhashable,
        }  # fmt: skip
        self._makers: dict[str, Callable[[], Any]] = {
            "frames": lambda: open_frames(movie),
            "other_view": lambda: napari_sam2.show_planes(movie, limits=[(0, 90)]),
            "dask_movie": _dask(movie),
            "ndarray": lambda: disc,
            "prompt": lambda: Prompt([[15, 12]]),
            "mask_prompt": lambda: Prompt(mask=disc),
            "box_prompt": lambda: Prompt(box=[8, 5, 22, 19]),
            "session": self._session,
            "handle": self._handle,
            "compute_address": lambda: napari_sam2.ComputeAddress("tcp://127.0.0.1:9"),
            "snapshot": self._snapshot,
            "predictor": self._predictor,
            "low_logits": lambda: np.zeros((1, 16, 16), np.float32),
            "segmenter": self._segmenter,
            "generator": lambda: SAM2AutomaticMaskGenerator(files.model, points_per_side=2, pred_iou_thresh=0.0,
                                                            stability_score_thresh=0.0),
            "editor": self._editor,
            "writer": lambda: napari_sam2.LabelWriter(self._new_path("w.ome.tif"), movie.shape),
            "proposals": lambda: self["generator"].propose(movie[0]),
            "records": lambda: self["generator"].filter(self["proposals"]),
            "cache": napari_sam2.EmbeddingCache,
            "encode": self._encode,
            "agreement": lambda: napari_sam2.average_precision(seeds, seeds),
            "viewer": self._viewer,
        }  # fmt: skip

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            self.names[name] = self._makers[name]()
        return self.names[name]

    def run(self, source: str) -> Any:
        """The value of an expression; the names that it needs are made before."""
        code = compile(source, "<call>", "eval")
        for name in code.co_names:
            if name in self._makers:
                self[name]
        return eval(code, self.names)

    def watch(self, value: object) -> None:
        """See that what a call opened is closed at the end, and that what fails in its background is noted."""
        if isinstance(value, Session) and value not in self._opened:
            value.failed.connect(self.failures.append)
            self._opened.append(value)

    def close(self) -> None:
        """End all sessions."""
        for session in self._opened:
            session.close()

    def _new_path(self, name: str) -> Path:
        self._num_paths += 1
        folder = self.files.folder / "new"
        folder.mkdir(exist_ok=True)
        return folder / f"{os.urandom(4).hex()}-{name}"

    def _session(self) -> Session:
        session = Session(self.names["movie"], model=self.files.model)
        self.watch(session)
        session.add_points([[0, 12, 15]])
        session.paint(2, {2: self.names["disc"]})
        return session

    def _handle(self) -> Any:
        return self["session"].propagate(block=False)

    def _snapshot(self) -> Any:
        with Session(self.names["movie"], model=self.files.model) as other:
            other.add_mask(self.names["disc"], frame=1)
            return other.snapshot()

    def _predictor(self) -> SAM2ImagePredictor:
        predictor = SAM2ImagePredictor(self.files.model)
        predictor.set_image(self.names["movie"][0])
        return predictor

    def _segmenter(self) -> SAM2VideoSegmenter:
        segmenter = SAM2VideoSegmenter(self.files.model)
        segmenter.set_video(self.names["movie"])
        segmenter.add_clicks(0, [(15, 12)])
        return segmenter

    def _encode(self) -> Callable[..., Any]:
        from napari_sam2.inference.views.encoder import encode_views
        from napari_sam2.inference.views.view import whole_view

        embedding = encode_views(self.files.model, self.names["rgb"], [whole_view(HW)])[0]
        return lambda *missing: [embedding] * len(missing[0]) if missing else embedding

    def _editor(self) -> napari_sam2.LabelEditor:
        path = self._new_path("e.ome.zarr")
        with napari_sam2.LabelWriter(path, self.names["movie"].shape) as writer:
            writer.write(1, self.names["seeds"])
        return napari_sam2.LabelEditor(path / "labels" / "labels" if (path / "labels").exists() else path)

    def _viewer(self) -> Any:
        from napari.components import ViewerModel

        viewer = ViewerModel()
        viewer.add_image(self.names["movie"], name="movie")
        return viewer


def _dask(movie: np.ndarray) -> Callable[[], Any]:
    def make() -> Any:
        import dask.array as da

        return da.from_array(movie, chunks=(1, 24, 32))

    return make


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class _Unhashable:
    __hash__ = None  # type: ignore[assignment]
