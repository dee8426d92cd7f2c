"""Timings against the nearest peers; every module runs with `python -m benchmarks.<name>`."""
