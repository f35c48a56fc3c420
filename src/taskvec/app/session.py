"""What belongs to one visitor: files in a directory of their own, and a search that is under way."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from threading import Lock
from zipfile import ZIP_DEFLATED, ZipFile

from taskvec.app.making import Making


@dataclass
class Session:
    """One visitor's directory: ``vectors/`` has what was made in the page, the rest are examples and archives."""

    directory: Path
    making: Making | None = None

    @property
    def vectors(self) -> Path:
        place = self.directory / "vectors"
        place.mkdir(exist_ok=True)
        return place

    def archive(self, names: Sequence[str]) -> Path:
        """A zip of the directories of these task vectors, called as the first."""
        path = self.directory / f"{names[0]}.zip"
        with ZipFile(path, "w", ZIP_DEFLATED) as file:
            for name in names:
                for each in sorted((self.vectors / name).iterdir()):
                    file.write(each, f"{name}/{each.name}")
        return path

    def stop(self) -> None:
        """End a search that is under way, with the best that it has found."""
        if self.making is not None:
            self.making.stop()


@dataclass
class Sessions:
    """All visitors by the name that the server has for them; their directories are in ``root`` and go with it."""

    root: Path
    _open: dict[str, Session] = field(default_factory=dict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def of(self, name: str) -> Session:
        with self._lock:
            if name not in self._open:
                self._open[name] = Session(Path(mkdtemp(prefix="visitor-", dir=self.root)))
            return self._open[name]

    def end(self, name: str) -> None:
        """Stop what the visitor has under way and remove all that was made."""
        with self._lock:
            session = self._open.pop(name, None)
        if session is not None:
            session.stop()
            shutil.rmtree(session.directory, ignore_errors=True)
