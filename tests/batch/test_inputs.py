"""Which files a batch finds, what lists say of them, and the names of their results."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam2 import FrameError, OutputError
from napari_sam2.batch.inputs import find_sources, plan_pieces, with_labels, with_positions
from napari_sam2.batch.pieces import Source

NOT_WINDOWS = pytest.mark.skipif(os.name == "nt", reason="names hold no colons there")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    for name in ("img10.tif", "img2.tif", "b.png", "notes.txt", ".hidden.tif", "sub/c_ch0.tif", "sub/c_ch1.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "z.ome.zarr").mkdir()
    (folder / "z.ome.zarr" / "zarr.json").write_text("{}")
    (folder / "planes").mkdir()
    (folder / "planes" / "p0.tif").write_bytes(b"")
    return folder


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


def test_csv_gives_each_file_its_prompts_axes_and_channels(data: Path):
    table = data / "list.csv"
    table.write_text(
        "file,object,point,negative,mask,axes,channels,frame\n"
        'img2.tif,1,"10, 84,120",,,ZYX,"0,2",\n'
        'img2.tif,,,"10,90,131",3:masks/m.tif,,,7\n'
        "\n"
        "sub/c_ch0.tif,4,5.5 ,,,,,\n"
    )
    first, second = find_sources([table])
    assert first == Source(
        data / "img2.tif",
        axes="ZYX",
        channels=(0, 2),
        frames=(7,),
        prompts=(
            ("--object", "1"),
            ("--point", "10,84,120"),
            ("--negative", "10,90,131"),
            ("--mask", f"3:{data / 'masks' / 'm.tif'}"),
        ),
    )
    assert second.path == data / "sub" / "c_ch0.tif"
    assert second.prompts == (("--object", "4"), ("--point", "5.5"))


@pytest.mark.parametrize("separator", [", ", ";", "; ", "\t"])
def test_csv_of_spreadsheets_has_other_separators(data: Path, separator: str):
    rows = (("file", "object", "point"), ("img2.tif", "1", '"10,84,120"'))
    (data / "list.csv").write_text("".join(separator.join(row) + "\r\n" for row in rows), encoding="utf-8-sig")
    (found,) = find_sources([data / "list.csv"])
    assert found == Source(data / "img2.tif", prompts=(("--object", "1"), ("--point", "10,84,120")))


@pytest.mark.parametrize(
    ("text", "channels"),
    [("0 2", (0, 2)), ('"0, 2"', (0, 2)), ("DAPI", ("DAPI",)), ('"Alexa 488,1"', ("Alexa 488", 1)), ("405", (405,))],
)
def test_channels_of_a_list_are_numbers_or_names(data: Path, text: str, channels: tuple[int | str, ...]):
    table = data / "list.csv"
    table.write_text(f"file,channels\nimg2.tif,{text}\n")
    (source,) = find_sources([table])
    assert source.channels == channels


def test_toml_gives_each_file_its_objects_and_labels(data: Path):
    table = data / "list.toml"
    table.write_text(
        """
[[files]]
file = "img2.tif"
channels = [1]
[[files.objects]]
object = 3
point = [10, 84, 120]
negative = ["10,90,131", [11, 2, 3]]
[[files]]
file = "img10.tif"
labels = "sub/c_ch1.tif"
frame = [2, 4]
"""
    )
    first, second = find_sources([table])
    assert first.channels == (1,)
    assert first.prompts == (
        ("--object", "3"),
        ("--point", "10,84,120"),
        ("--negative", "10,90,131"),
        ("--negative", "11,2,3"),
    )
    assert second.labels == data / "sub" / "c_ch1.tif"
    assert second.frames == (2, 4)


def test_entries_of_one_file_belong_together_in_lists_of_any_kind(data: Path):
    toml, table = data / "list.toml", data / "list.csv"
    toml.write_text('[[files]]\nfile="img2.tif"\npoint=[1,2]\n[[files]]\nfile="img2.tif"\npoint=[30,40]\n')
    table.write_text('file,point\nimg2.tif,"5,6"\n')
    (found,) = find_sources([toml, table, toml, data / "img2.tif"])
    assert found.prompts == (("--point", "1,2"), ("--point", "30,40"), ("--point", "5,6"))


def test_files_of_a_list_may_be_in_the_home_folder(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(data / "sub"))
    monkeypatch.setenv("USERPROFILE", str(data / "sub"))
    (data / "list.csv").write_text("file,labels,mask\n~/c_ch0.tif,~/c_ch1.tif,3:~/m.png\n~tilde.tif,,\n")
    home, beside = find_sources([data / "list.csv"])
    assert (home.path, home.labels) == (data / "sub" / "c_ch0.tif", data / "sub" / "c_ch1.tif")
    assert home.prompts == (("--mask", f"3:{data / 'sub' / 'm.png'}"),)
    assert beside.path == data / "~tilde.tif"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "path\nx.tif\n", "unknown column 'path'"),
        ("a.csv", "point\n1\n", "no column file"),
        ("a.csv", "file,point\nx.tif,10,84,120\n", "put coordinates in quotes"),
        ("a.csv", 'file,channels\nx.tif,"red,"\n', "expected numbers or names"),
        ("a.csv", "file,axes\nx.tif,ZYX\nx.tif,TYX\n", "other axes"),
        ("a.csv", "file,point\n,1\n", "names no file"),
        ("a.csv", "file,point,point\nx.tif,1,2\n", "column 'point' twice"),
        ("a.csv", "file\nx\0.tif\n", "null character"),
        ("a.csv", "file,point\n", "holds no file"),
        ("a.csv", "", "no column file"),
        ("a.csv", b"file\n\xff\xfe\n", "cannot be read"),
        ("a.toml", "files = 3", r"\[\[files\]\]"),
        ("a.toml", "[[files]", "cannot be read"),
        pytest.param("a.toml", f"x = {'[' * 5000}", "cannot be read", id="depth"),
        ("a.toml", '[[files]]\nfile="x.tif"\nobjects=[{dot=[1,2]}]', "may have"),
        (
            "a.toml",
            '[[files]]\nfile=["x.tif", "y.tif"]',
            r"file \['x.tif', 'y.tif'\] was given; expected a non-empty string",
        ),
        ("a.toml", '[[files]]\nfile=""', "file '' was given; expected a non-empty string"),
        ("a.toml", '[[files]]\nfile="x.tif"\naxes=["Z", "Y", "X"]', "axes .* was given; expected a non-empty string"),
        ("a.toml", '[[files]]\nfile="x.tif"\nlabels=3', "labels 3 was given; expected a non-empty string"),
    ],
)
def test_mistakes_in_lists_are_named(tmp_path: Path, name: str, text: str | bytes, message: str):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FrameError, match=message):
        find_sources([tmp_path / name])


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


def plan(root: Path, *given: str, suffix: str = ".tif") -> list[str]:
    return [piece.name for piece in plan_pieces([Source(root / name) for name in given], root / "out", suffix)]


def test_results_are_named_after_their_inputs(tmp_path: Path):
    assert plan(tmp_path, "a.ome.tif", "s/b.png", "z.ome.zarr") == ["a.tif", "s/b.tif", "z.tif"]
    assert plan(tmp_path, "x/a.tif", "x/b.tif", suffix=".ome.zarr") == ["a.ome.zarr", "b.ome.zarr"]


def test_inputs_that_differ_in_their_suffix_keep_it(tmp_path: Path):
    assert plan(tmp_path, "a.png", "a.tif", "b.tif") == ["a_png.tif", "a_tif.tif", "b.tif"]


def test_inputs_that_differ_in_capitals_only_are_named(tmp_path: Path):
    with pytest.raises(OutputError, match=r"A\.tif and .*a\.tif would have the same result, a_tif\.tif"):
        plan(tmp_path, "A.tif", "a.tif")


def test_result_never_overwrites_an_input(tmp_path: Path):
    with pytest.raises(OutputError, match="would overwrite an input"):
        plan_pieces([Source(tmp_path / "a.tif")], tmp_path, ".tif")
    with pytest.raises(OutputError, match="expected"):
        plan_pieces([Source(tmp_path / "a.tif")], tmp_path / "out", ".png")


def save_positions(path: Path, *shape: int) -> Path:
    """An OME-TIFF of several images of one size."""
    with tifffile.TiffWriter(path, ome=True) as tif:
        for number in range(shape[0]):
            tif.write(np.full(shape[1:], number, np.uint8), metadata={"axes": "ZYX"}, photometric="minisblack")
    return path


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


def test_a_list_may_say_which_position_its_prompts_belong_to(tmp_path: Path):
    save_positions(tmp_path / "a.ome.tif", 3, 2, 8, 8)
    table = tmp_path / "prompts.csv"
    table.write_text('file,position,point\na.ome.tif,2,"0,1,2"\na.ome.tif,0,"1,1,2"\na.ome.tif,2,"0,3,4"\n')
    listed = [(source.position, len(source.prompts)) for source in with_positions(find_sources([table]))]
    assert listed == [(2, 2), (0, 1)]
    whole = with_positions(find_sources([table, tmp_path / "a.ome.tif"]))
    assert [(source.position, len(source.prompts)) for source in whole] == [(2, 2), (0, 1), (1, 0)]
    table.write_text('file,point\na.ome.tif,"0,1,2"\n')
    assert [source.position for source in with_positions(find_sources([table]))] == [None]
    table.write_text("file,position\na.ome.tif,0 1\n")
    with pytest.raises(FrameError, match=r"line 2 of .*: position 0 1 was given; expected one integer from 0"):
        find_sources([table])


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
