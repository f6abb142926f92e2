"""Which files a batch finds, what lists say of them, and the names of their results."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from tests.ome_files import save_positions

from napari_sam2 import FrameError, OutputError
from napari_sam2.batch.inputs import find_sources, plan_pieces, with_labels, with_positions
from napari_sam2.batch.pieces import Source

NOT_WINDOWS = pytest.mark.skipif(os.name == "nt", reason="names hold no colons there")


def names(sources: list[Source], root: Path) -> list[str]:
    return [source.path.relative_to(root).as_posix() for source in sources]


def test_folder_gives_its_images_in_natural_order(data: Path):
    assert names(find_sources([data]), data) == ["b.png", "img2.tif", "img10.tif", "z.ome.zarr"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.tif", ["img2.tif", "img10.tif"]),
        ("**/p*/", ["planes"]),
        (
            "**/*",
            [
                "b.png",
                "img2.tif",
                "img10.tif",
                "notes.txt",
                "planes/p0.tif",
                "sub/c_ch0.tif",
                "sub/c_ch1.tif",
                "z.ome.zarr",
            ],
        ),
        ("**/*_ch0.tif", ["sub/c_ch0.tif"]),
        ("pl*", ["planes"]),
    ],
)
def test_pattern_chooses_entries_of_a_folder(data: Path, pattern: str, expected: list[str]):
    assert names(find_sources([data], pattern), data) == expected


def test_folders_are_images_where_the_pattern_asks_for_folders(data: Path):
    with pytest.warns(
        UserWarning, match=r"\*\*/p\* matches folders, such as planes, and files in them; .* '\*\*/p\*/'"
    ):
        assert names(find_sources([data], "**/p*"), data) == ["planes/p0.tif"]
    assert names(find_sources([str(data / "**" / "p*") + "/"]), data) == ["planes"]
    (data / "planes" / "q.txt").write_text("")
    with pytest.raises(FrameError, match=r"no image but folders with images, such as in; .* pattern='\*/'"):
        (data / "up" / "in").mkdir(parents=True)
        (data / "up" / "in" / "a.tif").write_bytes(b"")
        find_sources([data / "up"])


def test_a_dataset_of_micro_manager_is_one_image(data: Path):
    (data / "Pos0").mkdir()
    for name in ("img_000000000_DAPI_000.tif", "img_000000000_DAPI_001.tif"):
        (data / "Pos0" / name).write_bytes(b"")
    (data / "Pos0" / "metadata.txt").write_text('{\n"Summary": {"ChNames": ["DAPI"]}}')
    (data / "tiled").mkdir()
    for name in ("NDTiff.index", "x_NDTiffStack.tif", "x_NDTiffStack_1.tif"):
        (data / "tiled" / name).write_bytes(b"")
    assert names(find_sources([data]), data) == ["b.png", "img2.tif", "img10.tif", "Pos0", "tiled", "z.ome.zarr"]
    for folder in ("Pos0", "tiled"):
        assert find_sources([data / folder]) == [Source(data / folder)]
    assert names(find_sources([data], "tiled/*"), data) == ["tiled/NDTiff.index", "tiled"]
    assert names(find_sources([data], "**/*.tif"), data)[-3:] == ["sub/c_ch0.tif", "sub/c_ch1.tif", "tiled"]
    assert len(find_sources([data], "Pos0/*.tif")) == 2


def test_an_image_in_several_files_is_taken_once(tmp_path: Path):
    def write(name: str, images: list[list[str]]) -> None:
        planes = [
            "".join(
                f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{file}">urn:uuid:{file}</UUID>'
                "</TiffData>"
                for z, file in enumerate(files)
            )
            for files in images
        ]
        text = "".join(
            f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" '
            f'SizeZ="{len(images[i])}" SizeC="1" SizeT="1">{each}</Pixels></Image>'
            for i, each in enumerate(planes)
        )
        head = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{name}">'
        tifffile.imwrite(tmp_path / name, np.ones((8, 8), np.uint8), description=f"{head}{text}</OME>", metadata=None)

    positions = [["p0.ome.tif", "p0_1.ome.tif"], ["p1.ome.tif", "p1_1.ome.tif"]]
    for name in (*positions[0], *positions[1]):
        write(name, positions)
    write("alone.ome.tif", [["alone.ome.tif"]])
    sources = find_sources([tmp_path])
    assert names(sources, tmp_path) == ["alone.ome.tif", "p0.ome.tif", "p1.ome.tif"]
    assert [part.name for source in sources for part in source.parts] == ["p0_1.ome.tif", "p1_1.ome.tif"]
    assert names(find_sources(sorted(tmp_path.iterdir())), tmp_path) == names(
        sources, tmp_path
    )  # as a shell gives them
    assert names(find_sources([tmp_path], "*_1.ome.tif"), tmp_path) == ["p0_1.ome.tif", "p1_1.ome.tif"]
    before = sources[1].fingerprint()
    os.utime(tmp_path / "p0_1.ome.tif", ns=(0, 0))
    assert sources[1].fingerprint() != before


def test_files_and_patterns_are_taken_once_in_the_order_given(data: Path):
    found = find_sources([data / "img10.tif", str(data / "*.tif"), data / "img2.tif"])
    assert names(found, data) == ["img10.tif", "img2.tif"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("absent", "does not exist"),
        ("absent/*.tif", "holds no image"),
        ("sub2", "holds no image"),
    ],
)
def test_nothing_found_is_an_error(data: Path, given: str, message: str):
    (data / "sub2").mkdir()
    with pytest.raises(FrameError, match=message):
        find_sources([data / given])


def test_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(FrameError, match=f"{tmp_path.name} cannot be searched .*Permission denied"):
        find_sources([tmp_path])
    with pytest.raises(FrameError, match=r"labels .* were given .Permission denied.; expected a folder"):
        with_labels([Source(tmp_path / "a.tif")], str(tmp_path))
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(FrameError, match=r"absent\.csv does not exist"):
        find_sources([tmp_path / "absent.csv"])
    with pytest.raises(FrameError, match=r"cannot be searched .*too long"):
        find_sources([tmp_path / ("x" * 300 + ".csv")])


def test_an_empty_name_is_not_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.tif").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FrameError, match="an empty name was given as an input"):
        find_sources([""])
    assert [source.path.name for source in find_sources(["."])] == ["a.tif"]


def plan(root: Path, *given: str, suffix: str = ".tif") -> list[str]:
    return [piece.name for piece in plan_pieces([Source(root / name) for name in given], root / "out", suffix)]


def test_results_are_named_after_their_inputs(tmp_path: Path):
    assert plan(tmp_path, "a.ome.tif", "s/b.png", "z.ome.zarr") == ["a.tif", "s/b.tif", "z.tif"]
    assert plan(tmp_path, "x/a.tif", "x/b.tif", suffix=".ome.zarr") == ["a.ome.zarr", "b.ome.zarr"]


def test_inputs_that_differ_in_their_suffix_keep_it(tmp_path: Path):
    assert plan(tmp_path, "a.png", "a.tif", "b.tif") == ["a_png.tif", "a_tif.tif", "b.tif"]


@pytest.mark.parametrize(
    ("given", "results"),
    [
        (("A.tif", "a.tif", "b.tif"), ["A_tif_1.tif", "a_tif_2.tif", "b.tif"]),
        (("b.tif", "a.tif", "A.tif"), ["b.tif", "a_tif_2.tif", "A_tif_1.tif"]),
        (("A.tif", "a.tif", "a_tif_1.png"), ["A_tif_2.tif", "a_tif_3.tif", "a_tif_1.tif"]),
        (("S/a.tif", "s/a.tif"), ["S/a_tif_1.tif", "s/a_tif_2.tif"]),
        (("e\u0301.tif", "\u00e9.tif"), ["e\u0301_tif_1.tif", "\u00e9_tif_2.tif"]),
        (("a.png", "a.tif", "a_png.tif"), ["a_png_1.tif", "a_tif.tif", "a_png_2.tif"]),
    ],
    ids=["capitals", "order", "taken", "folders", "accents", "suffixes"],
)
def test_inputs_whose_results_not_all_file_systems_tell_apart_are_numbered(
    tmp_path: Path, given: tuple[str, ...], results: list[str]
):
    with pytest.warns(UserWarning, match="names that not all file systems tell apart; their results are called"):
        assert plan(tmp_path, *given) == results


def test_result_never_overwrites_an_input(tmp_path: Path):
    with pytest.raises(OutputError, match="would overwrite an input"):
        plan_pieces([Source(tmp_path / "a.tif")], tmp_path, ".tif")
    with pytest.raises(OutputError, match="expected"):
        plan_pieces([Source(tmp_path / "a.tif")], tmp_path / "out", ".png")


def test_each_position_of_a_file_is_an_input(tmp_path: Path):
    save_positions(tmp_path / "a.ome.tif", 3, 2, 8, 8)
    zarr.save_array(str(tmp_path / "b.zarr"), np.zeros((2, 8, 8), np.uint8))
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((2, 8, 8), np.uint8))
    (tmp_path / "d.tif").write_bytes(b"no image")
    (tmp_path / "grid").mkdir()
    for name in ("x_pos1_z1", "x_pos1_z2", "x_pos2_z1", "x_pos2_z2"):
        tifffile.imwrite(tmp_path / "grid" / f"{name}.tif", np.zeros((8, 8), np.uint8))
    sources = with_positions([*find_sources([tmp_path]), Source(tmp_path / "grid")])
    assert [piece.name for piece in plan_pieces(sources, tmp_path / "out", ".tif")] == [
        "a_pos0.tif",
        "a_pos1.tif",
        "a_pos2.tif",
        "b.tif",
        "c.tif",
        "d.tif",
        "grid_pos0.tif",
        "grid_pos1.tif",
    ]
    assert [source.title for source in sources[1:4:2]] == ["a.ome.tif, position 1", "b.zarr"]
    assert len({source.fingerprint() for source in sources[:3]}) == 3
    named = with_positions([Source(tmp_path / "b.zarr"), Source(tmp_path / "c.tif", axes="ZYX")], axes="PYX")
    assert [source.position for source in named] == [0, 1, None]
    assert with_positions(sources[:1], fixed=[("p", 2)]) == sources[:1]
    few = with_positions(find_sources([tmp_path / "a.ome.tif"]), fixed=[("P", 2)])
    assert [piece.name for piece in plan_pieces(few, tmp_path / "out", ".tif")] == ["a.tif"]


def test_a_position_that_lies_in_a_file_of_its_own_is_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = save_positions(tmp_path / "a.ome.tif", 2, 2, 8, 8)
    assert [source.position for source in with_positions([Source(path)])] == [0, 1]
    monkeypatch.setattr("napari_sam2.frames.tiff._in_this_file", lambda *_: 1)
    assert [source.position for source in with_positions([Source(path)])] == [None]


def test_labels_of_positions_are_named_like_their_results(tmp_path: Path):
    for position in range(2):
        (tmp_path / f"a_pos{position}.png").touch()
    given = [Source(tmp_path / "a.nd2", position=position) for position in range(2)]
    named = [tmp_path / "a_pos0.png", tmp_path / "a_pos1.png"]
    assert [source.labels for source in with_labels(given, str(tmp_path))] == named
    assert [source.labels for source in with_labels(given, "{folder}/{stem}.png")] == named


def test_labels_are_found_by_folder_or_by_name(tmp_path: Path):
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    (seeds / "a.png").touch()
    source = Source(tmp_path / "a.ome.tif")
    assert with_labels([source], str(seeds))[0].labels == seeds / "a.png"
    assert with_labels([source], "{folder}/{stem}_seg.npy")[0].labels == tmp_path / "a_seg.npy"
    (seeds / "a.tif").touch()
    with pytest.raises(FrameError, match=r"it holds a.png, a.tif"):
        with_labels([source], str(seeds))
    with pytest.raises(FrameError, match="can be used in braces"):
        with_labels([source], "{name}.tif")
    with pytest.raises(FrameError, match="expected a folder"):
        with_labels([source], str(tmp_path / "absent"))


def test_fingerprint_changes_with_content_prompts_and_labels(tmp_path: Path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"one")
    before = Source(path)
    moved = tmp_path / "b.tif"
    first = before.fingerprint()
    assert Source(path, prompts=(("--point", "1,2"),)).fingerprint() != first
    assert Source(path, channels=(0,)).fingerprint() != first
    path.rename(moved)
    assert Source(moved).fingerprint() == first
    os.utime(moved, ns=(0, 0))
    assert Source(moved).fingerprint() != first


@pytest.mark.parametrize("folder", ["masks", pytest.param("at 12:30", marks=NOT_WINDOWS)])
def test_fingerprint_changes_with_the_frame_and_the_file_of_a_mask(tmp_path: Path, folder: str):
    mask = tmp_path / folder / "m.png"
    mask.parent.mkdir()
    mask.write_bytes(b"one")
    image = tmp_path / "a.tif"
    image.write_bytes(b"")

    def source(value: str) -> Source:
        return Source(image, prompts=(("--mask", value),))

    before = source(f"3:{mask}").fingerprint()
    assert len({before, source(f"5:{mask}").fingerprint(), source(str(mask)).fingerprint()}) == 3
    assert source(f"3:{mask}").absent is source(str(mask)).absent is None
    mask.write_bytes(b"another")
    assert source(f"3:{mask}").fingerprint() != before
    mask.unlink()
    assert source(f"3:{mask}").absent == source(str(mask)).absent == mask


def test_fingerprint_changes_with_a_chunk_but_not_with_labels_in_the_image(tmp_path: Path):
    image = zarr.open_group(tmp_path / "image.zarr", mode="w")
    pixels = image.create_array("0", shape=(4, 8, 8), chunks=(1, 8, 8), dtype="u1")
    pixels[:] = 1
    before = Source(tmp_path / "image.zarr").fingerprint()
    assert Source(tmp_path / "image.zarr").fingerprint() == before
    image.create_group("labels").create_array("cells", shape=(8, 8), dtype="u1")[:] = 1
    assert Source(tmp_path / "image.zarr").fingerprint() == before
    pixels[2] = 7
    os.utime(tmp_path / "image.zarr" / "0" / "c" / "2" / "0" / "0", ns=(0, 0))  # however coarse the clock
    assert Source(tmp_path / "image.zarr").fingerprint() != before


def test_files_of_desktops_are_no_change(data: Path):
    for folder in ("planes", "z.ome.zarr"):
        before = Source(data / folder).fingerprint()
        (data / folder / ".DS_Store").write_bytes(b"how it was looked at")
        assert Source(data / folder).fingerprint() == before
        (data / folder / "p1.tif").write_bytes(b"")
        assert Source(data / folder).fingerprint() != before


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_what_cannot_be_looked_up_is_left_to_who_reads_it(tmp_path: Path):
    loop, folder = tmp_path / "loop.tif", tmp_path / "folder"
    loop.symlink_to(loop.name)
    assert Source(loop).fingerprint() == Source(loop).fingerprint()
    folder.mkdir()
    (folder / "loop.tif").symlink_to("loop.tif")
    (folder / "nothing.tif").symlink_to("absent")
    (folder / "a.tif").write_bytes(b"a")
    before = Source(folder).fingerprint()
    os.utime(folder / "a.tif", ns=(0, 0))
    assert Source(folder).fingerprint() != before


@pytest.mark.skipif(os.name == "nt", reason="links need rights")
def test_links_in_a_zarr_folder_are_followed_but_not_in_circles(tmp_path: Path):
    image = zarr.open_group(tmp_path / "image.zarr", mode="w")
    image.create_array("0", shape=(4, 8, 8), chunks=(1, 8, 8), dtype="u1")[:] = 1
    (tmp_path / "image.zarr" / "0" / "c").rename(tmp_path / "elsewhere")
    (tmp_path / "image.zarr" / "0" / "c").symlink_to(tmp_path / "elsewhere")
    for name in ("one", "two", "three"):  # each of them opens all: more ways than could ever be gone
        (tmp_path / "image.zarr" / name).symlink_to(tmp_path / "image.zarr")
    (tmp_path / "image.zarr" / "itself").symlink_to("itself")
    (tmp_path / "image.zarr" / "nothing").symlink_to("absent")
    before = Source(tmp_path / "image.zarr").fingerprint()
    os.utime(tmp_path / "elsewhere" / "2" / "0" / "0", ns=(0, 0))
    assert Source(tmp_path / "image.zarr").fingerprint() != before


def test_a_plate_gives_all_its_fields(tmp_path: Path):
    plate = zarr.open_group(tmp_path / "data" / "plate.zarr", mode="w")
    plate.attrs["ome"] = {"version": "0.5", "plate": {"wells": [{"path": "B/2"}, {"path": "C/3"}]}}
    for well in ("B/2", "C/3"):
        group = plate.create_group(well)
        group.attrs["ome"] = {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}
        for field in ("0", "1"):
            group.create_group(field)
    expected = [f"plate.zarr/{well}/{field}" for well in ("B/2", "C/3") for field in (0, 1)]
    for given in (tmp_path / "data", tmp_path / "data" / "plate.zarr", tmp_path / "data" / "*.zarr"):
        sources = find_sources([given])
        assert names(sources, tmp_path / "data") == expected
    pieces = plan_pieces(sources, tmp_path / "out", ".ome.zarr")
    assert [piece.name for piece in pieces] == [
        f"{well}/{field}.ome.zarr" for well in ("B/2", "C/3") for field in (0, 1)
    ]


def test_masks_beside_images_are_no_inputs_unless_they_are_named(tmp_path: Path):
    for name in ("a.tif", "a_cp_masks.tif", "b.ome.tif", "b_seg.png", "other_masks.tif"):
        (tmp_path / name).write_bytes(b"1")
    with pytest.warns(UserWarning, match="2 files of .* are named like masks"):
        assert names(find_sources([tmp_path]), tmp_path) == ["a.tif", "b.ome.tif", "other_masks.tif"]
    assert names(find_sources([tmp_path / "a_cp_masks.tif"]), tmp_path) == ["a_cp_masks.tif"]
    assert len(find_sources([tmp_path], "*_masks.tif")) == 2
