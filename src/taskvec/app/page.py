"""The page itself, and the server that has it. This module alone knows gradio; what it shows is made by the others."""

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # which gradio reads when it is imported: it would call home

import gradio as gr  # pyright: ignore[reportMissingImports] (an extra)
import pandas as pd
from gradio.themes import Base  # pyright: ignore[reportMissingImports] (as above)

from taskvec.app import markup
from taskvec.app.answers import SCENE, Answers, answer, answer_texts, drawn_example, weighted
from taskvec.app.making import Making
from taskvec.app.maps import Head, head_map, heads_of, task_points, token_map, without
from taskvec.app.offer import MADE, Offer
from taskvec.app.pairs import stage, told_by_name
from taskvec.app.session import Session, Sessions
from taskvec.artefacts import read_config
from taskvec.data import load_data
from taskvec.data.folder import Folder
from taskvec.models.interface import PromptedModel
from taskvec.presets import PRESETS, default_preset
from taskvec.tasks import TASKS, Task
from taskvec.vectors import TaskVectors

MOST_TERMS = 6  # task vectors that are added up
MOST_WAITING = 64  # requests, beyond which a visitor is told to come back
LARGEST = "256mb"  # of a file that is dropped
KEPT = (3600, 24 * 3600)  # seconds: how often uploads are looked at, and how old one becomes
FIRST_PORT, PORTS = 7860, 100
TITLE = "taskvec"
OWN, DRAWN = "my own pairs", "drawn scenes"
_EXPECTED = (ValueError, OSError, MemoryError, OverflowError, NotImplementedError)
_NAME = re.compile(r"[\w][\w .-]{0,63}")

_INTRODUCTION = """# taskvec
A task vector makes a frozen model do a task **without an example**. Choose a model and task vectors, drop an image, and
compare. No task vectors yet? *Make a task* finds some from ten pairs of yours, or from drawn scenes.
"""
_NO_QUERY = "Drop an image, or try a drawn scene: the answers come here."
_NO_VECTORS = (
    "No task vectors are chosen: the model alone answers. Choose some above, or make some under “Make a task”."
)
_NO_HEAD = "Every head is switched off: that is the query alone."


def _theme() -> Base:
    """Fonts of the visitor's system: others would be fetched."""
    return Base(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def _sentence(error: Exception) -> str:
    if isinstance(error, _EXPECTED):
        return " ".join(str(error).split()) or type(error).__name__
    return f"unexpected: {type(error).__name__}: {error}"


class _Page:
    """What the page's events do. Visitors share the models, whose passes keep nothing, and nothing else."""

    def __init__(self, offer: Offer, sessions: Sessions):
        self.offer, self.sessions = offer, sessions

    def session(self, request: gr.Request) -> Session:
        return self.sessions.of(str(request.session_hash))

    def offered(self, name: str, session: Session) -> dict[str, Path]:
        return self.offer.vectors(self.offer.model(name), session.vectors)

    def choose_model(self, name: str, request: gr.Request) -> Sequence[Any]:
        """Vectors of the model, and the parts of the page for images or for texts."""
        try:
            model = self.offer.model(name)
            names = list(self.offered(name, self.session(request)))
        except _EXPECTED as error:
            return gr.skip(), gr.skip(), gr.skip(), gr.update(value=markup.error(_sentence(error)), visible=True)
        chosen = gr.update(choices=names, value=names[:1])
        of_texts = model.takes_texts
        return chosen, gr.update(visible=not of_texts), gr.update(visible=of_texts), gr.update(visible=False)

    def choose_vectors(self, names: list[str]) -> list[Any]:
        """A slider for each of several, beginning at 1, and every head on."""
        count = len(names) if len(names) > 1 else 0
        labels = [f"weight of {name}" for name in names[:MOST_TERMS]] + ["weight"] * (MOST_TERMS - len(names))
        shown = [gr.update(value=1, label=label, visible=index < count) for index, label in enumerate(labels)]
        return [*shown, [], None]

    def vectors(
        self, name: str, names: Sequence[str], weights: Sequence[float], session: Session
    ) -> TaskVectors | None:
        """The weighted sum of those that are chosen; None where none is."""
        if len(names) > MOST_TERMS:
            raise ValueError(f"{len(names)} task vectors are chosen: {MOST_TERMS} at most are added up")
        model, offered = self.offer.model(name), self.offered(name, session)
        for each in names:
            if each not in offered:
                raise ValueError(f"the task vectors {each} are no longer there: choose others")
        terms = [(TaskVectors.load(offered[each], model), weight) for each, weight in zip(names, weights, strict=False)]
        return weighted(terms)

    def show(
        self,
        request: gr.Request,
        name: str,
        names: list[str],
        off: list[str],
        here: str | None,
        queries: list[str] | None,
        example_input: str | None,
        example_output: str | None,
        truth: str | None,
        *weights: float,
    ) -> tuple[str, str, str]:
        """Answers, the map of heads, and that of the chosen head's tokens."""
        try:
            session, model = self.session(request), self.offer.model(name)
            whole = self.vectors(name, names, weights, session)
            heads = [Head.named(each) for each in off]
            left = None if whole is None else without(whole, heads)
            told = markup.note(_NO_VECTORS) if whole is None else markup.note(_NO_HEAD) if left is None else ""
            answers = self._answers(model, left, queries or [], example_input, example_output, truth)
            scores = self.offer.taskness(model)
            at = None if here is None else Head.named(here)
            tokens = "" if at is None else markup.tokens_markup(token_map(model, whole, at, scores), off=heads)
            rows = head_map(model, whole, heads, scores)
            shown = markup.answers_markup(answers) or ("" if model.takes_texts else markup.note(_NO_QUERY))
            return told + shown, markup.map_markup(rows, at), tokens
        except Exception as error:
            _log(error)
            return markup.error(_sentence(error)), "", ""

    def _answers(
        self,
        model: PromptedModel,
        vectors: TaskVectors | None,
        queries: Sequence[str],
        example_input: str | None,
        example_output: str | None,
        truth: str | None,
    ) -> list[Answers]:
        if model.takes_texts:
            return []
        if (example_input is None) != (example_output is None):
            missing = "input" if example_input is None else "output"
            raise ValueError(f"the example has no {missing} yet: drop both sides of the pair")
        if truth is not None and len(queries) > 1:
            raise ValueError(f"there is one truth for {len(queries)} images: drop a single image, or no truth")
        example = None
        if example_input is not None and example_output is not None:
            example = Path(example_input), Path(example_output)
        known = None if truth is None else Path(truth)
        return [answer(model, vectors, Path(query), example, known) for query in queries]

    def click(self, off: list[str], name: str, names: list[str], event: gr.EventData, request: gr.Request) -> Any:
        """Show a head, and switch it off or on again if the vectors are in it."""
        try:
            head = Head.named(str(event.head))
            whole = self.vectors(name, names, [1.0] * len(names), self.session(request))
            if whole is not None and head in heads_of(whole):
                off = [each for each in off if each != str(head)] if str(head) in off else [*off, str(head)]
            return off, str(head), ""
        except _EXPECTED:
            return off, None, ""

    def points(self, name: str, here: str | None) -> str:
        """Whether the head that is shown tells tasks apart."""
        try:
            if here is None:
                raise ValueError("no head is shown yet: click one on the map")
            head = Head.named(here)
            return markup.points_markup(head, task_points(self.offer.samples(self.offer.model(name)), head))
        except Exception as error:
            _log(error)
            return markup.error(_sentence(error))

    def scene(self, request: gr.Request, name: str, names: list[str], number: int) -> Sequence[Any]:
        """A drawn scene with its example and truth, of the chosen vectors' tasks where they are built-in ones."""
        session = self.session(request)
        known = self.offered(name, session)
        tasks = [read_config(known[each]).task for each in names if each in known]
        files = drawn_example(session.directory, tasks, number)
        example = [str(files[side]) for side in ("example-input", "example-output", "truth")]
        return [str(files["query"])], *example, number + 1

    def forget_scene(self, *files: str | None) -> list[Any]:
        """The example and the truth of a drawn scene go when another image comes; a visitor's own stay."""
        return [None if file is not None and Path(file).name.startswith(SCENE) else file for file in files]

    def texts(
        self, request: gr.Request, name: str, names: list[str], off: list[str], text: str, *weights: float
    ) -> str:
        try:
            whole = self.vectors(name, names, weights, self.session(request))
            if whole is None:
                raise ValueError("no task vectors are chosen: expected those of texts")
            vectors = without(whole, [Head.named(each) for each in off])
            if vectors is None:
                raise ValueError(_NO_HEAD)
            lines = [line for line in text.splitlines() if line.strip()]
            if not lines:
                raise ValueError("there is no text yet: write an input in every line")
            return markup.texts_markup(answer_texts(self.offer.model(name), vectors, lines))
        except Exception as error:
            _log(error)
            return markup.error(_sentence(error))

    def make(
        self,
        request: gr.Request,
        name: str,
        source: str,
        drawn: list[str],
        called: str,
        inputs: list[str] | None,
        outputs: list[str] | None,
        suffix: str,
    ) -> Iterator[Sequence[Any]]:
        """Find task vectors: how far it is, the losses, scores, an archive, and the vectors among those to choose."""
        nothing = gr.update(value=None, visible=False)
        session, busy = self.session(request), gr.update(interactive=False)
        session.stop()
        yield markup.note("Reading the pairs ..."), gr.update(visible=False), "", nothing, gr.skip(), busy
        ready = gr.update(interactive=True)
        try:
            model = self.offer.model(name)
            if model.takes_texts:
                raise ValueError(f"{name} is a language model: `taskvec find --data pairs` makes tasks of words")
            with TemporaryDirectory(dir=session.directory) as place, told_by_name(Path(place)):
                train, test, tasks, remarks = _data(Path(place), source, drawn, called, inputs, outputs, suffix)
                making = session.making = Making(model, train, test, tasks, PRESETS[default_preset(model)])
                progress = None
                for progress in making:
                    told = f"{progress.doing}: {progress.done} of {progress.of}"
                    yield markup.note(told), _curve(progress.history), "", nothing, gr.skip(), busy
            if progress is None:
                return
            made = [vectors.task for vectors in progress.vectors]
            for vectors in progress.vectors:
                vectors.save_pretrained(session.vectors / vectors.task)
            sites = f"{len(progress.vectors[0].sites)} of {progress.vectors[0].config.of} sites"
            told = f"Done: {sites}. The task vectors are chosen now: try them under “Try it”."
            file = gr.update(value=str(session.archive(made)), visible=True)
            offered = list(self.offered(name, session))
            choices = gr.update(choices=offered, value=[f"{each} {MADE}" for each in made])
            result = markup.judged_markup(progress.judged) + "".join(markup.note(each) for each in remarks)
            yield markup.note(told), _curve(progress.history), result, file, choices, ready
        except Exception as error:
            _log(error)
            yield markup.error(_sentence(error)), gr.update(visible=False), "", nothing, gr.skip(), ready

    def stop(self, request: gr.Request) -> None:
        self.session(request).stop()

    def leave(self, request: gr.Request) -> None:
        self.sessions.end(str(request.session_hash))


def _data(
    place: Path,
    source: str,
    drawn: Sequence[str],
    called: str,
    inputs: Sequence[str] | None,
    outputs: Sequence[str] | None,
    suffix: str,
) -> tuple[Any, Any, list[Task], list[str]]:
    """What to search on and to judge on, the tasks, and what a user should know of how the pairs were read."""
    if source == DRAWN:
        if not drawn:
            raise ValueError("no task is ticked: expected one or more")
        return load_data("scenes", "train"), load_data("scenes", "test"), [TASKS[each] for each in drawn], []
    if not _NAME.fullmatch(called):
        raise ValueError(f"the task cannot be called {called!r}: expected letters, digits, spaces, _, - and dots")
    root = place / called
    stage(root, [Path(each) for each in inputs or []], [Path(each) for each in outputs or []])
    train, test = (Folder(root, split=split, suffix=suffix.strip()) for split in ("train", "test"))
    task = train.own_task
    if task is None:
        raise ValueError("the outputs do not tell what the task is")
    return train, test, [task], train.remarks()


def _curve(history: Sequence[dict[str, Any]]) -> Any:
    if not history:
        return gr.update(visible=False)
    return gr.update(
        visible=True, value=pd.DataFrame([{"step": each["step"], "loss": each["loss"]} for each in history])
    )


def _log(error: Exception) -> None:
    """What is nobody's fault but ours goes to the server's terminal, with all that is known of it."""
    if not isinstance(error, _EXPECTED):
        import traceback  # noqa: PLC0415

        traceback.print_exception(error)


def _markup(name: str, **options: Any) -> gr.HTML:
    """A place for what ``markup`` makes, with its own style alone."""
    return gr.HTML(elem_id=name, apply_default_css=False, padding=True, **options)


class _Top:
    """What is chosen, above both tabs."""

    def __init__(self, offer: Offer):
        with gr.Row():
            self.model = gr.Dropdown(list(offer.models), value=offer.models[0], label="Model", min_width=160)
            self.vectors = gr.Dropdown(
                [], value=[], multiselect=True, label="Task vectors (several of the same sites add up)", scale=3
            )
        self.refused = _markup("refused", visible=False)
        self.weights = [
            gr.Slider(-2, 2, value=1, step=0.05, visible=False, label="weight", interactive=True)
            for _ in range(MOST_TERMS)
        ]
        self.off, self.here = gr.State([]), gr.State(None)


class _Trying:
    """Images or texts, what the model answers, and where the task vectors are."""

    def __init__(self) -> None:
        with gr.Column() as self.for_images:
            self.queries = gr.File(
                label="Images to do the task on", file_count="multiple", height=150, elem_id="queries"
            )
            self.scene = gr.Button("Try a drawn scene", variant="primary")
            with gr.Accordion("An example pair, and the truth, if you have them", open=False), gr.Row():
                self.example_input = gr.File(label="Example: input", height=130)
                self.example_output = gr.File(label="Example: output", height=130)
                self.truth = gr.File(label="Truth of the image", height=130)
        with gr.Column(visible=False) as self.for_texts:
            self.text = gr.Textbox(label="Inputs, one a line", lines=3)
            self.ask = gr.Button("Answer", variant="primary")
            self.said = _markup("said")
        self.answers = _markup("answers")
        with gr.Accordion("Where the task vectors are: layers and heads"):
            self.heads = _markup("heads", js_on_load=markup.ON_LOAD)
            self.tokens = _markup("tokens")
            self.embed = gr.Button("Does this head tell tasks apart? (t-SNE)", size="sm")
            self.points = _markup("points")
        self.number = gr.State(0)

    @property
    def files(self) -> list[gr.File]:
        return [self.queries, self.example_input, self.example_output, self.truth]


class _Finding:
    """Pairs, the search, and what comes of it."""

    def __init__(self) -> None:
        self.source = gr.Radio([OWN, DRAWN], value=OWN, label="From")
        with gr.Column() as self.own:
            self.called = gr.Textbox("mytask", label="Name of the task")
            with gr.Row():
                self.inputs = gr.File(label="Inputs, ten or more", file_count="multiple", height=170, elem_id="inputs")
                self.outputs = gr.File(
                    label="Outputs of the same names", file_count="multiple", height=170, elem_id="outputs"
                )
            self.suffix = gr.Textbox("", label="Ending of the outputs' names, such as _mask, if they have one")
        self.drawn = gr.CheckboxGroup(
            list(TASKS), value=["segmentation"], visible=False, label="Tasks; several get the same sites and add up"
        )
        with gr.Row():
            self.find = gr.Button("Find task vectors", variant="primary")
            self.stop = gr.Button("Stop with the best so far")
        self.progress = _markup("progress")
        self.curve = gr.LinePlot(x="step", y="loss", visible=False, height=240, label="Loss of the search")
        self.result = _markup("result")
        self.archive = gr.DownloadButton("Download the task vectors", visible=False)


def build(offer: Offer, sessions: Sessions) -> gr.Blocks:
    """The page with all its events, for ``serve``."""
    page = _Page(offer, sessions)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=KEPT) as blocks:
        gr.Markdown(_INTRODUCTION)
        top = _Top(offer)
        with gr.Tab("Try it"):
            trying = _Trying()
        with gr.Tab("Make a task"):
            finding = _Finding()
        shown: Any = {
            "fn": page.show,
            "inputs": [top.model, top.vectors, top.off, top.here, *trying.files, *top.weights],
            "outputs": [trying.answers, trying.heads, trying.tokens],
            "concurrency_id": "answers",
            "concurrency_limit": 1,
            "show_progress": "minimal",
            "trigger_mode": "always_last",
        }
        parts = [trying.for_images, trying.for_texts, top.refused]
        chosen: Any = {"fn": page.choose_model, "inputs": top.model, "outputs": [top.vectors, *parts]}
        reset: Any = {
            "fn": page.choose_vectors,
            "inputs": top.vectors,
            "outputs": [*top.weights, top.off, top.here],
        }
        gr.on([blocks.load, top.model.input], **chosen).then(**reset).then(**shown)
        top.vectors.input(**reset).then(**shown)
        gr.on([weight.release for weight in top.weights], **shown)
        trying.queries.upload(page.forget_scene, trying.files[1:], trying.files[1:]).then(**shown)
        changes = [event for file in trying.files for event in (file.clear, file.delete)]
        gr.on([*changes, *(file.upload for file in trying.files[1:])], **shown)
        scene = trying.scene.click(page.scene, [top.model, top.vectors, trying.number], [*trying.files, trying.number])
        scene.then(**shown)
        clicked = trying.heads.click(page.click, [top.off, top.model, top.vectors], [top.off, top.here, trying.points])
        clicked.then(**shown)
        trying.embed.click(page.points, [top.model, top.here], trying.points, concurrency_id="answers")
        trying.ask.click(
            page.texts,
            [top.model, top.vectors, top.off, trying.text, *top.weights],
            trying.said,
            concurrency_id="answers",
        )
        finding.source.input(_of_source, finding.source, [finding.own, finding.drawn])
        made = finding.find.click(
            page.make,
            [
                top.model,
                finding.source,
                finding.drawn,
                finding.called,
                finding.inputs,
                finding.outputs,
                finding.suffix,
            ],
            [finding.progress, finding.curve, finding.result, finding.archive, top.vectors, finding.find],
            concurrency_id="searches",
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=finding.progress,
        )
        made.then(**reset).then(**shown)
        finding.stop.click(page.stop, queue=False)
        blocks.unload(page.leave)
    return blocks.queue(max_size=MOST_WAITING)


def _of_source(source: str) -> tuple[Any, Any]:
    return gr.update(visible=source == OWN), gr.update(visible=source == DRAWN)


@contextmanager
def serving(offer: Offer, host: str, port: int | None) -> Iterator[str]:
    """The page's address, which is served as long as the block runs. What is dropped or made in the page is in a
    temporary directory that goes with the block.

    Without a ``port`` it is the first free one from 7860 on. Raises ValueError where the address cannot be had.
    """
    free = _free_port(host, port)
    with TemporaryDirectory(prefix="taskvec-app-") as directory:
        visitors = Path(directory) / "visitors"
        visitors.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(Path(directory) / "uploads")
        blocks = build(offer, Sessions(visitors))
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=free,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=LARGEST,
            footer_links=[],
            theme=_theme(),
            css=markup.STYLE,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
        )
        try:
            yield url
        finally:
            blocks.close(verbose=False)


def _free_port(host: str, port: int | None) -> int:
    """A port that can be had; gradio itself tries a hundred for minutes where the address is no machine's."""
    tried = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]
    reason = ""
    for number in tried:
        try:
            with socket.create_server((host, number)):
                return number
        except OSError as error:
            reason = error.strerror or str(error)
    ports = f"port {port}" if port else f"any port from {tried[0]} to {tried[-1]}"
    raise ValueError(f"the page cannot be at {host}, {ports}: {reason}")
