"""Losses on labels, one file each."""
