"""Benchmarks: what kmsdiag costs beside its peers (README.md)."""
