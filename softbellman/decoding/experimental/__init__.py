"""Decoding that is experimental: tested with stand-ins on the CPU, never run on a GPU; it may change or go."""

from softbellman.decoding.experimental.graphs import GraphSampler

__all__ = ["GraphSampler"]
