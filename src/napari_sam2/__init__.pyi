from ._errors import (
    CheckpointError,
    DeviceError,
    DiskFullError,
    DownloadError,
    FrameError,
    NapariSAM2Error,
    OutputError,
    PromptError,
    SessionFileError,
    TrainingError,
)
from ._types import DrawnShape, FrameResult, FrameSource, MaskPrediction, MaskRecord, Prompt
from ._viewer.opening import open_session
from ._viewer.tasks import fine_tune_layers, measure_layer, segment_layer, track_layer
from .batch.jobs import AutoJob, GenerateJob, PropagateJob, TrackJob
from .batch.options import FindOptions, KeepOptions, ReadOptions
from .batch.report import BatchReport
from .batch.running import run_batch
from .batch.stack_parts import segment_stack_parts
from .batch.tiles import segment_tiles
from .frames import open_frames
from .frames.display import show_planes
from .inference.automatic.mask_generator import SAM2AutomaticMaskGenerator
from .inference.automatic.record_filters import filter_records
from .inference.automatic.tiling import segment_tiled
from .inference.prompts.image_predictor import SAM2ImagePredictor
from .inference.stacks.dividing_cells import DividingCells, segment_dividing_cells
from .inference.stacks.key_frame_search import segment_stack
from .inference.stacks.label_seeds import segment_seeds
from .inference.stacks.report import ObjectTrack, TrackedLabels, TrackingReport
from .inference.stacks.volume_axes import VolumeLabels, segment_along_axes
from .inference.stacks.volumes import segment_timelapse_volumes
from .inference.tracking.video_segmenter import SAM2VideoSegmenter
from .inference.views.embedding_cache import EmbeddingCache
from .labels.compose import masks_to_labels
from .labels.ctc_files import read_ctc, write_ctc
from .labels.evaluation import LabelAgreement, average_precision
from .labels.files import LabelWriter
from .labels.in_place import LabelEditor
from .labels.mask_text import mask_from_text, mask_to_text
from .labels.reading import read_labels
from .labels.time_linking import TimeLinkingSettings, link_frames
from .labels.track_evaluation import TrackAgreement, evaluate_tracks
from .labels.track_files import LabelledTracks, read_tracks, write_tracks
from .labels.tracks import Tracks, tracks_of_labels
from .labels.volume_linking import LinkedVolumes, TimelapseReport, link_volumes
from .session.engines.compute_address import ComputeAddress
from .session.results.divisions import DivisionProposal, DivisionSettings, propose_divisions
from .session.results.export import (
    export_labels,
    export_objects_csv,
    export_scores_csv,
    export_tracks,
    import_tracks,
    session_tracks,
    tracks_graph,
    tracks_table,
    update_labels,
)
from .session.session import Session
from .session.state.settings import SessionSettings
from .session.worker.propagation_handle import PropagationHandle
from .training.finetune import FineTuneReport, FineTuneResult, fine_tune
from .weights.downloads import ModelInfo, download_model, list_models
from .weights.loading import load_model

__version__: str

__all__ = [
    "AutoJob",
    "BatchReport",
    "CheckpointError",
    "ComputeAddress",
    "DeviceError",
    "DiskFullError",
    "DividingCells",
    "DivisionProposal",
    "DivisionSettings",
    "DownloadError",
    "DrawnShape",
    "EmbeddingCache",
    "FindOptions",
    "FineTuneReport",
    "FineTuneResult",
    "FrameError",
    "FrameResult",
    "FrameSource",
    "GenerateJob",
    "KeepOptions",
    "LabelAgreement",
    "LabelEditor",
    "LabelWriter",
    "LabelledTracks",
    "LinkedVolumes",
    "MaskPrediction",
    "MaskRecord",
    "ModelInfo",
    "NapariSAM2Error",
    "ObjectTrack",
    "OutputError",
    "Prompt",
    "PromptError",
    "PropagateJob",
    "PropagationHandle",
    "ReadOptions",
    "SAM2AutomaticMaskGenerator",
    "SAM2ImagePredictor",
    "SAM2VideoSegmenter",
    "Session",
    "SessionFileError",
    "SessionSettings",
    "TimeLinkingSettings",
    "TimelapseReport",
    "TrackAgreement",
    "TrackJob",
    "TrackedLabels",
    "TrackingReport",
    "Tracks",
    "TrainingError",
    "VolumeLabels",
    "__version__",
    "average_precision",
    "download_model",
    "evaluate_tracks",
    "export_labels",
    "export_objects_csv",
    "export_scores_csv",
    "export_tracks",
    "filter_records",
    "fine_tune",
    "fine_tune_layers",
    "import_tracks",
    "link_frames",
    "link_volumes",
    "list_models",
    "load_model",
    "mask_from_text",
    "mask_to_text",
    "masks_to_labels",
    "measure_layer",
    "open_frames",
    "open_session",
    "propose_divisions",
    "read_ctc",
    "read_labels",
    "read_tracks",
    "run_batch",
    "segment_along_axes",
    "segment_dividing_cells",
    "segment_layer",
    "segment_seeds",
    "segment_stack",
    "segment_stack_parts",
    "segment_tiled",
    "segment_tiles",
    "segment_timelapse_volumes",
    "session_tracks",
    "show_planes",
    "track_layer",
    "tracks_graph",
    "tracks_of_labels",
    "tracks_table",
    "update_labels",
    "write_ctc",
    "write_tracks",
]
