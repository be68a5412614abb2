"""Where the cameras are: hand-eye calibration from views of a ChArUco board, reported and written to the cell profile."""
