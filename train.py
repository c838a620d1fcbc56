"""Train or distil a student: the same as ``segdistill train``."""

from segdistill.cli import train

train()
