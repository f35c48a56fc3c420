"""Which parts of the package may know of which: read from the import statements, wherever they stand."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import taskvec

ROOT = Path(taskvec.__file__).parent
BELOW_MODELS = ("metrics", "tasks", "results", "intervals")  # they know no model


def imported(path: Path) -> Iterator[str]:
    """The names of all modules that a file imports; of ``from a import b`` both a and a.b, as b may be one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def users_of(package: str, among: list[Path]) -> list[str]:
    name = f"taskvec.{package}"
    return [
        str(path.relative_to(ROOT))
        for path in among
        if any(module == name or module.startswith(f"{name}.") for module in imported(path))
    ]


def test_a_report_knows_no_experiments() -> None:
    reports = sorted((ROOT / "report").rglob("*.py"))
    assert len(reports) > 5
    assert users_of("experiments", reports) == []
    assert users_of("experiments", sorted((ROOT / "experiments").rglob("*.py")))  # the walk sees what there is


@pytest.mark.parametrize("package", ["models", "experiments", "report", "cli"])
def test_metrics_tasks_and_results_know_what_is_below_them(package: str) -> None:
    assert users_of(package, [ROOT / f"{name}.py" for name in BELOW_MODELS]) == []


def test_public_names_are_the_same_for_readers_of_types_and_when_they_are_asked_for() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        name.name: str(node.module).removeprefix("taskvec.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("taskvec.")
        for name in node.names
    }
    assert typed == taskvec._HOMES
    assert sorted(typed) == sorted(taskvec.__all__)
    assert all(hasattr(taskvec, name) for name in taskvec.__all__)
