"""Hydra's plugins of segdistill. Hydra imports every module here at each start: they must be light."""
