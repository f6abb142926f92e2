"""What lists say of the inputs of a batch."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ome_files import save_positions

from napari_sam2 import FrameError
from napari_sam2.batch.inputs import find_sources, with_positions
from napari_sam2.batch.pieces import Source


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
    rows = (("File", "Object", "point"), ("img2.tif", "1", '"10,84,120"'))
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
