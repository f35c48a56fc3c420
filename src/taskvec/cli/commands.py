"""All commands by name. A command's module is imported when that command is asked for."""

import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache, wraps
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import taskvec
from taskvec.choices import Registry
from taskvec.cli import UNEXPECTED, signals, terminal
from taskvec.cli.checks import check
from taskvec.cli.data_options import FOLDERS
from taskvec.cli.options import with_parameters
from taskvec.names import choose_from
from taskvec.records import CONFIG

_log = logging.getLogger(__name__)

STATUSES = {
    0: "done",
    1: "something is wrong with the input, a file or the machine; a sentence says what and where",
    2: "no such command or option, or no such value for it",
    UNEXPECTED: "an error in taskvec itself, to be reported",
    signals.INTERRUPTED: "interrupted by Ctrl-C",
    signals.BROKEN_PIPE: "whoever read standard output left, as head does; nothing is said",
    signals.TERMINATED: "terminated by SIGTERM",
}


@dataclass(frozen=True)
class Command:
    """Where a command is, a function in a module of this package; the first paragraph of what it says of itself, for
    the help on all commands, which imports none; and command lines that its own help shows.

    ``loads`` are the modules that take long to import, of what it works with: there is nothing to keep until they are.
    ``results``, ``unfinished``, ``of_vectors`` and ``each_root`` say what is checked before that, as ``checks.check``
    has them.
    """

    place: str
    summary: str
    examples: tuple[str, ...]
    loads: tuple[str, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    results: tuple[str, ...] = ()
    unfinished: Callable[[Path], Path] | None = None
    of_vectors: bool = False
    each_root: bool = False


def _search_state(out: Path) -> Path:
    """What a search that was stopped leaves."""
    return out / terminal.SEARCH_STATE


COMMANDS = {
    "find": Command(
        "vectors:find_command",
        "The whole job for one task: statistics, a search, scores on examples kept aside, a verdict, pictures.",
        (
            "taskvec find --root mytask --out vectors/mytask",
            "taskvec find --data scenes --task segmentation --out vectors/segmentation",
            "taskvec find --model models/smollm2 --data pairs --root capitals.csv --out vectors/capitals",
        ),
        ("judging", "report.page", "report.figures", "report.contact_sheet"),
        results=(CONFIG, *terminal.JUDGEMENT),
        unfinished=_search_state,
    ),
    "apply": Command(
        "applying:apply_command",
        "Do a task on images, or texts, through its task vectors. Interrupted, the same command goes on "
        "where it stopped.",
        (
            "taskvec apply vectors/segmentation images --out out",
            'taskvec apply vectors/segmentation "train-{000..127}.tar" --out shards',
            "taskvec apply vectors/capitals --model models/smollm2 --text France --text Peru",
        ),
        ("application", "models"),
        of_vectors=True,
    ),
    "evaluate": Command(
        "evaluating:evaluate_command",
        "Score one way of doing a task on data kept aside: mean, 95 % interval, spreads, speed.",
        (
            "taskvec evaluate --task segmentation --method vectors:vectors/segmentation --against one_shot",
            "taskvec evaluate --data pascal --root VOCdevkit --fold all --task segmentation --method one_shot",
        ),
        ("cli.scores",),
    ),
    "refine": Command(
        "vectors:refine_command",
        "Better values for task vectors at the same sites, by a gradient on the data of their search or on others.",
        ("taskvec refine vectors/mytask --root mytask --out vectors/refined",),
        ("refining",),
        results=(CONFIG,),
        of_vectors=True,
    ),
    "combine": Command(
        "combining:combine_command",
        "Add, subtract and scale task vectors of the same sites into those of a new task.",
        ('taskvec combine "inpainting + segmentation - identity" --vectors vectors/shared --out vectors/combined',),
        ("arithmetic",),
        {"ignore_unknown_options": True},  # an expression may begin with a minus
        results=(CONFIG, terminal.SEARCH_LOG, *terminal.JUDGEMENT),
    ),
    "app": Command(
        "serving:app_command",
        "A page in the browser: drop images, compare answers, switch heads off, add task vectors up, make a task.",
        ("taskvec app --vectors vectors", "taskvec app --vectors vectors --statistics statistics.safetensors"),
        ("app.offer",),
    ),
    "list": Command(
        "listing:list_command",
        "Task vectors and models in a directory, and in those that are in it.",
        ("taskvec list", "taskvec list vectors --json vectors.json"),
    ),
    "push": Command(
        "sharing:push_command",
        "Upload task vectors, or a model, to the Hugging Face hub, with a card that says what is recorded of them.",
        (
            "taskvec push vectors/mytask me/mytask --licence cc-by-4.0",
            "taskvec push vectors/mytask me/mytask --root mytask --private",
        ),
        ("vectors",),
    ),
    "library list": Command(
        "sharing:library_list_command",
        "The task vectors in a directory: name, task, sites, model, and what they scored where that was measured.",
        ("taskvec library list vectors",),
        ("library",),
    ),
    "library show": Command(
        "sharing:library_show_command",
        "One of the task vectors in a directory, as `taskvec info` tells of it.",
        ("taskvec library show vectors xrays/lungs",),
        ("library",),
    ),
    "library score": Command(
        "sharing:library_score_command",
        "Score every one of the task vectors in a directory on the same pairs, beside the query alone.",
        ("taskvec library score vectors --root mytask",),
        ("library",),
    ),
    "library best": Command(
        "sharing:library_best_command",
        "Which of the task vectors in a directory do best on pairs, by how much, and whether that is more than chance.",
        ("taskvec library best vectors --root mytask",),
        ("library",),
    ),
    "info": Command(
        "models:info_command",
        "What a model or task vectors are: architecture, parameters, operations, fingerprint; or task, sites, origin.",
        ("taskvec info tiny", "taskvec info vectors/segmentation"),
    ),
    "doctor": Command(
        "doctor:doctor_command",
        "Whether all that taskvec needs is there: versions, devices, memory, disk, extras, and how fast it runs.",
        ("taskvec doctor", "taskvec doctor --json doctor.json"),
    ),
    "collect": Command(
        "searching:collect_command",
        "Mean and variance of every head output over one-shot prompts of each task.",
        ("taskvec collect --task segmentation --out statistics.safetensors",),
        ("finding",),
        results=("",),
        unfinished=terminal.partial_file,
    ),
    "search": Command(
        "searching:search_command",
        "Find the task vectors of a task, or of several at the same sites: by default the paper's "
        "search, of some minutes.",
        (
            "taskvec search --task segmentation --statistics statistics.safetensors --out vectors/segmentation",
            "taskvec search --preset best --task inpainting --task segmentation --out vectors/shared",
            "taskvec search --data folder --root lungs --root ribs --out vectors/chest",
        ),
        ("finding", "presets"),
        results=(CONFIG,),
        unfinished=_search_state,
        each_root=True,
    ),
    "demo": Command(
        "vectors:demo_command",
        "Every task that the data serve: statistics, search (preset best), evaluation, report. Minutes with tiny.",
        ("taskvec demo", "taskvec demo --model small --root photographs"),
        ("judging", "report.page", "report.figures"),
    ),
    "experiment": Command(
        "experimenting:experiment_command",
        "The paper's tables and figures on a model and data; with all, the report on every claim.",
        (
            "taskvec experiment all --quick --out study",
            "taskvec experiment table-3 --root mytask --data folder --out study",
        ),
        ("cli.studies",),
    ),
    "experiment status": Command(
        "experimenting:status_command",
        "How far the study in a directory is: what is done, what is running and where, what failed and why.",
        ("taskvec experiment status study",),
        ("experiments.journal",),
    ),
    "train": Command(
        "models:train_command",
        "Train a model from a recipe; Ctrl-C keeps a checkpoint, and the same command goes on from it.",
        ("taskvec train recipes/tiny.toml --out runs/tiny",),
        ("training.recipe",),
    ),
    "example": Command(
        "example:example_command",
        "Write a task of your own to try the others on: drawn pairs in the directories that `taskvec find --root` "
        "reads.",
        ("taskvec example mytask", "taskvec example holes --task inpainting --pairs 100"),
        results=("",),
    ),
    "convert": Command(
        "models:convert_command",
        "Turn the published files into a model directory for --model. The files are read as data; "
        "nothing in them runs.",
        (
            "taskvec convert --mae checkpoint-3400.pth --vqgan last.ckpt --vqgan-config model.yaml --out models/large",
            "taskvec convert --checkpoint seggpt_vit_large.pth --out models/seggpt",
        ),
        ("models.checkpoints",),
        results=("",),
    ),
}

_FUNCTIONS: Registry[Callable[..., None]] = Registry(
    {name: f"taskvec.cli.{command.place}" for name, command in COMMANDS.items()}
)


def _without_types_of_flags(params: list[Any]) -> list[Any]:
    """Options as help is to show them: a flag takes no <bool>."""
    for one in params:
        if getattr(one, "is_flag", False):
            one.metavar = ""
    return params


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))


class _Commands(TyperGroup):
    """Commands may have names of two words."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types_of_flags(super().get_params(ctx))

    def __init__(self, **given: Any):
        super().__init__(**given)
        self.commands: Any = _FUNCTIONS  # of which it asks for the names alone

    def get_help_option(self, ctx: Any) -> Any:
        """--help with a default, as typer imports pydantic for an option without."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What is listed of a command."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name].summary) if cmd_name in COMMANDS else None

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Without commands of two words, which a shell would take for one."""
        return [item for item in super().shell_complete(ctx, incomplete) if " " not in item.value]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        _refuse_half_a_name(ctx, args)
        for words in (2, 1):
            if (name := " ".join(args[:words])) in COMMANDS:
                return name, command_named(name), args[words:]
        return super().resolve_command(ctx, args)


def _refuse_half_a_name(ctx: Any, args: list[str]) -> None:
    """Of commands of two words which there are, where only the first is given, or another second one."""
    group = {name: command for name, command in COMMANDS.items() if name.startswith(f"{args[0]} ")}
    if not group or " ".join(args[:2]) in group or ctx.resilient_parsing:  # as completion does
        return
    if args[0] not in COMMANDS and args[1:2] == ["--help"]:
        terminal.say("\n".join(f"{name:<20}  {command.summary}" for name, command in group.items()))
        raise typer.Exit
    meant = " ".join(args[:2])
    more = f", or {args[0]} with a name that `taskvec {args[0]} --help` lists" if args[0] in COMMANDS else ""
    if not args[1:]:
        ctx.fail(f"{meant} alone is no command: expected one of {', '.join(group)}{more}")
    if not more or (not args[1].startswith("-") and get_close_matches(meant, group, cutoff=0.8)):
        ctx.fail(f"there is no command {meant!r}: {choose_from(meant, group, more)}")


_FOLDERS_FIRST = {  # behind the options of a command for folders of one's own
    *("answers", "assignments", "at_most", "bfloat16", "curve", "device", "fold", "layout", "non_finite", "quiet"),
    *("refined", "seed", "settings_file", "skip_missing", "tensorboard", "threads", "verbose"),
}


def _arranged(command: Any) -> Any:
    """The command with a help that has options for folders before what is rarely needed."""
    if any(getattr(one, "rich_help_panel", None) == FOLDERS for one in command.params):
        for one in command.params:
            if one.name in _FOLDERS_FIRST:
                one.rich_help_panel = "Options that are rarely needed"
        command.params.sort(key=lambda one: one.name in _FOLDERS_FIRST)
    return command


@cache
def command_named(name: str) -> Any:
    """The command as typer runs it."""
    command = COMMANDS[name]
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    epilog = _listed("Examples" if len(command.examples) > 1 else "Example", command.examples)
    alone.command(name, cls=_Command, context_settings=dict(command.context), epilog=epilog)(
        _begun(_FUNCTIONS[name], command)
    )
    return _arranged(get_command(alone))


def _listed(title: str, lines: Any) -> str:
    """For the end of a help text."""
    return f"{title}:\n" + "\n".join(f"  {line}" for line in lines)


_QUIET = typer.Option("--quiet", help="Say nothing but results and errors.")
_VERBOSE = typer.Option("--verbose", help="Also say what is loaded, from where, and when.")


def _begun(function: Callable[..., None], command: Command) -> Callable[..., None]:
    """The command with the options that say how much it tells, begun when what it is given is there, and then all that
    takes long to import."""

    @wraps(function)
    def run(*, quiet: bool, verbose: bool, context: typer.Context, **given: Any) -> None:
        terminal.set_volume(quiet=quiet, verbose=verbose)
        check(
            given,
            command.results,
            command.unfinished,
            of_vectors=command.of_vectors,
            each_root=command.each_root,
        )
        for module in command.loads:
            import_module(f"taskvec.{module}")
        _log.info("imported what it works with")
        context.obj.at_once = False
        function(**given)

    own = inspect.signature(function, eval_str=True).parameters.values()
    common = [
        Parameter("quiet", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, _QUIET]),
        Parameter("verbose", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, _VERBOSE]),
        Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context),
    ]
    return with_parameters(run, [*own, *common])


def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    quiet: Annotated[bool, _QUIET] = False,
    verbose: Annotated[bool, _VERBOSE] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback",
            help="Let an error through with its traceback, to report it, as TASKVEC_TRACEBACK=1 does.",
            envvar="TASKVEC_TRACEBACK",
        ),
    ] = False,
) -> None:
    """Find and use visual task vectors."""
    terminal.set_volume(quiet=quiet, verbose=verbose)
    if version:
        terminal.say(taskvec.__version__)
        raise typer.Exit


def application(*, completing: bool) -> typer.Typer:
    """All commands as one; ``completing`` adds what completes them in a shell, which takes time that few runs need."""
    app = typer.Typer(
        name="taskvec",
        cls=_Commands,
        epilog=_listed("Exit statuses", (f"{status:>3}  {meaning}" for status, meaning in STATUSES.items())),
        add_completion=completing,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(version_option)
    return app
