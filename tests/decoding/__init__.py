"""Tests of softbellman.decoding."""
