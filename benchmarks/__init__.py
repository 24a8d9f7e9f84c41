"""Measurements against the numbers of the design; `make bench` runs them all."""
