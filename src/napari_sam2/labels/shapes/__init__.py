"""Objects as outlines or run lengths in files of other programs: ImageJ ROI sets, GeoJSON as QuPath has it, COCO."""
