"""napari-sam2."""
