"""What hangs together: which groups are kept aside to judge by, and a user's rule for what is one.

In a folder that may be the images of one patient, video or object.
"""

import csv
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from taskvec.files import check_regular, printable

TEST_SHARE = 0.2  # of a user's own examples: what results are judged by
_HOW = (
    "expected a number of first letters, a separator (such as _) that ends the group's name, a regular expression with "
    "a group in parentheses, or a CSV file of lines NAME,GROUP"
)


def groups_of(paths: Sequence[Path], rule: str) -> list[str]:
    """The group of each file: ``rule`` is a number of first letters of its name, a separator before which the group's
    name ends, a regular expression with one group, or the name of a CSV file with lines NAME,GROUP.

    Raises ValueError for another rule, and a file that it says nothing of.
    """
    if rule.isdecimal() and int(rule) > 0:
        return [printable(path.stem[: int(rule)]) for path in paths]
    if rule.lower().endswith(".csv"):
        return _from_csv(paths, Path(rule))
    if "(" in rule:
        return _from_pattern(paths, rule)
    if rule and not any(letter.isalnum() for letter in rule):
        for path in paths:
            if rule not in path.stem:
                raise ValueError(f"--groups {rule}: {path.name} has no {rule} that ends the name of its group")
        return [printable(path.stem.split(rule)[0]) for path in paths]
    raise ValueError(f"--groups {rule}: {_HOW}")


def _from_pattern(paths: Sequence[Path], rule: str) -> list[str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ValueError(f"--groups {rule} is no regular expression: {error}") from error
    if pattern.groups != 1:
        raise ValueError(f"--groups {rule} has {pattern.groups} groups in parentheses, expected one")
    names = []
    for path in paths:
        match = pattern.search(path.name)
        if match is None or match[1] is None:
            raise ValueError(f"--groups {rule}: {path.name} does not match")
        names.append(printable(match[1]))
    return names


def _from_csv(paths: Sequence[Path], file: Path) -> list[str]:
    try:
        check_regular(file)
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--groups {file} cannot be read: {error}") from error
    named: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            raise ValueError(f"--groups {file}, line {number}: {','.join(row)!r}, expected NAME,GROUP")
        named[row[0].strip()] = row[1].strip()
    groups = []
    for path in paths:
        group = named.get(path.name, named.get(path.stem))
        if group is None:
            raise ValueError(f"--groups {file} has no line for {path.name}: expected NAME,GROUP of every image")
        groups.append(group)
    return groups


def kept_aside(groups: Sequence[str], share: float, examples: str) -> Bool[np.ndarray, " n"]:
    """Whole groups, in the order of their digests, that are about this share together.

    ``groups`` are those of every example, and ``examples`` is what a sentence calls them. Raises ValueError where all
    are of one group.
    """
    names, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"all {len(groups)} {examples} are of one group: expected two or more, to judge by others")
    order = np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in names])
    wanted, total, chosen = share * len(groups), 0, []
    for index in order:
        if total + counts[index] / 2 <= wanted and total + counts[index] < len(groups):
            chosen.append(index)
            total += counts[index]
    if not chosen:
        chosen = [order[np.argmin(counts[order])]]
    return np.isin(place, chosen)
