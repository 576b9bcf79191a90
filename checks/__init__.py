"""The built-in checks, one module each. Nothing imports them by name; kmsdiag.registry finds them."""
