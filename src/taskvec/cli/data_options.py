"""Which data a command works on: one bundle of options for all commands that read a data set."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskvec.choices import DATA_SETS, IMAGE_METRICS, LAYOUTS, MAX_PIXELS, TEMPLATES
from taskvec.cli import options
from taskvec.cli.options import among, with_parameters
from taskvec.cli.terminal import console, refuse_several

if TYPE_CHECKING:
    from taskvec.data import DataSet

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}  # which a shell hands on as they are typed
_ESCAPE = re.compile(r"\\([nt\\])")
FOLDERS, _PAIRS = "Options for your own folders", "Options for word pairs"


def _of_folders(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=FOLDERS, **settings)


def _of_pairs(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=_PAIRS, **settings)


@dataclass(frozen=True)
class DataOptions:
    """The data set and its options, as given; what a data set has no use for must not be given."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            autocompletion=among(DATA_SETS),
            help=f"Data set: {', '.join(DATA_SETS)} (pictures only to judge by).",
        ),
    ] = None
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root",
            help="The directory of Pascal-5i, of images, or of inputs and outputs; the file of word pairs. For "
            "`taskvec search` repeat it: each is a task of its own, and all get the same sites.",
        ),
    ] = None
    fold: Annotated[
        int | None, typer.Option("--fold", help="Only the classes of this fold of scenes or Pascal-5i, 0 to 3.")
    ] = None
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            autocompletion=among(LAYOUTS),
            help=f"What Pascal-5i trains on in a fold: {' or '.join(LAYOUTS)} (few_shot).",
        ),
    ] = None
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out what Pascal-5i's lists name and its directory lacks.")
    ] = False
    metric: Annotated[
        str | None,
        _of_folders(
            "--metric",
            autocompletion=among(IMAGE_METRICS),
            help=f"{' or '.join(IMAGE_METRICS)}; told from the outputs if not given.",
        ),
    ] = None
    input: Annotated[
        Path | None,
        _of_folders(
            "--input", help="Directory of inputs, in --root or anywhere; input/, images/ and the like if not given."
        ),
    ] = None
    output: Annotated[
        Path | None,
        _of_folders("--output", help="Directory of outputs; output/, masks/, labels/ and the like if not given."),
    ] = None
    suffix: Annotated[
        str, _of_folders("--suffix", help="Outputs are called as their inputs with this after the name, such as _mask.")
    ] = ""
    levels: Annotated[tuple[float, float] | None, _of_folders("--levels", metavar="LO HI", help=options.LEVELS)] = None
    object_level: Annotated[
        str | None,
        _of_folders(
            "--object",
            metavar="N",
            help="The object, where outputs are maps of classes: a level, or a colour such as #800000.",
        ),
    ] = None
    void: Annotated[
        str | None,
        _of_folders("--void", metavar="N", help="The class whose pixels count nowhere; 255 in maps of classes."),
    ] = None
    ignore_orientation: Annotated[bool, _of_folders("--ignore-orientation", help=options.IGNORE_ORIENTATION)] = False
    groups: Annotated[
        str | None,
        _of_folders(
            "--groups",
            metavar="RULE",
            help="What images of one patient, video or object share, which stay on one side of every split: the first "
            "letters of their names (a number), what is before a separator (such as _), the group in a regular "
            "expression, or a CSV file of lines NAME,GROUP.",
        ),
    ] = None
    max_pixels: Annotated[int, _of_folders("--max-pixels", min=1, max=options.MOST_PIXELS, help=options.MAX_PIXELS)] = (
        MAX_PIXELS
    )
    template: Annotated[
        str | None,
        _of_pairs(
            "--template",
            autocompletion=among(TEMPLATES),
            metavar="TEXT",
            help=f"How a pair is written: {', '.join(TEMPLATES)} (qa if not given), or a text with {{input}} and "
            "{output}, in which \\n is the end of a line; what follows {output} stands between two pairs.",
        ),
    ] = None
    shots: Annotated[
        int | None, _of_pairs("--shots", min=1, help="Pairs before the query of a prompt; 10 if not given.")
    ] = None
    _said: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> "DataOptions":
        """Those among a command's options, by their names."""
        return cls(**{one.name: given[one.name] for one in fields(cls) if one.init and one.name in given})

    def given(self) -> dict[str, object]:
        """The data set's options that were given, by the names that ``load_data`` takes.

        Raises ValueError for several roots.
        """
        names = {one.name: getattr(self, one.name) for one in fields(self) if one.default is not MISSING and one.init}
        defaults = {one.name: one.default for one in fields(self)}
        chosen = {name: value for name, value in names.items() if name != "data" and value != defaults[name]}
        if self.root:
            if len(self.root) > 1:
                every = " ".join(f"--root {one}" for one in self.root)
                raise ValueError(f"{every}: expected one; `taskvec search` finds the same sites for several folders")
            chosen["root"] = self.root[0]
        elif self.input is not None:
            chosen["root"] = Path()
        if self.template is not None:
            chosen["template"] = _ESCAPE.sub(lambda found: _ESCAPES[found[1]], self.template)
        return chosen

    def of_each_root(self) -> "Sequence[DataOptions]":
        """The same with one of the roots each."""
        return [replace(self, root=[root]) for root in self.root] if self.root else [self]

    def load(self, part: str, **more: object) -> "DataSet":
        """A part of the data; says what was told from it, once."""
        from taskvec.data import load_data

        extra = {name: value for name, value in more.items() if value is not None}
        data = load_data(self.data or "scenes", part, **{**self.given(), **extra})
        for remark in data.remarks():
            if remark not in self._said:
                self._said.add(remark)
                console.print(remark)
        return data

    def load_each(self, part: str, tasks: Sequence[str] | None, **more: object) -> "list[DataSet]":
        """A part of the data for every task named, or for the data's own where none is.

        Of relations that is the one of the task's name, of all else one data set for all of them.
        """
        if self.data == "relations":
            return [self.load(part, relation=name, **more) for name in tasks or (None,)]
        return [self.load(part, **more)] * max(1, len(tasks or ()))

    def load_one(self, part: str, tasks: Sequence[str] | None, **more: object) -> "DataSet":
        """The same for one task, named or not; ValueError where several are."""
        refuse_several(tasks)
        return self.load_each(part, tasks, **more)[0]


NONE_GIVEN = DataOptions()


def takes_data(data: str | None = "scenes", *, without: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Gives a command the options of ``DataOptions``, but for those named in ``without``, in place of its parameter
    ``data_options``, which it is called with; ``data`` is the data set if none is given.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        bundled = [one for one in fields(DataOptions) if one.init and one.name not in without]

        @wraps(command)
        def with_options(**given: Any) -> Any:
            chosen = {one.name: given.pop(one.name) for one in bundled}
            return command(**given, data_options=DataOptions(**chosen))

        parameters = []
        for parameter in signature(command, eval_str=True).parameters.values():
            if parameter.name != "data_options":
                parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
                continue
            for one in bundled:
                default = data if one.name == "data" else one.default
                parameters.append(Parameter(one.name, Parameter.KEYWORD_ONLY, default=default, annotation=one.type))
        return with_parameters(with_options, parameters)

    return decorate
