"""Sweeps: many runs planned, launched, watched and gone on with, from files alone."""
