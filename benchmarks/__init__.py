"""Measurements, each one command: `uv run --group bench -m benchmarks.run` and its neighbours."""
