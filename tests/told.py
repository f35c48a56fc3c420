"""A watcher of engines that remembers."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Told:
    """A watcher that remembers; ``at_running`` is called with the places where cells are started."""

    at_running: Callable[[str], None] = lambda where: None
    events: list[tuple[str, str]] = field(default_factory=list)
    cells: int = 0

    def planned(self, cells: int) -> None:
        self.cells = cells

    def running(self, cell: str, where: str) -> None:
        self.events.append(("running", cell))
        self.at_running(where)

    def done(self, cell: str, seconds: float | None) -> None:
        self.events.append(("done", cell))

    def failed(self, cell: str, reason: str, traceback: str | None) -> None:
        self.events.append(("failed", cell))

    def over(self) -> None:
        self.events.append(("over", ""))

    def of(self, kind: str) -> list[str]:
        return [cell for each, cell in self.events if each == kind]
