"""The order of files, and which of them were written at one place."""

import pytest

from kmsdiag.capture.taps import Span, in_order, taps

S = 1_000_000_000


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        (
            [Span("ring_1.pcap", 0, 5 * S), Span("ring_2.pcap", 5 * S, 9 * S), Span("ring_10.pcap", 9 * S, 12 * S)],
            [0, 0, 0],
        ),
        ([Span("ring_1.pcap", 0, 5 * S), Span("ring_2.pcap", 4 * S, 9 * S)], [0, 0]),
        ([Span("ring_1.pcap", 0, 5 * S), Span("ring_2.pcap", 3 * S, 9 * S)], [0, 1]),
        ([Span("client.pcap", 0, 5 * S), Span("server.pcap", 0, 5 * S)], [0, 1]),
        ([Span("client.pcap", 0, 5 * S), Span("server.pcap", 6 * S, 9 * S)], [0, 1]),
        ([Span("a1", 0, S), Span("b1", 0, S), Span("a2", S, 2 * S), Span("b2", S, 2 * S)], [0, 1, 0, 1]),
        ([Span("a1", 0, S), Span("a2", None, None)], [0, 0]),
        ([Span("a1", None, None), Span("a2", None, None), Span("b", None, None)], [0, 0, 1]),
        ([], []),
    ],
)
def test_rings_and_places(spans: list[Span], expected: list[int]) -> None:
    assert taps(spans) == expected


def test_files_come_by_their_first_packets() -> None:
    spans = [Span("x10", 5, 9), Span("x9", 5, 9), Span("empty", None, None), Span("a", 7, 8), Span("z", 1, 2)]
    assert [spans[index].label for index in in_order(spans)] == ["z", "x9", "x10", "a", "empty"]
