"""Bundles: a student's weights and what it takes to build it, safe to open whoever wrote them."""
