"""segdistill: distil large semantic-segmentation networks into small ones."""

__version__ = "0.1.0"
