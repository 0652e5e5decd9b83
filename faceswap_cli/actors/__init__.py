"""People drawn by the program itself: ground truth without a data set."""
