"""The files of task vectors, config.json and vectors.safetensors, as this version writes them and every one reads them.

Nothing half-written is ever taken for task vectors: config.json has the digest of the tensors and one of itself.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from taskvec import digests, hub, provenance
from taskvec.data.templates import Wording
from taskvec.files import digest, read_json, replacing
from taskvec.metrics import MetricName
from taskvec.models import SHIPPED, public_name, shipped_model
from taskvec.models.interface import Decoding
from taskvec.models.pretrained import parse
from taskvec.provenance import Combination, Provenance, Score
from taskvec.records import CONFIG, TENSORS, check_there
from taskvec.sites import Granularity, Site

# 5 called the model by a name alone, and had no scores; 4 was of images alone, 3 had no decoding; 1 and 2 no digests,
# and named images; 1 did not record those that vectors were found on
FORMAT, NAMED_MODEL, WITHOUT_DIGESTS = 6, 5, (1, 2)
CHECKED = ("tensors", "digest")  # of the tensors' file and of all else in config.json, beside what VectorsConfig has


@dataclass(frozen=True)
class VectorsConfig:
    """What config.json holds: ``found`` is how they were found, ``shapes`` are [layers, heads, places].

    ``base_model_name_or_path`` is the model that they belong to, one that ships or OWNER/NAME of the hub, of which
    ``base_model_revision`` is the commit; None of a model that has no such name. ``base_model_type`` is that of its
    config.json, and ``model_fingerprint`` what tells that it is the same. ``input_levels`` are the levels of deep
    images (16 bits, floating point) that became black and white in what they were found on, None without such images.
    ``decoding`` is how answers are made, ``wording`` how texts stand in a prompt, None of vectors of images. ``scores``
    are what they scored wherever that was measured.
    """

    format: int
    task: str
    metric: MetricName
    granularity: Granularity
    sites: tuple[Site, ...]
    of: int
    model_fingerprint: str
    shapes: dict[str, tuple[int, int, int]]
    found: Provenance = None
    base_model_name_or_path: str | None = None
    base_model_revision: str | None = None
    base_model_type: str | None = None
    input_levels: tuple[float, float] | None = None
    decoding: Decoding = Decoding()
    wording: Wording | None = None
    scores: tuple[Score, ...] = ()

    @property
    def model(self) -> str | None:
        """What ``load_model`` takes for the model that they belong to, None where that has no name."""
        name = self.base_model_name_or_path
        return name if name is None or name in SHIPPED else hub.named(name, self.base_model_revision)


def write(directory: Path, config: VectorsConfig, tensors: bytes) -> None:
    """Write config.json and vectors.safetensors, whose content ``tensors`` is.

    Until config.json is replaced, new tensors are in a file of their own, named by their digest, where
    ``read_tensors`` finds them too: whenever the writing stops, what was there is there as it was, or what is new.
    """
    values = {**digests.plain(asdict(config)), "tensors": digest(tensors)}
    values["digest"] = digests.of_json(values)
    old, new = _digest_in_config(directory), digest(tensors)
    _write(_apart(directory, new), tensors)
    try:
        _write(directory / CONFIG, (json.dumps(values, indent=1) + "\n").encode())
    except BaseException:
        if old != new:
            _apart(directory, new).unlink(missing_ok=True)
        raise
    if _digest_in_config(directory) == new:  # and not that of another process, which came in between
        _write(directory / TENSORS, tensors)
    for name in {new, old} - {None}:
        _apart(directory, str(name)).unlink(missing_ok=True)


def read_config(directory: str | Path) -> VectorsConfig:
    """config.json of task vectors; ValueError where it is missing, damaged or of no known format."""
    return read_with_digest(Path(directory))[0]


def read_with_digest(directory: Path) -> tuple[VectorsConfig, str | None]:
    """The configuration, and the digest of the tensors that belong to it, None in formats 1 and 2."""
    check_there(directory)
    path = directory / CONFIG
    values: Any = read_json(path)
    if not isinstance(values, dict) or "format" not in values:
        raise ValueError(f"{path} is not of task vectors: it has no format")
    version = values["format"]
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ValueError(f"{path} has format {version}, expected {FORMAT} or an earlier one")
    if version in WITHOUT_DIGESTS:
        record = values.pop("found", {})
        values["base_model_name_or_path"] = public_name(values.pop("model", None))
        config = parse(VectorsConfig, values, path)
        try:
            return replace(config, found=provenance.former(record)), None
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{path}: found: {' '.join(str(error).split())}") from error
    checked = {name: values.pop(name, None) for name in CHECKED}
    if checked["digest"] != digests.of_json({**values, "tensors": checked["tensors"]}):
        raise ValueError(f"{path} is damaged or was changed: its checksum is another")
    if version <= NAMED_MODEL:
        values["base_model_name_or_path"] = public_name(values.pop("model", None))
    config = parse(VectorsConfig, values, path)
    if version <= NAMED_MODEL and isinstance(config.found, Combination):  # whose expression named directories
        config = replace(config, found=replace(config.found, expression=provenance.as_sum(config.found.terms)))
    return config, str(checked["tensors"])


def read_tensors(directory: Path, tensors_digest: str | None) -> tuple[Path, bytes]:
    """The tensors' file and its content; ValueError where it is not the one that config.json was written with."""
    path = directory / TENSORS
    places = [path] if tensors_digest is None else [path, _apart(directory, tensors_digest)]
    found = [place for place in places if place.is_file()]
    if not found:
        raise ValueError(f"{directory} holds no task vectors: there is no {TENSORS} in it")
    for place in found:
        try:
            content = place.read_bytes()
        except OSError as error:
            raise ValueError(f"{place} cannot be read: {error.strerror}") from error
        if tensors_digest in (None, digest(content)):
            return place, content
    raise ValueError(f"{path} does not belong to {CONFIG} beside it, or is damaged: its checksum is another")


def base_model_of(directory: Path) -> str:
    """What ``load_model`` takes for the model of the task vectors in a directory.

    ValueError, which says what to bring, where they know no name of it, and where it is on the hub and they are not:
    nothing is downloaded unasked.
    """
    name = named_model(read_config(directory), directory)
    if hub.is_named(name) and not hub.is_downloaded(directory):
        raise ValueError(f"{directory} holds task vectors of {name}: pass --model {name} to take it from the hub")
    return name


def named_model(config: VectorsConfig, source: Path) -> str:
    """The same from a configuration that was read from ``source``, wherever its model is."""
    name = config.model or shipped_model(config.model_fingerprint)
    if name is None:
        kind = f" of the type {config.base_model_type}" if config.base_model_type else ""
        raise ValueError(
            f"{source} holds task vectors of a model{kind} with fingerprint {config.model_fingerprint}, which has no "
            "name that others know: pass the directory of this model as --model, in Python the model itself"
        )
    return name


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _apart(directory: Path, tensors_digest: str) -> Path:
    """Where tensors are while config.json is not theirs yet, or not long enough."""
    return directory / f"vectors-{tensors_digest}.safetensors"


def _digest_in_config(directory: Path) -> str | None:
    """The digest of the tensors that config.json names; None where it names none, or is not there."""
    try:
        found = json.loads((directory / CONFIG).read_text())["tensors"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) and found.isalnum() else None
