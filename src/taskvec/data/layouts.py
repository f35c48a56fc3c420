"""Where the pairs of a user's directory are: which directory has inputs, which outputs, and which belong together."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from shlex import quote

from taskvec.images import FURNITURE, Listing, listing

INPUTS = ("input", "inputs", "image", "images", "img", "imgs")
OUTPUTS = ("output", "outputs", "mask", "masks", "label", "labels", "annotation", "annotations", "target", "targets")
_EXPECTED = (
    "expected input/NAME.* and output/NAME.* (or images/ and masks/), images alone, or --input DIR --output DIR, with "
    "--suffix _mask where outputs are called NAME_mask.*"
)
FEWEST = 10  # of which two are kept aside and four are behind the means
_OF_OUTPUTS = re.compile("mask|label|annot|target|output|segm|class|truth|gt|result", re.IGNORECASE)
_SHOWN = 4  # names in a sentence


@dataclass(frozen=True)
class Pairs:
    """Inputs by name, the partner of each (None where there are images alone), and what was left out, and why."""

    inputs: list[Path]
    outputs: list[Path] | None
    input_place: Path
    output_place: Path | None
    left_out: dict[Path, str]


def find_pairs(root: Path, given_input: Path | None, given_output: Path | None, suffix: str) -> Pairs:
    """The pairs of a directory, whose inputs and outputs are where ``given`` says (in ``root``, or anywhere), or in
    directories of the usual names; the output of NAME.* is NAME``suffix``.*. With a suffix and no such directories,
    both are in ``root`` itself.

    Raises ValueError where that is not so, for names without a partner or twice, and where there are no images.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a directory: {_EXPECTED}")
    input_place, output_place = _places(root, given_input, given_output, suffix)
    inputs = listing(input_place)
    if input_place == output_place:
        outputs = Listing([path for path in inputs.images if path.stem.endswith(suffix)], {})
        inputs = Listing([path for path in inputs.images if not path.stem.endswith(suffix)], inputs.others)
    else:
        outputs = listing(output_place) if output_place else None
    if not inputs.images:
        raise ValueError(f"{_found(input_place, inputs, root)}: {_meant(root) or _EXPECTED}")
    others = {**inputs.others, **(outputs.others if outputs else {})}
    left_out = {path: reason for path, reason in others.items() if path.name.lower() not in FURNITURE}
    if outputs is None or output_place is None:
        _by_name(inputs.images, "")
        return Pairs(inputs.images, None, input_place, None, left_out)
    partners = _partners(inputs.images, outputs.images, suffix, input_place, output_place, left_out)
    return Pairs(inputs.images, partners, input_place, output_place, left_out)


def check_enough(pairs: Pairs, split: str) -> None:
    """ValueError where there are too few to split."""
    if len(pairs.inputs) < FEWEST and split != "all":
        raise ValueError(
            f"{pairs.input_place} has {len(pairs.inputs)} images, expected {FEWEST} or more: "
            "some are kept aside to judge by (`taskvec evaluate --data folder --part all` scores on every one)"
        )


def _places(root: Path, given_input: Path | None, given_output: Path | None, suffix: str) -> tuple[Path, Path | None]:
    inside = {path.name.lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    found = [[inside[name] for name in names if name in inside] for names in (INPUTS, OUTPUTS)]
    for places, option, given in zip(found, ("--input", "--output"), (given_input, given_output), strict=True):
        if given is None and len(places) > 1:
            names = " and ".join(f"{path.name}/" for path in places)
            raise ValueError(f"{root} has {names}: which of them is meant? {option} DIR")
    input_place = root / given_input if given_input else found[0][0] if found[0] else None
    output_place = root / given_output if given_output else found[1][0] if found[1] else None
    if suffix and input_place is None and output_place is None:
        return root, root
    if output_place is not None and input_place is None:
        raise ValueError(
            f"{root} has {output_place.name}/, but no inputs beside it: {_meant(root, output_place) or _EXPECTED}"
        )
    return input_place or root, output_place


def _meant(root: Path, output: Path | None = None) -> str:
    """The options that name the two directories of images in a directory, or the two whose names go together; with
    ``output`` the one beside it. Nothing where that is not clear."""
    images = {path: listing(path).images for path in sorted(root.iterdir()) if path.is_dir()}
    names = {path: {image.stem for image in found} for path, found in images.items() if found}
    pairs = [pair for pair in combinations(names, 2) if output is None or output in pair]
    if len(pairs) > 1:
        pairs = [(one, other) for one, other in pairs if _ending(names[one], names[other]) is not None]
    if len(pairs) != 1:
        return ""
    likely = [path for path in pairs[0] if path == output or _OF_OUTPUTS.search(path.name)]
    last = likely[0] if len(likely) == 1 else pairs[0][1]
    first = next(path for path in pairs[0] if path != last)
    ending = _ending(names[first], names[last])
    more = f" --suffix {quote(ending)}" if ending else ""
    either = "" if len(likely) == 1 else ", or the other way round"
    return f"did you mean --input {quote(first.name)} --output {quote(last.name)}{more}{either}?"


def _partners(
    inputs: Sequence[Path],
    outputs: Sequence[Path],
    suffix: str,
    input_place: Path,
    output_place: Path,
    left_out: dict[Path, str],
) -> list[Path]:
    names, partners = _by_name(inputs, ""), _by_name(outputs, suffix)
    alone = sorted(names.keys() ^ partners.keys())
    if not alone:
        return [partners[path.stem] for path in inputs]
    path = {**names, **partners}[alone[0]]
    reason = next((reason for other, reason in left_out.items() if _stem(other) == alone[0]), None)
    if reason is not None:
        raise ValueError(f"{path} has no partner: {reason}")
    ending = None if suffix else _ending(names.keys(), partners.keys())
    remark = f"; --suffix {ending} pairs them" if ending else ""
    raise ValueError(
        f"{path} has no partner of the same name in the other directory ({len(alone)} such files in all): expected "
        f"{input_place.name}/NAME.* and {output_place.name}/NAME{suffix}.*, found {_few(inputs)} and {_few(outputs)}"
        f"{remark}"
    )


def _ending(inputs: Set[str], outputs: Set[str]) -> str | None:
    """What all outputs are called behind the names of their inputs, which may be nothing; None where they are not."""
    first = min(inputs)
    for name in sorted(outputs, key=len):
        ending = name.removeprefix(first)
        if name.startswith(first) and {known + ending for known in inputs} == outputs:
            return ending
    return None


def _by_name(paths: Sequence[Path], suffix: str) -> dict[str, Path]:
    """Paths by name without ending and suffix; ValueError where two share one."""
    named: dict[str, Path] = {}
    for path in paths:
        name = path.stem.removesuffix(suffix) if path.stem.endswith(suffix) else f"{path.stem} without {suffix}"
        if name in named:
            raise ValueError(f"{named[name]} and {path} share a name, which pairs them with the same partner")
        named[name] = path
    return named


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _few(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:2])
    return f"{names}{', ...' if len(paths) > 2 else ''}" if paths else "nothing"


def _found(place: Path, found: Listing, root: Path) -> str:
    """What a directory without images holds."""
    where = str(root) if place == root else str(place)
    others = {path: reason for path, reason in found.others.items() if path.name.lower() not in FURNITURE}
    names = [f"{path.name}/" if path.is_dir() else path.name for path in others]
    if not names:
        return f"{where} has no files"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    files = [reason for path, reason in others.items() if path.is_file()]
    reason = f" ({files[0]})" if files else ""
    return f"{where} has no images, but {', '.join(names[:_SHOWN])}{more}{reason}"
