"""What is known about KMS, apart from any network: limits, clouds, and what each failure means for a client."""
