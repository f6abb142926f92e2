"""Many files from the dock: states of the files, a picture of each result, layers, and the prompts of a session."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from cli_tools import save_random_model
from factories import make_model, make_movie
from napari_sam2 import FrameError, Prompt, PromptError
from napari_sam2._qt import many_files_widget
from napari_sam2._qt.many_files_widget import ManyFilesWidget
from napari_sam2._viewer import many_files
from napari_sam2._viewer.many_files import segment_files
from napari_sam2.batch.inputs import find_sources, plan_pieces, with_positions
from napari_sam2.batch.journal import Journal, RunIdentity
from napari_sam2.batch.pieces import DONE, FAILED, NOT_RUN, RUNNING, Outcome, PieceRecord
from napari_sam2.batch.report import BatchProgress, BatchReport
from napari_sam2.batch.session_prompts import PROMPTS_NAME, usable_prompts
from napari_sam2.labels.reading import read_labels
from napari_sam2.session.session import Session

WAIT = 120_000  # ms


def _run_here(job, inputs, output, *, pattern, suffix, on_progress, on_plan, on_piece, should_stop, model, **_options):
    """``run_batch`` in this process, without workers."""
    begin = time.perf_counter()
    sources = with_positions(find_sources([inputs], pattern))
    job.check(sources)
    pieces = plan_pieces(sources, Path(output), suffix)
    on_plan(pieces)
    Path(output).mkdir(exist_ok=True)
    records = []
    for number, piece in enumerate(pieces):
        on_piece(PieceRecord(piece.name, RUNNING))
        on_progress(BatchProgress(number, 0, len(pieces), 0, workers=1))
        try:
            record = PieceRecord(piece.name, DONE, "", job.run(piece.source, piece.output, make_model(1)))
        except FrameError as error:
            record = PieceRecord(piece.name, FAILED, "", None, str(error))
        records.append(PieceRecord(piece.name, NOT_RUN) if should_stop() else record)
        on_piece(records[-1])
    return BatchReport(tuple(pieces), tuple(records), 0, time.perf_counter() - begin)


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "images"
    place.mkdir()
    for number in range(2):
        tifffile.imwrite(place / f"cells_{number}.tif", make_movie(3)[number])
    (place / "broken.tif").write_bytes(b"no image")
    return place


@pytest.fixture
def session():
    made = Session(make_movie(1)[0], model=make_model())
    yield made
    made.close()


@pytest.fixture
def widget(qtbot, monkeypatch, folder, session):
    monkeypatch.setattr(many_files, "run_batch", _run_here)
    made = ManyFilesWidget(ViewerModel(), lambda: session)
    qtbot.addWidget(made)
    made.form.gui["inputs"].value = folder
    made.form.gui["output"].value = folder.parent / "results"
    yield made
    made.close()


def _states(widget: ManyFilesWidget) -> dict[str, str]:
    rows = range(widget.table.rowCount())
    return {widget.table.item(row, 0).text(): widget.table.item(row, 1).text() for row in rows}


def test_files_are_listed_with_their_states_and_results_are_shown_and_opened(widget, qtbot):
    widget.start_button.click()
    assert set(_states(widget)) == {"broken.tif", "cells_0.tif", "cells_1.tif"}
    qtbot.waitUntil(lambda: not widget.is_running, timeout=WAIT)
    assert _states(widget) == {"broken.tif": "failed", "cells_0.tif": "done", "cells_1.tif": "done"}
    assert "2 of 3 files are done; 1 failed" in widget.state.text()
    row = list(_states(widget)).index("cells_1.tif")
    widget.table.selectRow(list(_states(widget)).index("broken.tif"))
    assert not widget.open_button.isEnabled()
    widget.table.selectRow(row)
    qtbot.waitUntil(lambda: not widget.is_running, timeout=WAIT)
    assert not widget.picture.isHidden()
    widget.open_button.click()
    assert [layer.name for layer in widget.viewer.layers] == ["cells_1", "cells_1 result"]
    assert widget.viewer.layers[1].data.shape == widget.viewer.layers[0].data.shape


def test_each_position_of_a_file_is_a_row_with_a_result(widget, qtbot, folder):
    movie = make_movie(4)
    for path in folder.iterdir():
        path.unlink()
    with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as tif:
        for stack in (movie[:2], movie[2:]):
            tif.write(stack, metadata={"axes": "ZYX"}, photometric="minisblack")
    widget.start()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=WAIT)
    assert _states(widget) == {f"a.ome.tif, position {n}": "done" for n in range(2)}
    widget.table.selectRow(1)
    qtbot.waitUntil(lambda: not widget.is_running, timeout=WAIT)
    assert not widget.picture.isHidden()
    widget.open_button.click()
    image, labels = widget.viewer.layers
    assert (image.name, labels.name) == ("a Image1", "a_pos1 result")  # the name of the position in the file
    np.testing.assert_array_equal(np.asarray(image.data), movie[2:])
    assert labels.data.shape == image.data.shape


def test_cancel_stops_after_the_running_file(widget, qtbot):
    widget.start()
    widget.cancel()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=WAIT)
    assert "waiting" in _states(widget).values()
    assert "Start continues" in widget.state.text()


def test_results_of_other_settings_are_refused_in_the_words_of_the_form(widget, qtbot, monkeypatch, tmp_path):
    def refuse(*_, **__):
        before, now = (
            RunIdentity("generate", "sam2_micro", "0", "0.1.0", {"shapes": {"min_area": area}}) for area in (0, 50)
        )
        with Journal(tmp_path, before) as journal:
            journal.add(PieceRecord("a.tif", DONE, "x", Outcome(1, 1)))
        Journal(tmp_path, now)

    monkeypatch.setattr(many_files_widget, "segment_files", refuse)
    widget.start()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=WAIT)
    assert widget.state.text() == (
        f"{tmp_path} holds results that were computed with other settings: Area from: 0 before, 50 now. Give the "
        'same settings, choose another folder, or start over with "Process finished files again"'
    )


def test_without_folders_it_says_what_is_missing(widget):
    widget.form.gui["output"].line_edit.value = ""
    widget.start()
    assert "a folder for the results" in widget.state.text()
    assert not widget.is_running
    widget.form.gui["output"].value = "results"
    assert widget.state.text() == ""


def test_prompts_of_the_session_are_used_on_each_file_at_the_same_places(widget, qtbot, session, folder):
    (folder / "broken.tif").unlink()
    mask = np.zeros((48, 64), bool)
    mask[30:40, 40:55] = True
    session.set_prompt(0, Prompt(points=[(20, 18), (2, 3)], labels=[1, 0]), object_id=1)
    session.set_prompt(0, Prompt(mask=mask), object_id=2)
    widget.what.setCurrentIndex(1)
    assert not widget.form.is_shown("min_area")
    widget.start()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=WAIT)
    results = folder.parent / "results"
    text = (results / PROMPTS_NAME).read_text()
    assert 'point = ["18,20"]\nnegative = ["3,2"]' in text
    for number in range(2):
        np.testing.assert_array_equal(read_labels(results / f"cells_{number}.tif") == 2, mask)


def test_a_session_without_prompts_is_refused():
    with pytest.raises(PromptError, match="click on objects first"):
        usable_prompts({}, 3)


@pytest.mark.slow
def test_files_are_segmented_in_worker_processes(folder, tmp_path):
    pytest.importorskip("distributed")
    weights = save_random_model(tmp_path / "random.safetensors")
    seen = []
    report = segment_files(
        folder, tmp_path / "out", model=str(weights), workers=1, on_piece=lambda record: seen.append(record.state)
    )
    assert (report.num_done, report.num_failed) == (2, 1)
    assert seen.count(RUNNING) == 3
    assert (tmp_path / "out" / "cells_0.tif").exists()
