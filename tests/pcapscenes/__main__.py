"""Writes ``fixtures/pcap`` anew."""

from tests.pcapscenes import write

if __name__ == "__main__":
    write()
