"""How task vectors are refined."""

from dataclasses import dataclass

from taskvec.choices import OBJECTIVES, ObjectiveKind


@dataclass(frozen=True)
class RefineSettings:
    """``steps`` of Adam on the values, ``batch`` queries each of the ``prompts`` that are drawn; every
    ``validate_every`` steps they are scored on ``validation`` queries, and after ``patience`` scores in a row without a
    better one it ends. The best are kept, which may be those that there were.

    ``objective`` is as in ``taskvec.objectives``; None stands for ``pixel`` where that has a gradient, of vectors that
    are decoded as ``expected`` and a metric with a soft form, and else for ``token``. Raises ValueError for numbers
    that make no descent.
    """

    steps: int = 100
    learning_rate: float = 0.03
    prompts: int = 1000
    batch: int = 16
    validation: int = 100
    validate_every: int = 10
    patience: int = 5
    objective: ObjectiveKind | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.steps, self.prompts, self.batch, self.validation, self.validate_every, self.patience)
        if min(counts) < 1:
            raise ValueError("steps, prompts, batch, validation, validate_every and patience must each be at least 1")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"the learning rate is {self.learning_rate}, expected a number above 0")
        if self.objective is not None and self.objective not in OBJECTIVES:
            raise ValueError(f"there is no objective {self.objective!r}: expected one of {', '.join(OBJECTIVES)}")
