"""Datasets, augmentation, sampling and loading; imports neither Hydra nor Lightning."""
