"""Exported files, opened in their own runtimes; only what is opened needs torch, and nothing here needs Hydra."""
