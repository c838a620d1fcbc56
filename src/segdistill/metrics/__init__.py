"""Confusion matrices and scores."""
