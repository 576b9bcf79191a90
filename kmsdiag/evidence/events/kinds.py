"""Which events are about activation, by provider and number, and what their texts hold besides the lists of values.

The numbers 12288 to 12294 are those of other programs too (Volume Shadow Copy has its own 12289 and 12293), so that the
provider counts where it is known.
"""

import re
from enum import IntEnum
from typing import Final

from kmsdiag.knowledge.event_fields import hexadecimal


class Event(IntEnum):
    """Numbers that are read here (kms: the event log of volume activation)."""

    CLIENT_REQUEST = 12288
    CLIENT_ANSWER = 12289
    HOST_REQUEST = 12290
    HOST_START = 12291
    HOST_TIMER = 12292
    PUBLISH_FAILED = 12293
    PUBLISHED = 12294
    DIRECTORY = 12308
    ACTIVATION_FAILED = 8198
    RULES_ENGINE = 8233


READ: Final = frozenset(int(one) for one in Event)

NOISE: Final = frozenset(
    {
        900,  # the licensing service is starting, 902: has started, 903: has stopped
        902,
        903,
        1003,  # it has checked all licences
        1014,  # an end-user licence could not be had
        1033,  # policies that are left out
        1034,
        1058,
        1066,  # how its objects were initialised
        8196,  # the scheduler could not activate: 12288 beside it says why
        8200,  # a genuine ticket could not be had, mostly for lack of internet
        8208,
        8209,  # the state of being genuine
        8230,  # the state of the rules engine
        12321,  # token-based activation failed
        16384,  # the next start of the service is scheduled
        16394,  # migration succeeded
    }
)
"""Events of the licensing service that say nothing about KMS."""

_PROVIDER: Final = re.compile(
    r"Security-SPP|Security-Licensing-SLC|Software (?:Protection|Licensing)|Key Management Service|\bOSPP|\bsppsvc",
    re.IGNORECASE,
)

_TEXTS: Final = (
    (Event.CLIENT_REQUEST, r"sent an activation request to the key management service"),
    (Event.CLIENT_ANSWER, r"processed an activation response from the key management service"),
    (Event.HOST_REQUEST, r"An activation request has been processed"),
    (Event.PUBLISHED, r"Publishing the Key Manage?ment Service \(KMS\) to DNS in the .{0,300}? (?:was|is) successful"),
    (Event.PUBLISH_FAILED, r"Publishing the Key Manage?ment Service \(KMS\) to DNS in the .{0,300}? failed"),
    (Event.RULES_ENGINE, r"rules engine reported a failed VL activation attempt"),
    (Event.ACTIVATION_FAILED, r"License Activation (?:\(slui\.exe\) )?failed"),
)
TEXT: Final = re.compile("|".join(f"({text})" for _event, text in _TEXTS), re.IGNORECASE | re.DOTALL)
"""English messages by which an event without a number is known."""

_HRESULT: Final = re.compile(r"\b0[xX][0-9a-fA-F]{1,8}\b")
_QUOTED: Final = re.compile(r"""['"`‘’“„«»]\s?([^\s'"`‘’“”„«»]{1,255}?)\s?['"`‘’”“«»]""")
_IN_DOMAIN: Final = re.compile(r"""\bin the\s*['"`‘“«]?\s?([^\s'"`‘’“”„«»]{1,255}?)\s?['"`’”»]?\s*domain\b""")
_LIST: Final = re.compile(r"\b0[xX][0-9a-fA-F]{1,8} *,.{8,}", re.DOTALL)


def is_licensing(provider: str) -> bool:
    """Whether a provider is one that logs activation events; one that is not told may be."""
    return not provider or _PROVIDER.search(provider) is not None


def by_text(message: str) -> int:
    """The number of the event with this English message; 0 where it is none that is read here."""
    found = TEXT.search(message)
    return 0 if found is None or found.lastindex is None else int(_TEXTS[found.lastindex - 1][0])


def info_of(message: str) -> str:
    """The list of values in a message: its last line, or what begins with a hexadecimal number and a comma."""
    last = message.rpartition("\n")[2].strip()
    if last[:2] == "0x" and "," in last:
        return last
    found = _LIST.search(message)
    return " ".join(found[0].split()) if found is not None else last


def hresult_of(message: str) -> str:
    """The HRESULT in a message, "0x" and eight capital digits; "" where there is none."""
    for found in _HRESULT.finditer(message):
        return hexadecimal(found[0])
    return ""


def domain_in(message: str) -> str:
    """The domain in an English message about publishing."""
    found = _IN_DOMAIN.search(message)
    return "" if found is None else found[1].lower().rstrip(".")


def domain_of(message: str) -> str:
    """The domain that an event about publishing names: quoted in the message, or a value of its own."""
    if domain := domain_in(message):
        return domain
    found = _QUOTED.search(message)
    if found is not None:
        return found[1].lower().rstrip(".")
    for line in message.splitlines():
        word = line.strip()
        if word and " " not in word and not _HRESULT.match(word) and not word.endswith(":"):
            return word.lower().rstrip(".")
    return ""
