"""Logs of Zeek and Suricata about connections, read to the answer that packet captures give."""
