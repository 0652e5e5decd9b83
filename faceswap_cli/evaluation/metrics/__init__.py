"""How good a picture is, as numbers; knows nothing of stages or of where pictures come from."""
