"""Prompt, propagate, correct, undo, save and export: what the napari widget does, in a script."""

from napari_sam2 import Session, export_labels, export_scores_csv
from napari_sam2.training.synthetic import make_demo_stack

stack, truth = make_demo_stack(0)
stack, truth = stack[9:15], truth[9:15]
largest = max(range(1, truth.max() + 1), key=lambda number: (truth[3] == number).sum())
rows, columns = (truth[3] == largest).nonzero()

with Session(stack) as session:
    nucleus = session.add_points([[3, rows.mean(), columns.mean()]])  # (z, y, x)
    session.propagate()
    session.add_mask(truth[1] == largest, frame=1, object_id=nucleus)  # correct one slice
    session.propagate()  # computes only what the correction changed
    session.lock(nucleus, [1])
    session.rename(nucleus, "largest nucleus")
    session.undo()  # takes back the name
    print(session.scores.to_string(index=False))

    session.save("nucleus.sam2")
    export_labels(session, "nucleus.ome.tif", overwrite=True)
    export_scores_csv(session, "nucleus.csv", overwrite=True)
