"""Measurements against the targets in docs/performance.md; `make bench` runs them all."""
