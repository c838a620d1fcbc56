"""Makers of large networks from other libraries."""
