"""SAM 2 as in the paper (arXiv:2408.00714), in torch alone: no numpy, no files, no device chosen."""
