"""Words of the licensing service: states, channels, applications.

Sources: Microsoft, SoftwareLicensingProduct class (LicenseStatus, ApplicationID); texts of slmgr.vbs and ospp.vbs;
"Tools to manage volume activation of Office".
"""

from enum import StrEnum
from typing import Final

STATUS: Final = (
    "unlicensed",
    "licensed",
    "initial grace period",
    "additional grace period (KMS licence expired or hardware changed)",
    "non-genuine grace period",
    "notification",
    "extended grace period",
)
"""LicenseStatus 0 to 6, in words."""

UNLICENSED: Final = 0
LICENSED: Final = 1
NOTIFICATION: Final = 5
GRACE: Final = (2, 3, 4, 6)

MINUTES_OF_A_GRANT: Final = 259_200
"""180 days: what a client has right after it was activated (fixed; Microsoft, activation policy values)."""

WARNING_MINUTES: Final = 30 * 24 * 60
"""Windows itself warns 30 days before the end."""


class Channel(StrEnum):
    """Who activates a product. Only a client with a generic volume licence key (GVLK) ever asks a KMS host."""

    CLIENT = "client"
    HOST = "host"
    MAK = "a multiple activation key"
    OEM = "the manufacturer's key"
    EVALUATION = "an evaluation edition"
    AVMA = "activated by the Hyper-V host"
    RETAIL = "a retail key"
    UNKNOWN = ""


_SIGNS: Final = (
    ("VOLUME_KMSCLIENT", Channel.CLIENT),
    ("VOLUME:GVLK", Channel.CLIENT),
    ("VOLUME_KMS", Channel.HOST),
    ("VOLUME:CSVLK", Channel.HOST),
    ("MAK", Channel.MAK),
    ("OEM", Channel.OEM),
    ("EVAL", Channel.EVALUATION),
    ("VIRTUAL_MACHINE_ACTIVATION", Channel.AVMA),
    ("AVMA", Channel.AVMA),
    ("RETAIL", Channel.RETAIL),
)
"""What the channel or the description holds, and what that means; the first that fits counts."""


def channel_of(channel: str, description: str) -> Channel:
    """Whose key a product has. The channel is the service's own word, the description free text."""
    for text in (channel.upper(), description.upper()):
        for sign, kind in _SIGNS:
            if sign in text:
                return kind
    return Channel.UNKNOWN


WINDOWS: Final = "55c92734-d682-4d71-983e-d6ec3f16059f"
OFFICE: Final = "0ff1ce15-a989-479d-af46-f275c6370663"
OFFICE_2010: Final = "59a52881-a989-479d-af46-f275c6370663"

APPLICATIONS: Final = {
    WINDOWS: "Windows",
    OFFICE: "Office 2013 and later",
    OFFICE_2010: "Office 2010",
}
"""Application IDs, lower-case."""


def status_words(status: int) -> str:
    """A LicenseStatus in words; "not known" where it is none."""
    return STATUS[status] if 0 <= status < len(STATUS) else "not known"
