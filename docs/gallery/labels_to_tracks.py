"""Track objects that were labelled on one slice, for example by Cellpose or StarDist."""

from napari_sam2 import segment_seeds
from napari_sam2.training.synthetic import make_demo_stack

stack, truth = make_demo_stack(0)
stack, truth = stack[8:14, :128, :128], truth[8:14, :128, :128]

labels, report = segment_seeds(stack, truth[3], frames=3, min_area_px=60, give_up_after=2)
print(f"{len(report.tracks)} objects on {labels.shape[0]} slices")
for track in report.tracks:
    print(f"object {track.object_id}: slices {track.first_frame} to {track.last_frame}")
print("end before the last slice:", report.lost)
