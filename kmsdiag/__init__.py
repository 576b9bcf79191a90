"""kmsdiag: where KMS volume activation breaks, from DNS to RPC."""
