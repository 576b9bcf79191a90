"""The only package that asks the network or the machine (besides it only lab/ opens sockets)."""
