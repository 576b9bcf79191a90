"""What stands around the outputs of tools: prompts, commands, transcripts, and the machines that they name."""

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import ClassVar, Final, Self

from kmsdiag.evidence.escape import ascii_text, quoted
from kmsdiag.evidence.tools.accounts import Account, Machines
from kmsdiag.evidence.tools.labelled import STOP, Item, Line
from kmsdiag.model.collected import MachineState

_PROMPT: Final = re.compile(r"(?:PS\b[^>]*|[A-Za-z]:[\\/][^>]*|\[[^\]]*\]: ?PS[^>]*)>\s*(.*)$")
_HOSTNAME: Final = re.compile(r"hostname(?:\.exe)?$|\$env:COMPUTERNAME$", re.IGNORECASE)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?$")
_TRANSCRIPT: Final = re.compile(r"[^:]{3,30}: ?([\w.-]+) \(Microsoft Windows NT ([\d.]+)\)?")


class Session:
    """Goes through a text from label to label, and notices what stands between.

    ``COMMAND`` finds the tool's command in what somebody typed: ``name`` of the option, ``host`` that it is about.
    """

    COMMAND: ClassVar[re.Pattern[str]]

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.machines = Machines()
        self.product: Account | None = None
        self.command = ""
        self.before: list[Line] = []
        """Lines since the last label, rule or prompt, that mean nothing."""
        self.pending: list[Line] = []
        """Lines between labels of a product that mean nothing."""
        self.message = False
        """Within the words of an error."""
        self._named = False
        self._there = ""

    def read(self, items: Sequence[Item], weak: AbstractSet[str]) -> list[MachineState]:
        """All machines; ``weak`` facts alone make no product."""
        at = 0
        for item in items:
            for line in self.lines[at : item.first]:
                self._plain(line)
            self.labelled(item)
            at = item.last + 1
        for line in self.lines[at:]:
            self._plain(line)
        return self.machines.states(weak)

    @abstractmethod
    def labelled(self, item: Item) -> None:
        """One label and its value."""

    def told(self, item: Item, handler: Callable[[Self, Item], None]) -> None:
        """A label of the tool's own output: ``handler`` knows what it means."""
        self.message = False
        handler(self, item)
        self.before.clear()

    def typed(self, command: re.Match[str]) -> None:
        """Somebody typed a command of the tool: its output follows."""
        self.command = command["name"].lower()
        self.machines.remote(ascii_text(command["host"] or self._there))
        self.machines.next_run()

    def rule(self, solid: str = "") -> None:
        """What came before has ended, by a rule, a prompt or a banner; ``solid`` is that without white space."""
        del solid
        self.before.clear()
        self.pending.clear()
        self.message = False
        self.product = None

    def not_understood(self) -> None:
        """Tell about the lines between two labels of a product."""
        for line in self.pending:
            self.machines.note(f"line {line.number} is not understood: {quoted(line.text)}")
        self.pending.clear()

    def _plain(self, line: Line) -> None:
        head = _TRANSCRIPT.match(line.text)
        prompt = _PROMPT.match(line.text)
        named, self._named = self._named, False
        if head is not None:
            self.machines.local(ascii_text(head[1]), ascii_text(head[2]))
            self.rule(line.solid)
        elif named and _PLAIN_NAME.match(line.text):
            self.machines.local(ascii_text(line.text))
        elif prompt is not None or STOP.match(line.solid) or line.text.lower().startswith("cscript"):
            typed = line.text if prompt is None else prompt[1]
            self.rule(line.solid)
            if prompt is not None:
                # PowerShell's prompt in a session on another machine.
                self._there = line.text[1:].partition("]")[0].strip() if line.text.startswith("[") else ""
            self._named = _HOSTNAME.match(typed) is not None
            command = self.COMMAND.search(typed)
            if command is not None:
                self.typed(command)
        elif line.solid.strip("-"):
            self.before.append(line)
            if self.product is not None and not self.message:
                self.pending.append(line)
