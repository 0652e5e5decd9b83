"""One backend a file, found by its file name: copying a file in here is all it takes."""
