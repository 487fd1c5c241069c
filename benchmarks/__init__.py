"""The peers' table: chainrule next to PyTorch and ONNX Runtime.  `make bench`."""
