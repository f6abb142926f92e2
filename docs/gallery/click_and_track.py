"""Click once on each of three nuclei, and track them through a z-stack."""

from napari_sam2 import SAM2VideoSegmenter
from napari_sam2.training.synthetic import make_demo_stack

stack, truth = make_demo_stack(0)  # (24, 192, 192) and its ground truth
stack, truth = stack[6:14], truth[6:14]

segmenter = SAM2VideoSegmenter()  # the bundled model
segmenter.set_video(stack)
numbers = [n for n in range(1, truth.max() + 1) if (truth[4] == n).sum() > 150][:3]
for number in numbers:
    rows, columns = (truth[4] == number).nonzero()
    segmenter.add_clicks(4, [(columns.mean(), rows.mean())], object_id=number)  # (x, y)
labels = segmenter.track_objects()  # (8, 192, 192), both ways from slice 4

for number in numbers:
    found, true = labels == number, truth == number
    print(f"object {number}: IoU with the ground truth {(found & true).sum() / (found | true).sum():.2f}")
