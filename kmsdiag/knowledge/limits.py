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
