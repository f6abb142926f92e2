"""Segment every nucleus of an image, then try other thresholds without searching again."""

from napari_sam2 import SAM2AutomaticMaskGenerator, average_precision, filter_records, masks_to_labels
from napari_sam2.training.synthetic import make_demo_stack

stack, truth = make_demo_stack(0)
image, truth = stack[12, :128, :128], truth[12, :128, :128]

generator = SAM2AutomaticMaskGenerator()
proposals = generator.propose(image)  # slow: runs the model
for threshold in (0.5, 0.7, 0.85):
    records = generator.filter(proposals, pred_iou_thresh=threshold)  # fast
    records = filter_records(records, min_area=30)
    labels = masks_to_labels(records, image.shape)
    agreement = average_precision(truth, labels)
    print(f"IoU above {threshold}: {labels.max()} objects, AP {agreement.at(0.5).average_precision:.2f}")
