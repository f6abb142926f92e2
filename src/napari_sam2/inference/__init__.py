"""The engine: numpy in, numpy out; prompts, propagation and automatic masks, without napari or Qt."""
