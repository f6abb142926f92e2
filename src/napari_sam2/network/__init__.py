"""The SAM 2 network (arXiv:2408.00714) in plain torch, without numpy, file access or device selection."""
