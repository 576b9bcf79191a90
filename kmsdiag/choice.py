"""Which host a client picks first, as probabilities: the simulation behind "who is hit".

Microsoft documents two readings. Windows 7 / Server 2008 R2 and later honour priority and weight (TIMING, REG, DEPLOY
in the Volume Activation guides; RFC 2782 gives the algorithm); Vista / Server 2008 pick at random among all records.
"""

from collections.abc import Sequence

from kmsdiag.model.answer import SrvRecord


def first_pick_ranked(records: Sequence[SrvRecord]) -> list[float]:
    """Probability that each record is tried first when priority and weight are honoured (RFC 2782, page 3).

    Only the lowest priority takes part. A running sum of weights is drawn from 0 to the sum inclusive, with
    zero-weight records placed first: together they get one chance in sum + 1. All weights zero: equal chances.
    """
    if not records:
        return []
    best = min(record.priority for record in records)
    group = [record for record in records if record.priority == best]
    total = sum(record.weight for record in group)
    zeros = sum(1 for record in group if record.weight == 0)

    def chance(record: SrvRecord) -> float:
        if record.priority != best:
            return 0.0
        if total == 0:
            return 1 / len(group)
        if record.weight == 0:
            return 1 / (total + 1) / zeros
        # Without a zero-weight record the draw of 0 falls to the first in the list, whose order is arbitrary.
        return record.weight / (total + 1) if zeros else record.weight / total

    return [chance(record) for record in records]


def first_pick_random(records: Sequence[SrvRecord]) -> list[float]:
    """Probability that each record is tried first when priority and weight are ignored."""
    return [1 / len(records) for _record in records]
