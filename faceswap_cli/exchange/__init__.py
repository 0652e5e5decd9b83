"""Files of other programs: networks as ONNX and `.dfm` files, and their face sets."""
