"""Task vectors, the artefact of a search: mean head outputs at the chosen sites, which make a model do one task."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from taskvec import artefacts, hub
from taskvec.artefacts import CONFIG, FORMAT, WITHOUT_DIGESTS, VectorsConfig, named_model, read_config
from taskvec.choices import ANSWER_TOKENS
from taskvec.data.templates import Wording
from taskvec.heads import Means, Patch, run
from taskvec.images import Range, Raster, in_colour, raster_of, raster_of_array, resize
from taskvec.memory import Passes, rows_of_a_pass
from taskvec.metrics import FOR_IMAGES, METRICS, MetricName, is_white
from taskvec.models import check_model, load_model, public_name
from taskvec.models.interface import Decoding, Items, PromptedModel, Queries, Variant
from taskvec.provenance import Combination, Provenance, Search, Term, as_sum
from taskvec.sites import Site, Sites
from taskvec.tasks import TASKS

if TYPE_CHECKING:
    from taskvec.evaluation import Evaluation

_log = logging.getLogger(__name__)

CARD, PICTURE = "README.md", "examples.png"
BATCH = 32  # images in one forward pass
_ROWS = 256  # of a mask that are told at once: an image may have any size


@dataclass(frozen=True, eq=False)
class TaskVectors:
    """Means at the positions of the chosen sites, bound to the model they belong to.

    ``means``: by stack float32 [layers, heads, places, head_dim], NaN at every position that is not patched.
    Raises ValueError where no position is chosen or the model is not the one the vectors were found with. A model that
    they know by its former fingerprint is known by the present one from then on.
    """

    model: PromptedModel
    config: VectorsConfig
    means: dict[str, Float[Tensor, "layers heads tokens head_dim"]]
    patch: Patch = field(init=False, repr=False)
    answering: PromptedModel = field(init=False, repr=False)  # the model with the decoding of the vectors

    def __post_init__(self) -> None:
        if not isinstance(self.config.found, Provenance):
            raise ValueError(f"found is a {type(self.config.found).__name__}, expected a record of taskvec.provenance")
        _check_model(self.model, self.config)
        object.__setattr__(self, "config", replace(self.config, **self._present()))
        own = tuple(score for score in self.config.scores if score.of == self.fingerprint())
        object.__setattr__(self, "config", replace(self.config, scores=own))  # not those of what they were before
        object.__setattr__(self, "patch", self._patch())
        object.__setattr__(self, "answering", self.model.variant(Variant(decoding=self.config.decoding)))

    @classmethod
    def select(
        cls,
        model: PromptedModel,
        sites: Sites,
        mask: Tensor,
        means: dict[str, Tensor],
        *,
        task: str,
        metric: MetricName,
        found: Provenance = None,
        input_levels: tuple[float, float] | None = None,
        decoding: Decoding | None = None,
        wording: Wording | None = None,
    ) -> Self:
        """Keep the means of one task [layers, heads, places, head_dim] where ``mask`` [sites] is True.

        Raises ValueError for sites of another view than ``query_only``, where task vectors take effect, and for texts
        without their wording.
        """
        if model.takes_texts != (wording is not None):
            raise ValueError("task vectors of texts have a wording, and those of images none")
        chosen = torch.nn.functional.pad(mask, (0, 1))
        kept = {}
        for stack, index in sites.index.items():
            kept[stack] = torch.where(chosen[index][..., None], means[stack].cpu(), torch.nan)
        names = tuple(sites.names[i] for i in mask.nonzero()[:, 0])
        shapes = {stack: tuple(mean.shape[:3]) for stack, mean in kept.items()}
        config = VectorsConfig(
            format=FORMAT,
            task=task,
            metric=metric,
            granularity=sites.granularity,
            sites=names,
            of=len(sites),
            model_fingerprint=model.fingerprint(),
            shapes=shapes,
            found=found,
            input_levels=input_levels,
            decoding=decoding or Decoding(),
            wording=wording,
        )
        for stack, chosen in _positions(model, config, "the mask").items():
            if not torch.equal(kept[stack].isfinite().all(-1), chosen):
                raise ValueError(f"the sites of the {stack} are not those of the view query_only, or lack a mean")
        return cls(model, config, kept)

    def __repr__(self) -> str:
        config = self.config
        known = f"task={config.task!r}, metric={config.metric!r}, sites={len(config.sites)} of {config.of}"
        return f"TaskVectors({known}, model={config.model or config.model_fingerprint!r})"

    def _repr_html_(self) -> str:
        from taskvec.report.notebook import vectors_html  # noqa: PLC0415 which knows of task vectors

        return vectors_html(self)

    def _present(self) -> dict[str, Any]:
        """What the model says of itself; the name that it had is kept, as it may come from elsewhere now."""
        model, config = self.model, self.config
        present: dict[str, Any] = {
            "format": FORMAT,
            "model_fingerprint": model.fingerprint(),
            "base_model_type": model.model_type,
        }
        if config.base_model_name_or_path is None:
            name = public_name(model.name)
            present |= {"base_model_name_or_path": name, "base_model_revision": model.revision if name else None}
        return present

    @property
    def task(self) -> str:
        return self.config.task

    @property
    def sites(self) -> tuple[Site, ...]:
        """The chosen sites."""
        return self.config.sites

    @property
    def search(self) -> Search:
        """How they were found; ValueError where no search of this version found them."""
        if not isinstance(self.config.found, Search):
            raise ValueError(f"the task vectors of {self.task} have no record of a search")
        return self.config.found

    def _patch(self) -> Patch:
        """One site that covers every position with a mean, selected for a batch of any size."""
        index = {stack: torch.where(mean.isnan().any(-1), -1, 0) for stack, mean in self.means.items()}
        whole = Sites("layer", (Site("all", 0, None, None, None),), index)
        means = Means({stack: mean[None] for stack, mean in self.means.items()}, self.config.model_fingerprint)
        return Patch(whole, torch.ones(1, 1, dtype=torch.bool), means)

    def scored(self, evaluation: "Evaluation", **others: "Evaluation") -> "TaskVectors":
        """These vectors with the record of what they scored, which is saved with them and shown on their card.

        ``evaluation`` is that of ``taskvec.evaluate(model, vectors, data)``; ``others`` are those of other ways of the
        same prompts, such as ``query_only``. Nothing of the data is recorded but its kind and numbers. Raises
        ValueError for an evaluation of something else.
        """
        from taskvec.evaluation import with_score  # noqa: PLC0415 which is about task vectors

        if evaluation.of != self.fingerprint():
            raise ValueError(
                "the evaluation is not of these task vectors: expected taskvec.evaluate(model, vectors, data)"
            )
        for name, other in others.items():
            if other.prompts.query_images != evaluation.prompts.query_images:
                raise ValueError(f"{name} was evaluated on other prompts than the task vectors")
        scores = {name: other.scores for name, other in others.items()}
        return with_score(self, evaluation.prompts, evaluation.scores, scores)

    @contextmanager
    def applied(self, items: Items) -> Iterator[PromptedModel]:
        """The model with the vectors and their decoding in place, for forward passes of these prepared runs."""
        with self.patch.applied(self.answering, items.places):
            yield self.answering

    def predict(self, images: UInt8[np.ndarray, "n size size 3"]) -> UInt8[np.ndarray, "n size size 3"]:
        """Output images of query inputs at the canvas's image size."""
        return self.config.decoding.finish(torch.from_numpy(self.uncut(images))).numpy()

    @torch.inference_mode()
    def uncut(self, images: UInt8[np.ndarray, "n size size 3"]) -> UInt8[np.ndarray, "n size size 3"]:
        """The same before masks are cut, for ``to_result``."""
        model = self.model.variant(Variant(decoding=replace(self.config.decoding, level=None)))

        def answers(rows: int) -> list[Tensor]:
            parts = []
            for start in range(0, len(images), rows):
                items = model.prepare(Queries(images[start : start + rows]), "query_only")
                parts.append(model.answers(run(model, items, self.patch), items).cpu())
            return parts

        return torch.cat(self._passes(answers)).numpy()

    @cached_property
    def _passes(self) -> Passes:
        cost = self.model.cost("query_only", answers=True, gradient=False)
        return Passes(self.model.device, min(BATCH, rows_of_a_pass(self.model.device, cost)))

    def generate(self, texts: Sequence[str], tokens: int = ANSWER_TOKENS, **sampling: Any) -> list[str]:
        """The answers of a model for texts to inputs, without an example: at most so many tokens each.

        Inputs are put into the template that the vectors were found with, without white space around them, as in the
        data; an answer ends where the model would begin another example. ``sampling`` is as in ``CausalLm.generate``;
        by default the likeliest token is taken. Raises ValueError for vectors of images, and for an empty input.
        """
        wording = self.config.wording
        if wording is None:
            raise ValueError(
                f"the task vectors of {self.task} are of images: texts are none, nor are names of files; "
                "PIL.Image.open opens one"
            )
        if isinstance(texts, str):
            raise ValueError(f"the inputs are one text, {texts!r}: expected a list of texts")
        inputs = [text.strip() for text in texts]
        if "" in inputs:
            raise ValueError(f"the input {texts[inputs.index('')]!r} is empty: expected text")
        asked = [wording.input(text) for text in inputs]
        answers = self.model.generate(asked, tokens, patch=self.patch, **sampling)
        return [wording.answer(answer) for answer in answers]

    @overload
    def __call__(self, image: str) -> str: ...

    @overload
    def __call__(self, image: list[str]) -> list[str]: ...

    @overload
    def __call__(self, image: np.ndarray, levels: tuple[float, float] | None = None) -> np.ndarray: ...

    @overload
    def __call__(self, image: Image.Image, levels: tuple[float, float] | None = None) -> Image.Image: ...

    @overload
    def __call__(self, image: list[np.ndarray], levels: tuple[float, float] | None = None) -> list[np.ndarray]: ...

    @overload
    def __call__(self, image: list[Image.Image], levels: tuple[float, float] | None = None) -> list[Image.Image]: ...

    def __call__(self, image: Any, levels: tuple[float, float] | None = None) -> Any:
        """Do the task on an image or a text, or on each of a list; of texts as ``generate`` does.

        An image is a pillow image, and so is its result, or an array [height, width] or [height, width, 3 or 4], whose
        result is one, uint8; several arrays of one size may be one, [n, height, width, 3 or 4].

        The model sees its own size; results have that of the image, upright as its EXIF data say. A task whose outputs
        are masks gives masks: mode ``L`` or an array [height, width], 255 on the object and 0 elsewhere. ``levels`` are
        those of deep images (16 bits, floating point) that are black and white; by default, those that the vectors were
        found with. Raises ValueError for a deep image without.
        """
        if isinstance(image, str):
            return self.generate([image])[0]
        if isinstance(image, np.ndarray) and image.ndim == 4:
            return np.stack(self(list(image), levels)) if len(image) else image
        if isinstance(image, Image.Image | np.ndarray):
            return self._results([image], levels)[0]
        if not image:
            return []
        texts = [one for one in image if isinstance(one, str)]
        if len(texts) == len(image):
            return self.generate(texts)
        if texts and self.config.wording is None:
            raise ValueError(f"{texts[0]!r} is no image: the task vectors of {self.task} are of images")
        return self._results(image, levels)

    def _results(
        self, images: Sequence[Image.Image | np.ndarray], levels: tuple[float, float] | None
    ) -> list[Image.Image | np.ndarray]:
        """Each of the kind that its image is of."""
        if self.config.wording is not None:
            raise ValueError(f"the task vectors of {self.task} are of texts: images are none")
        rasters = [raster_of_array(one) if isinstance(one, np.ndarray) else raster_of(one) for one in images]
        chosen = self.levels if levels is None else Range(*levels)
        outputs = self.uncut(np.stack([self.to_input(raster, chosen) for raster in rasters]))
        results = [self.to_result(output, raster.size) for output, raster in zip(outputs, rasters, strict=True)]
        return [
            np.array(each) if isinstance(one, np.ndarray) else each for each, one in zip(results, images, strict=True)
        ]

    @property
    def levels(self) -> Range | None:
        """Of deep images, as they were found with."""
        return None if self.config.input_levels is None else Range(*self.config.input_levels)

    @property
    def threshold(self) -> float | None:
        """Where answers are cut to masks, None where they are pictures."""
        return self.config.decoding.threshold if METRICS[self.config.metric].of_masks else None

    def to_input(self, image: Raster, levels: Range | None = None) -> UInt8[np.ndarray, "size size 3"]:
        """An image as the model sees it."""
        return input_pixels(image, self.model.image_size, levels)

    def to_result(self, output: UInt8[np.ndarray, "size size 3"], size: tuple[int, int]) -> Image.Image:
        """What ``uncut`` gave as an image of ``size`` (width, height), a mask if the task's outputs are masks."""
        return result_image(output, size, self.threshold)

    def __add__(self, other: "TaskVectors") -> "TaskVectors":
        return self._add(other, 1)

    def __sub__(self, other: "TaskVectors") -> "TaskVectors":
        return self._add(other, -1)

    def __mul__(self, factor: float) -> "TaskVectors":
        return self._scale(factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "TaskVectors":
        return self._scale(1 / divisor)

    def __neg__(self) -> "TaskVectors":
        return self._scale(-1)

    def _add(self, other: "TaskVectors", sign: int) -> "TaskVectors":
        """Add or subtract means position by position (Figure 7); ValueError where the positions are not the same."""
        if not isinstance(other, TaskVectors):
            return NotImplemented
        if self.config.model_fingerprint != other.config.model_fingerprint:
            raise ValueError(f"{self.task} and {other.task} belong to different models")
        if self.sites != other.sites:
            raise ValueError(
                f"{self.task} and {other.task} have different sites: only vectors of the same sites add up, as one "
                f"search for both finds them, {_search_for([self.task, other.task])}"
            )
        if None not in (self.levels, other.levels) and self.levels != other.levels:
            raise ValueError(
                f"{self.task} and {other.task} were found on deep images of different levels, {self.levels} and "
                f"{other.levels}: only those of the same range (--levels) add up"
            )
        wordings = self.config.wording, other.config.wording
        if None not in wordings and len({each.template for each in wordings if each is not None}) > 1:
            templates = " and ".join(repr(each.template) for each in wordings if each is not None)
            raise ValueError(
                f"{self.task} and {other.task} are for different templates, {templates}: only those of one add up"
            )
        # a stack without a chosen site is all NaN, and the other's search may not have had it
        means = {stack: mean + sign * other.means.get(stack, torch.nan) for stack, mean in self.means.items()}
        return self._combined(means, self._terms() + other._terms(sign), other)

    def _scale(self, factor: float) -> "TaskVectors":
        if not isinstance(factor, int | float):
            return NotImplemented
        return self._combined({stack: factor * mean for stack, mean in self.means.items()}, self._terms(factor))

    @property
    def terms(self) -> tuple[Term, ...]:
        """What these vectors are the sum of: themselves alone, unless they were combined."""
        return self._terms()

    def _terms(self, factor: float = 1) -> tuple[Term, ...]:
        found = self.config.found
        if isinstance(found, Combination):
            terms = found.terms
            if found.metric is not None:  # which was asked for: what its terms had is no longer asked
                unscored = found.metric if self.config.wording is not None else FOR_IMAGES.name
                metrics = [found.metric if term.factor > 0 else unscored for term in terms]
                terms = [replace(term, metric=metric) for term, metric in zip(terms, metrics, strict=True)]
        else:
            terms = [Term(1, self.task, self.config.metric, self.fingerprint(), found)]
        return tuple(replace(term, factor=float(factor * term.factor)) for term in terms)

    def _combined(
        self, means: dict[str, Tensor], terms: tuple[Term, ...], other: "TaskVectors | None" = None
    ) -> "TaskVectors":
        """Vectors at the same sites; scored as masks if a term that is not subtracted is, as its masks come out. Those
        of texts are scored as they were.

        They are decoded as the one of the two is that has the same metric, or as the first, without a level.
        """
        name = as_sum(terms)
        if any(not torch.equal(mean.isfinite(), self.means[stack].isfinite()) for stack, mean in means.items()):
            raise ValueError(f"the values of {name} are not finite in float32")
        masks = (term.metric for term in terms if term.factor > 0 and METRICS[term.metric].of_masks)
        metric = next(masks, self.config.metric if self.config.wording is not None else FOR_IMAGES.name)
        found = Combination(name, terms)
        alike = [each.config for each in (self, other) if each is not None and each.config.metric == metric]
        decoding = alike[0].decoding if alike else replace(self.config.decoding, level=None)
        config = replace(self.config, task=name, metric=metric, found=found, decoding=decoding)
        return TaskVectors(self.model, config, means)

    def fingerprint(self) -> str:
        """SHA-256 of what they do, 16 hexadecimal digits: the same for the same model, means and decoding."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.config.model_fingerprint} {self.config.metric}".encode())
        if self.config.decoding != Decoding():  # which there was none of when the first fingerprints were taken
            digest.update(str(self.config.decoding).encode())
        for stack, mean in sorted(self.means.items()):
            digest.update(stack.encode())
            digest.update(mean.contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json and vectors.safetensors: the chosen positions [n, 3] (layer, head, token) and values.

        Whenever the writing stops, what was there is there as it was, or what is new.
        """
        tensors = {}
        for stack, mean in self.means.items():
            positions = (~mean.isnan().any(-1)).nonzero()
            tensors[f"{stack}.positions"] = positions.to(torch.int32).contiguous()
            tensors[f"{stack}.values"] = mean[tuple(positions.T)].contiguous()
        artefacts.write(Path(directory), self.config, bytes_of(tensors))

    @classmethod
    def load(cls, directory: str | Path, model: PromptedModel) -> Self:
        """Read a directory; ValueError where it holds no task vectors, damaged ones, or those of another model.

        Warns where they are of an earlier format, which had no digests that could tell damage.
        """
        config, tensors_digest = artefacts.read_with_digest(Path(directory))
        _check_model(model, config)
        chosen = _positions(model, config, Path(directory) / CONFIG)
        path, content = artefacts.read_tensors(Path(directory), tensors_digest)
        means = {}
        try:
            tensors = tensors_of(content)
            for stack, selected in chosen.items():
                positions, values = tensors[f"{stack}.positions"].long(), tensors[f"{stack}.values"]
                if not torch.equal(positions, selected.nonzero()) or values.dtype != torch.float32:
                    raise ValueError(f"{path} does not hold float32 values of the {stack}'s sites that {CONFIG} names")
                means[stack] = torch.full((*selected.shape, model.stacks[stack].head_dim), torch.nan)
                means[stack][tuple(positions.T)] = values
        except (SafetensorError, KeyError, IndexError, RuntimeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        for stack, selected in chosen.items():
            if not torch.equal(means[stack].isfinite().all(-1), selected) or means[stack].isinf().any():
                raise ValueError(f"{path} does not hold finite values of the {stack}'s sites that {CONFIG} names")
        if config.format in WITHOUT_DIGESTS:
            warnings.warn(
                f"{directory} holds task vectors of format {config.format}, without checksums: save them again, with "
                f"TaskVectors.load({str(directory)!r}, model).save_pretrained(...)",
                stacklevel=2,
            )
        _log.info("task vectors of %s from %s", config.task, directory)
        return cls(model, config, means)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        model: PromptedModel | None = None,
        *,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
    ) -> Self:
        """``load`` for a directory; any other name is a repository of the Hugging Face hub, which is downloaded.

        ``hub:OWNER/NAME`` is always the repository; ``revision`` is a branch, tag or commit, ``token`` by default the
        one of `hf auth login`; with ``local_files_only`` nothing but the hub's cache is asked. Where no ``model`` is
        given, that of the vectors is loaded to ``device``: one that ships, or from the hub, by the same token. Raises
        ValueError where there is neither, or no connection, and where the vectors' model is not known by a name.
        """
        place = Path(name)
        if not place.is_dir():
            place = hub.download(name, revision=revision, token=token, local_files_only=local_files_only)
        if model is None:
            base = named_model(read_config(place), place)
            model = load_model(base, device, token=token, local_files_only=local_files_only)
        return cls.load(place, model)

    def push_to_hub(
        self,
        repository: str,
        *,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        private: bool = False,
        licence: str | None = None,
        picture: bytes | None = None,
    ) -> str:
        """Upload to the Hugging Face hub, with a card; without an owner, to the user's own repository of this name.

        One commit to the branch ``revision``, which is made where there is none. The card says what is recorded of the
        vectors, the ``licence`` that is given, and where one is given shows a ``picture``, a PNG such as
        ``evaluation.picture()``, which goes along: it has images of the data in it. Returns the full name. Raises
        ValueError where the hub refuses it or there is no connection, and where a ``private`` repository was asked for
        and it is public already.
        """
        from taskvec.card import card  # noqa: PLC0415 which is about task vectors

        with TemporaryDirectory() as directory:
            self.save_pretrained(directory)
            if picture is not None:
                (Path(directory) / PICTURE).write_bytes(picture)
            created = hub.create(repository, private=private, token=token)
            text = card(self.config, hub.named(created, revision), licence, None if picture is None else PICTURE)
            (Path(directory) / CARD).write_text(text, encoding="utf-8")
            message = commit_message or f"Upload the task vectors of {self.task} with taskvec"
            options: dict[str, Any] = {"message": message, "revision": revision, "token": token}
            hub.upload(Path(directory), created, **options, former=[PICTURE])
        return created


def _check_model(model: PromptedModel, config: VectorsConfig) -> None:
    check_model(model, "these task vectors", config.model, config.model_fingerprint)


def _search_for(tasks: Sequence[str]) -> str:
    """The command that finds the vectors of these tasks at the same sites."""
    if all(task in TASKS for task in tasks):
        return f"`taskvec search {' '.join(f'--task {task}' for task in tasks)} --out DIRECTORY`"
    return "of two folders `taskvec search --data folder --root FIRST --root SECOND --out DIRECTORY`"


def input_pixels(image: Raster, side: int, levels: Range | None = None) -> UInt8[np.ndarray, "side side 3"]:
    """An image as a model sees it whose images are ``side`` pixels wide and high."""
    return in_colour(resize(image.bytes(levels), side))


def result_image(
    output: UInt8[np.ndarray, "side side 3"], size: tuple[int, int], threshold: float | None
) -> Image.Image:
    """A model's answer as an image of ``size`` (width, height), a mask where there is a ``threshold``.

    A mask is cut at its own size, so that its edge is finer than the model's pixels.
    """
    result = Image.fromarray(output).resize(size, Image.Resampling.BICUBIC)
    return result if threshold is None else _as_mask(result, threshold)


def _as_mask(image: Image.Image, level: float) -> Image.Image:
    mask = np.empty((image.height, image.width), np.uint8)
    for top in range(0, image.height, _ROWS):
        strip = np.array(image.crop((0, top, image.width, min(top + _ROWS, image.height))))
        mask[top : top + _ROWS] = is_white(torch.from_numpy(strip)[None], level)[0].numpy() * np.uint8(255)
    return Image.fromarray(mask)


def _positions(
    model: PromptedModel, config: VectorsConfig, source: Path | str
) -> dict[str, Bool[Tensor, "layers heads tokens"]]:
    """The positions of the sites that a configuration names."""
    sites = model.sites(config.granularity, tuple(config.shapes))  # pyright: ignore[reportArgumentType]
    place = {name: index for index, name in enumerate(sites.names)}
    unknown = [name for name in config.sites if name not in place]
    if unknown:
        raise ValueError(f"{source} names a site that the model does not have: {unknown[0]}")
    chosen = torch.nn.functional.pad(sites.mask([place[name] for name in config.sites]), (0, 1))
    return {stack: chosen[index] for stack, index in sites.index.items()}
