"""Hydra finds plugins here only; what they do is in ``segdistill.sweep``. Imported at every start, hence light."""
