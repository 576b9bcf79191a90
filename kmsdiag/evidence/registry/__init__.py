"""Exports of the registry: settings of clients and hosts."""
