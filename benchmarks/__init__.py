"""Measurements, each a command: `uv run -m benchmarks.run`, and `compare`, `growth`, `start`."""
