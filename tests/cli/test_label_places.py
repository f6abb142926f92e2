"""Labels may go into the image that they belong to, and nowhere else inside it."""

from __future__ import annotations

import pytest
from ngff_tools import make_image

from napari_sam2._errors import OutputError
from napari_sam2.cli._outputs import check_outputs


def test_labels_may_go_into_their_image_before_its_labels_folder_exists(tmp_path):
    image = make_image(tmp_path / "a.zarr", "0.5")
    check_outputs([image], image / "labels" / "cells", [], overwrite=False)
    (image / "labels" / "cells").mkdir(parents=True)
    with pytest.raises(OutputError, match="already exists"):
        check_outputs([image], image / "labels" / "cells", [], overwrite=False)
    for other in (image / "cells.zarr", image / "labels" / "deep" / "cells.zarr", image / "0" / "cells.tif"):
        with pytest.raises(OutputError, match="is inside the input"):
            check_outputs([image], other, [], overwrite=True)
