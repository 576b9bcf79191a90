"""From captured packets to conversations, lookups, and one digest of them all."""
