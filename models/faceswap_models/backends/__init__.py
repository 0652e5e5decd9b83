"""One module per backend; every module in this folder is found by its name."""
