"""Event logs of clients and hosts: their formats, their fields, and the digest of all of them."""
