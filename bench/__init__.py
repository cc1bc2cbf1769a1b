"""Measurements beside peers and limits, in one run on one machine: `python -m bench`."""
