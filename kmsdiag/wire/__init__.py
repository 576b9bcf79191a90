"""Bytes to facts and back, without any I/O."""
