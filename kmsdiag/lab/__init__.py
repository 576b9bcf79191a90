"""The embedded lab: DNS and RPC servers on loopback, unprivileged, for ``kmsdiag demo`` and the tests.

Its RPC responder accepts binds and refuses every request. It never grants an activation and holds nothing that could.
"""
