"""Attention blocks that keep (N, C, H, W); a student's yaml puts them behind its modules."""
