"""Thresholds and limits of KMS (Microsoft, "KMS activation planning" and "Guidelines for troubleshooting KMS")."""

from typing import Final

CLIENT_THRESHOLD: Final = 25
"""Windows client machines that must have asked one host within 30 days before it activates any."""

SERVER_THRESHOLD: Final = 5
"""Windows Server machines that must have asked one host; Office has the same number, counted apart."""

HOSTS_PER_KEY: Final = 6
"""Hosts that one KMS host key can be activated on."""

LONG_TTL: Final = 86_400
"""TTL in seconds above which a change of the record takes more than a day to reach clients (kmsdiag's own limit)."""

CLOCK_TOLERANCE: Final = 4 * 3600
"""Seconds between the clocks of client and host, in UTC, beyond which the host answers 0xC004F06C."""

CLOCK_WARNING: Final = 5 * 60
"""Seconds beyond which clocks count as apart here: the default tolerance of Kerberos, which domains keep anyway."""

ACTIVATION_INTERVAL: Final = 2 * 3600
"""Seconds after which a client that is not activated asks again, unless the host sets another interval (/sai)."""

RENEWAL_INTERVAL: Final = 7 * 86_400
"""Seconds after which an activated client asks again, unless the host sets another interval (/sri)."""

LEAST_INTERVAL: Final = 15 * 60
"""Seconds: the shortest of both intervals that a host can set."""

MOST_INTERVAL: Final = 30 * 86_400
"""Seconds: the longest of both intervals that a host can set ("Registry settings for volume activation")."""

RENEWAL_WATCH: Final = 15 * 60
"""Seconds for which a client whose renewal failed watches for a change of the network, before it asks at the interval
of clients that are not activated ("KMS activation timing and discovery")."""

FAILED_SHARE: Final = 0.05
"""Part of a host's requests that failed above which it is worth a warning (kmsdiag's own limit)."""

SLOW_CONNECT: Final = 500.0
"""Milliseconds: a 95th percentile of the TCP handshake above it counts as slow (kmsdiag's own limit)."""

SLOW_ANSWER: Final = 2000.0
"""Milliseconds: a 95th percentile from request to response above it counts as slow (kmsdiag's own limit)."""

MOST_LOSS: Final = 0.05
"""Segments sent again for each conversation (of about ten segments) above which a path loses (kmsdiag's own limit)."""

SLOW_PATH: Final = 200.0
"""Milliseconds one way between two capture points above which a path counts as slow (kmsdiag's own limit)."""
