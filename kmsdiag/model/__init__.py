"""The vocabulary of kmsdiag: frozen values that checks, probes, paths and reports exchange."""
