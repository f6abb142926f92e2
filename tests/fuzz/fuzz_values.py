"""Arguments for calls, as Python source: valid ones from names and annotations, borderline ones, and absurd ones."""

from __future__ import annotations

import random

__all__ = ["absurd", "argument", "borderline", "valid"]

# What suits a parameter of a name, by function and then for all functions. Names in it are those of `fuzz_world`.
_BY_FUNCTION: dict[str, dict[str, tuple[str, ...]]] = {
    "Session": {
        "stack": ("movie", "movie[0]", "tiff_path", "movie[:, None]", "open_frames(movie)", "rgb", "dask_movie"),
        "labels": ("None", "np.zeros(movie.shape, np.int32)"),
        "frame_axis": ("None", "0"),
        "deliver": ("None", "run_at_once"),
    },
    "Session.load": {"path": ("session_path",), "stack": ("None", "tiff_path", "movie")},
    "session.set_frames": {"frames": ("other_view", "frames")},
    "session.adopt_painting": {"frames": ("[0, 1]", "range(4)", "[2]")},
    "session.add_labels": {"frame": ("0", "3")},
    "session.rename": {"name": ("'a cell'",)},
    "download_model": {"name": ("'sam2_micro'", "'sam2.1_hiera_tiny'")},
    "prompt.check_inside": {"hw": ("(24, 32)", "(5, 5)")},
    "session": {
        "points": ("[[0, 8, 9]]", "[[1, 8, 9], [1, 3, 4]]", "np.array([[2, 12.5, 20]])"),
        "labels": ("None", "[1]", "seeds"),
        "corners": ("[[0, 4, 5], [0, 14, 16]]", "np.array([[1, 2, 2], [1, 2, 12], [1, 12, 12], [1, 12, 2]])"),
        "mask": ("disc", "disc.astype(float)"),
        "masks": ("{1: disc}", "{1: disc, 7: ~disc}", "{2: np.zeros_like(disc)}"),
        "frames": ("None", "0", "[0, 1]", "range(3)"),
        "plane": ("0", "1", "3"),
        "point_yx": ("(8, 9)", "(0.5, 3)"),
        "prompts": ("{(1, 0): prompt}", "{(1, 0): prompt, (4, 2): mask_prompt}", "{}"),
        "limits": ("[(0, 200)]", "[(10.0, 90.0)]"),
        "gamma": ("None", "[1.0]", "[0.5]"),
        "colours": ("None", "[(1, 0, 0)]"),
        "device": ("None", "'cpu'", "'auto'"),
        "dtype": ("None", "'float32'", "'auto'"),
        "threads": ("None", "1"),
        "snapshot": ("snapshot",),
        "error": ("PromptError('x')",),
        "timeout": ("None", "10", "0.5"),
        "path": ("new_path('s.sam2')", "session_path"),
        "output": ("'labels.tif'", "Path('a b.ome.zarr')"),
        "stack": ("movie", "None"),
    },
    "export_labels": {"path": ("new_path('l.tif')", "new_path('l.ome.tif')", "new_path('l.zarr')")},
    "export_scores_csv": {"path": ("new_path('s.csv')",)},
    "export_objects_csv": {"path": ("new_path('o.csv')",)},
    "LabelWriter": {
        "path": ("new_path('l.tif')", "new_path('l.ome.zarr')", "new_path('l.json')"),
        "shape": ("movie.shape", "(4, 24, 32)"),
        "axes": ("'ZYX'", "'TYX'"),
        "voxel_size": ("None", "{'Z': (0.5, 'micrometer')}"),
        "translation": ("None", "{'Z': 2.0}"),
        "full_hw": ("None", "(48, 64)"),
        "fixed": ("None", "{'T': 0}"),
    },
    "LabelWriter.for_frames": {"path": ("new_path('l.tif')",), "frames": ("frames",)},
    "writer": {"labels": ("seeds",), "frame": ("0", "1")},
    "LabelEditor": {"path": ("editor.path", "junk_path")},
    "read_labels": {"path": ("tiff_path", "png_path", "folder_path", "editor.path"),
                    "shape": ("None", "movie.shape")},
    "update_labels": {"path": ("editor.path",)},
    "Prompt": {
        "points": ("[[8, 9]]", "[[8, 9], [3, 4]]", "np.array([[2.5, 3]])"),
        "labels": ("None", "[1]", "[1, 0]"),
        "box": ("None", "[4, 5, 16, 14]"),
        "mask": ("None", "disc"),
        "drawn": ("()", "[DrawnShape('polygon', [[1, 2], [9, 2], [5, 8]])]"),
    },
    "DrawnShape": {"kind": ("'polygon'", "'path'"), "vertices": ("[[1, 2], [9, 2], [5, 8]]",)},
    "predictor": {
        "mask_input": ("None", "low_logits"),
        "window": ("None", "16", "24"),
        "points_xy": ("np.float32([[8, 9]])", "np.float32([[8, 9], [3, 4]])"),
        "boxes_xyxy": ("np.float32([[4, 5, 16, 14]])", "np.float32([[4, 5, 16, 14], [0, 0, 9, 9]])"),
        "frames": ("frames", "other_view"),
        "prompts": ("None", "prompt", "[prompt]", "[prompt, mask_prompt]"),
    },
    "segmenter": {"frames": ("movie", "frames", "tiff_path", "rgb")},
    "generator": {"proposals": ("proposals",)},
    "segment_seeds": {"labels": ("seeds", "{0: seeds}", "np.stack([seeds, seeds])"), "frames": ("0", "[0, 2]",
                                                                                                "None")},
    "segment_tiled": {"image": ("movie[0]", "tiff_path"), "tile": ("16", "768"), "overlap": ("4", "0"),
                      "out": ("None", "np.zeros(movie[0].shape, np.int32)")},
    "segment_timelapse_volumes": {"volumes": ("volumes",), "axes": ("'TZYX'", "None"),
                                  "out": ("None", "np.zeros(volumes.shape, np.int32)")},
    "link_volumes": {"labels": ("label_volumes",)},
    "average_precision": {"truth": ("seeds",), "labels": ("seeds", "disc.astype(int)")},
    "fine_tune": {
        "images": ("many_images",), "labels": ("many_labels",), "precision": ("'auto'", "'float32'"),
        "resume": ("False",), "validation_share": ("0.2", "0.5"), "part": ("'decoder'", "'adapters'"),
        "output": ("new_path('w.safetensors')",),
        "start_from": ("weights_path",), "steps": ("1",), "minutes": ("None",), "validate_every": ("1",),
        "validation_objects": ("1",), "batch_size": ("1",), "crop": ("32",), "image_size": ("64",),
        "device": ("'cpu'",), "on_step": ("None", "ignore"), "on_report": ("None", "ignore"), "num_workers": ("0",),
    },
    "show_planes": {"stack": ("movie", "[movie, movie]", "rgb"), "limits": ("None", "[(0, 200)]"),
                    "gamma": ("None", "[1.0]"), "colours": ("None", "[(1, 1, 1)]")},
    "open_frames": {"source": ("movie", "tiff_path", "folder_path", "zarr_path", "png_path", "volumes", "rgb",
                               "frames")},
    "SAM2AutomaticMaskGenerator": {"points_per_side": ("2", "3", "None"), "point_spacing_px": ("None", "12")},
    "EmbeddingCache": {"max_bytes": ("10**6", "0")},
    "load_model": {"device": ("'cpu'", "'auto'")},
    "cache": {"key": ("'a'", "(1, 'b')"), "keys": ("['a']", "[1, 2]"), "encode": ("encode", "encode")},
}  # fmt: skip

_BY_NAME: dict[str, tuple[str, ...]] = {
    "stack": ("movie", "frames", "tiff_path"), "image": ("movie[0]", "rgb"), "frames": ("frames", "movie"),
    "frame": ("0", "1", "3"), "object_id": ("1", "2", "None"), "object_ids": ("None", "[1]", "[1, 2]"),
    "name": ("'a cell'", "None"), "model": ("model",), "session": ("session",), "viewer": ("viewer",),
    "image_layer": ("'movie'", "viewer.layers[0]"), "prompt": ("prompt", "mask_prompt", "box_prompt"),
    "prompts": ("prompt", "[prompt]"), "records": ("records", "[]"), "labels": ("seeds",), "mask": ("disc",),
    "text": ("mask_to_text(disc)",), "hw": ("(24, 32)", "None"), "candidate": ("None", "0", "2"),
    "point_coords": ("[[8, 9]]", "np.array([[8, 9], [3, 4]])"), "point_labels": ("None", "[1]"),
    "box": ("None", "[4, 5, 16, 14]"), "clicks": ("[[8, 9]]", "[(8, 9), (3, 4)]"), "start": ("0", "1"),
    "stop": ("None", "3"), "direction": ("'both'", "'forward'", "'backward'"), "max_frames": ("None", "1", "2"),
    "finder": ("generator",), "segmenter": ("segmenter", "None"), "cache": ("None", "cache"), "keep": ("None",
                                                                                                       "keep_all"),
    "on_piece": ("None", "ignore"), "region": ("None",),
    "on_progress": ("None", "ignore"), "on_frame": ("None", "ignore"), "progress": ("None", "ignore"),
    "cancelled": ("None", "never"), "should_stop": ("None", "never", "always"), "every": ("None", "2"),
    "key_frames": ("None", "[0, 2]"), "out": ("None", "np.zeros(movie.shape, np.int32)"),
    "memory_dtype": ("None", "torch.float32", "torch.bfloat16"), "settings": ("None", "SessionSettings()"),
    "name_or_path": ("weights_path", "'sam2_micro'"), "path": ("new_path('x.tif')",), "image_size": ("None", "64"),
    "axes": ("None", "'ZYX'", "'TYX'"), "frame_axis": ("None", "'Z'"), "fixed": ("None", "{'T': 1}"),
    "channels": ("None", "0", "[0]"), "contrast": ("'auto'", "'dtype'", "(0, 200)"), "level": ("None", "0"),
    "pixel_size": ("1.0", "(0.5, 0.25)"), "thresholds": ("(0.5, 0.9)",), "point_grids": ("None",),
    "points_per_batch": ("None", "16"), "crop_n_layers": ("None", "1"), "device": ("'auto'", "'cpu'"),
    "dtype": ("'auto'", "'float32'", "torch.float32"), "scale": ("None", "(1.0, 0.5, 0.5)"), "threads": ("None", "1"),
    "units": ("None", "('second', 'micrometer', 'micrometer')"), "rule": ("'small_on_top'", "'highest_score'"),
    "batch_bytes": ("None", "2**20"), "cache_mb": ("16",), "is_rgb": ("None", "False"), "memory_bytes": ("2**30",),
    "compute": ("None",), "threshold": ("0.5",), "timeout": ("None", "5"), "release": ("'sam2.1_hiera_tiny'",),
}  # fmt: skip

_BY_TYPE: dict[str, tuple[str, ...]] = {
    "int": ("0", "1", "2", "3", "np.int64(2)"),
    "float": ("0.0", "0.5", "1.0", "1", "np.float32(0.25)"),
    "bool": ("True", "False"),
    "None": ("None",),
    "str": ("'a'", "'cell 7'"),
    "Path": ("new_path('p.tif')",),
    "ArrayLike": ("disc", "[[8, 9]]", "seeds"),
    "Any": ("movie", "1", "'a'", "None"),
    "Prompt": ("prompt",), "SAM2": ("model",), "FrameSource": ("frames",), "EmbeddingCache": ("cache",),
    "SessionSettings": ("SessionSettings()",), "Exception": ("PromptError('x')",), "MaskRecord": ("records[0]",),
    "object": ("1", "'a'"),
}  # fmt: skip

# At the edge of what a type allows, and beyond it.
_BORDERLINE: dict[str, tuple[str, ...]] = {
    "int": ("-1", "0", "4", "10**6", "2**31 - 1", "2**31", "2**63", "-2**70", "True", "1.0", "1.5", "np.uint8(255)",
            "nan",
            "np.array(1)", "np.int64(-1)", "10**9", "'1'"),
    "float": ("-1", "0", "1", "nan", "inf", "-inf", "1e-300", "1e300", "-0.0", "np.float16(2)", "'0.5'", "10**400",
              "1 + 1e-12",
              "True", "1e-9"),
    "bool": ("0", "1", "np.bool_(True)", "'no'", "None", "2", "np.array([True, False])"),
    "str": ("''", "' '", "'a' * 5000", "'\\ud800'", "'\\0'", "'\\x1b[31m'", "'=1+1'", "'é\\n'", "np.str_('a')",
            "'../x'"),
    "Path": ("Path('')", "Path('.')", "Path('/')", "Path('~nouser/x.tif')", "'~nouser/x.sam2'", "'a\\0b'",
             "'x' * 300 + '.tif'",
             "'-o'", "'missing/x.tif'", "b'x.tif'", "fifo_path", "junk_path", "'\\ud800.tif'",
             "full_link", "Path('x.tif') / '\\udcff'", "'http://127.0.0.1:9/x.zarr'", "'x.sam2/'", "folder_path"),
    "ArrayLike": ("[]", "[[]]", "[[1], [2, 3]]", "[[nan, 1]]", "[[inf, -inf]]", "[[1e300, 1e300]]", "[['a', 'b']]",
                  "[[None, 1]]",
                  "np.zeros((0, 2))", "np.zeros((0, 3))", "np.zeros((24, 32))", "np.zeros((24, 32), bool)",
                  "np.ones((24, 32), bool)",
                  "np.full((24, 32), nan)", "np.zeros((4, 0, 32))", "np.zeros((2, 2), complex)",
                  "np.array([[1, 2]], object)",
                  "np.array(5)", "5", "[[2**70, 1]]", "[[-5, 9]]", "[[10**6, 10**6]]",
                  "np.ma.masked_array([[1, 2]], [[1, 0]])",
                  "np.array(['a'])", "[[[8, 9]]]", "[[8, 9, 1, 2]]", "np.zeros((24, 32), 'M8[s]')",
                  "np.zeros((24, 32), 'V4')",
                  "torch.zeros(24, 32)", "dask_movie", "movie", "movie[0]", "movie.astype(np.float16)", "seeds - 5",
                  "seeds.T",
                  "seeds.astype(np.uint64) * 2**40", "np.full((24, 32), 2**31)", "np.full((24, 32), -1)",
                  "disc[None]", "[1, 2, 3]",
                  "[0, 0, 0, 0]", "[2]", "[-1]", "[nan]", "['x']", "[4, 5, 4, 14]", "[nan, 0, 1, 2]",
                  "np.broadcast_to(disc, (10**5, 24, 32))"),
    "Sequence": ("[]", "()", "[None]", "['a']", "range(0)", "range(10**12)", "[1, 1]", "[1.5]", "{1: 2}", "{1, 2}",
                 "iter([1])",
                 "'ab'", "5", "[-1]", "[10**9]", "[[1]]", "[nan]", "np.array([1, 2])", "(i for i in range(3))",
                 "[True]", "[{}]"),
    "Mapping": ("{}", "[]", "{1: None}", "{None: 1}", "{'a': 1}", "{(1,): prompt}", "{(1, 0): None}", "{1.5: disc}",
                "{-1: disc}",
                "{(nan, 0): prompt}", "{1: [[1], [2, 3]]}", "{2**40: disc}", "{(1, 99): prompt}", "{'T': 'a'}",
                "{'T': 99}",
                "{'X': 0}", "[(1, disc)]", "{1: disc.astype(str)}", "{(1, 0): 5}", "{True: disc}",
                "{('1', 0): prompt}"),
    "tuple": ("()", "(1,)", "(1, 2, 3)", "(-1, -1)", "(nan, nan)", "(inf, 1)", "('a', 'b')", "(None, None)",
              "(0, 0)", "[8, 9]",
              "(1e300, 1e300)", "5", "(10**6, 10**6)", "(2.5, 3)", "((1, 2), (3, 4))"),
    "Callable": ("5", "'print'", "{}", "[]", "None"),
    "Literal": ("'other'", "''", "None", "5", "[]", "b'keep'", "np.array(['a', 'b'])", "'BOTH'", "'\\ud800'"),
    "model": ("'nobody'", "''", "'sam2.1_hiera_tiny'", "junk_path", "tiff_path", "5", "None", "b'x'", "[]",
              "torch.nn.Linear(1, 1)",
              "folder_path", "'~nouser/w.pt'", "fifo_path", "'\\0'", "'x' * 300", "np.zeros(3)",
              "'http://127.0.0.1:9/x'"),
    "device": ("'cuda:99'", "'nobody'", "''", "5", "'cpu:5'", "None", "'meta'", "'mps'", "torch.device('cpu')", "[]",
               "{}"),
    "dtype": ("'int8'", "'float64'", "''", "5", "None", "torch.int8", "np.float32", "float", "[]", "{}", "'bfloat16'"),
}  # fmt: skip

_ABSURD = (
    "None", "object()", "'text'", "b'\\xff'", "[]", "{}", "[[1], [2, 3]]", "nan", "inf", "10**30", "-10**30",
    "'\\ud800'", "ignore",
    "range(3)", "np.zeros((0, 3))", "np.array(['a', 'b'])", "np.array([object(), None])", "np.full((2, 2), nan)",
    "{1: 2}", "{'a'}",
    "1j", "Path('~nouser/x')", "'x' * 300", "'\\0'", "torch.zeros(3)", "np.datetime64('NaT')", "...",
    "NotImplemented", "int", "np",
    "iter([1, 2])", "(i for i in ())", "ValueError('x')", "memoryview(b'ab')", "np.array(5)", "list(range(7))",
    "nested(300)",
    "cyclic()", "np.array([1, 2])", "[nan]", "[[nan, nan]]", "True", "-1", "0", "1.5", "''", "[{}]", "{(): []}",
    "[None, None]",
    "np.ones((2, 2, 2, 2, 2))", "prompt", "movie", "model", "session", "frames", "np.float64('nan')", "slice(None)",
    "sys",
    "np.bool_(True)", "decimal.Decimal('NaN')", "fractions.Fraction(1, 3)", "np.ma.masked", "types.SimpleNamespace()",
    "np.zeros(3, [('a', int)])", "bytearray(4)", "frozenset()", "complex('nan')", "np.void(b'ab')", "[movie, 'a']",
    "torch.ones(2, 2)",
    "np.str_('a')", "np.inf * np.ones((24, 32))", "unhashable()", "datetime.datetime(2020, 1, 1)", "re.compile('a')",
    "open_frames",
)  # fmt: skip


def argument(rng: random.Random, function: str, name: str, annotation: str, *, attack: bool) -> str:
    """An argument of a parameter: valid, or where ``attack`` is set most probably not."""
    if not attack:
        return valid(rng, function, name, annotation)
    if rng.random() < 0.65:
        return borderline(rng, name, annotation)
    value = absurd(rng)
    # what a function raises that a caller passes in is the caller's affair
    return "[ignore]" if value in _CALLABLES and "Callable" in _kinds(annotation) else value


_CALLABLES = ("int", "open_frames", "model")


def absurd(rng: random.Random) -> str:
    """Anything at all."""
    return rng.choice(_ABSURD)


def valid(rng: random.Random, function: str, name: str, annotation: str) -> str:
    """Something that the parameter is made for, by its name if that is known, else by its annotation."""
    for group in (function, function.partition(".")[0]):
        if name in _BY_FUNCTION.get(group, {}):
            return _allowed(rng, _BY_FUNCTION[group][name], annotation)
    if name in _BY_NAME and not annotation.startswith("bool"):
        return _allowed(rng, _BY_NAME[name], annotation)
    return _by_annotation(rng, annotation)


def _allowed(rng: random.Random, values: tuple[str, ...], annotation: str) -> str:
    """One of some values; None only where the annotation has it."""
    return rng.choice([v for v in values if v != "None" or "None" in annotation or annotation == "Any"])


def _by_annotation(rng: random.Random, annotation: str) -> str:
    kind = rng.choice(_alternatives(annotation))
    base, _, inner = kind.partition("[")
    base, inner = base.rpartition(".")[2], inner.removesuffix("]")
    if base == "Literal":
        return rng.choice(_split(inner, ","))
    if base in _BY_TYPE:
        return rng.choice(_BY_TYPE[base])
    if base in ("Sequence", "Iterable", "list"):
        return "[" + ", ".join(_by_annotation(rng, inner) for _ in range(rng.randint(1, 2))) + "]"
    if base == "tuple":
        return "(" + ", ".join(_by_annotation(rng, part) for part in _split(inner, ",") if part != "...") + ",)"
    if base in ("Mapping", "dict"):
        key, value = _split(inner, ",")
        return f"{{{_by_annotation(rng, key)}: {_by_annotation(rng, value)}}}"
    if base == "Callable":
        return "ignore"
    return "ndarray" if base == "NDArray" else "None"


def borderline(rng: random.Random, name: str, annotation: str) -> str:
    """Something of the right kind that lies at the border of what is allowed, or beyond."""
    if name in ("model", "start_from", "name_or_path"):
        return rng.choice(_BORDERLINE["model"])
    if name in ("device", "dtype"):
        return rng.choice(_BORDERLINE[name])
    chosen = [kind for kind in _kinds(annotation) if kind in _BORDERLINE] or ["ArrayLike"]
    return rng.choice(_BORDERLINE[rng.choice(chosen)])


def _kinds(annotation: str) -> list[str]:
    names = [kind.partition("[")[0].rpartition(".")[2] for kind in _alternatives(annotation)]
    return [_ALIASES.get(name, name) for name in names]


_ALIASES = {
    "Iterable": "Sequence", "list": "Sequence", "Images": "ArrayLike", "NDArray": "ArrayLike",
    "LazyArray": "ArrayLike",
    "PathLike": "Path", "dict": "Mapping", "Any": "ArrayLike", "Direction": "Literal", "OutputMode": "Literal",
    "Part": "Literal", "Precision": "Literal", "OverlapRule": "Literal", "RecordRule": "Literal", "Contrast": "tuple",
    "StageProgress": "Callable", "StopWish": "Callable", "Progress": "Callable", "KeepRecords": "Callable",
    "Cancelled": "Callable", "LabelVolumes": "ArrayLike", "LabelStack": "ArrayLike", "Hashable": "str",
}  # fmt: skip


def _alternatives(annotation: str) -> list[str]:
    return _split(annotation.strip("'\" "), "|") or ["Any"]


def _split(text: str, separator: str) -> list[str]:
    """The parts of an annotation outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[(") - (character in "])")
        if character == separator and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
