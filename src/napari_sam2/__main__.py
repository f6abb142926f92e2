"""``python -m napari_sam2`` runs the command ``napari-sam2``."""

from napari_sam2.cli import main

if __name__ == "__main__":
    main()
