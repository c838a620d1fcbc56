"""Side-by-side measurements: segdistill benchmark."""
