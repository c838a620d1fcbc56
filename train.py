"""Train or distil a student: the same as ``segdistill train``."""

from segdistill.cli import train

if __name__ == "__main__":  # a sweep's processes import this file
    train()
