"""Next steps: a sentence, and a command for one kind of machine."""

from enum import StrEnum

import msgspec


class Where(StrEnum):
    """The machine on which a command is meant to be typed; it decides the shell and so the quoting."""

    DNS_SERVER = "dns_server"
    KMS_HOST = "kms_host"
    CLIENT = "client"
    HERE = "here"

    @property
    def shell(self) -> str:
        """``powershell`` or ``sh``."""
        return "sh" if self is Where.HERE else "powershell"

    @property
    def words(self) -> str:
        """Where to type it, for a reader."""
        return {
            Where.DNS_SERVER: "on a DNS server (PowerShell)",
            Where.KMS_HOST: "on the KMS host (PowerShell, elevated)",
            Where.CLIENT: "on a client (PowerShell, elevated)",
            Where.HERE: "from here",
        }[self]


class Fix(msgspec.Struct, frozen=True):
    """What to do next: a sentence (template), and the command (template) for one kind of machine."""

    where: Where
    text: str
    command: str = ""
