"""A study as data: what any process, on any machine that sees the same files, makes the same study again from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskvec.experiments.cells import Store
from taskvec.experiments.language import LanguageProtocol, LanguageStudy
from taskvec.experiments.protocol import Protocol
from taskvec.experiments.study import Study
from taskvec.models import load_model

AnyStudy = Study | LanguageStudy


@dataclass(frozen=True)
class StudySpec:
    """A model by its name or directory, what is studied, and the directory that cells are kept in."""

    model: str
    fingerprint: str
    device: str
    protocol: Protocol | LanguageProtocol
    cells: Path

    @classmethod
    def of(cls, study: AnyStudy, model: str) -> "StudySpec":
        """That of a study whose model is loaded by this name."""
        device = str(study.model.device)
        return cls(model, study.model.fingerprint(), device, study.protocol, study.store.directory.absolute())

    def study(self, device: str | None = None) -> Any:
        """The study, its model loaded anew; ValueError where that is another one by now."""
        model, store = load_model(self.model, device or self.device), Store(self.cells)
        if model.fingerprint() != self.fingerprint:
            raise ValueError(f"the model {self.model} is another one than when the study began")
        if isinstance(self.protocol, LanguageProtocol):
            return LanguageStudy(model, self.protocol, store)
        return Study(model, self.protocol, store)
