"""Masks of images and videos."""
