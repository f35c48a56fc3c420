"""What the page shows as HTML: answers, maps, results. Whatever comes from files or visitors is escaped."""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

from taskvec.app.answers import EXAMPLE, PATCHED, Answers
from taskvec.app.making import Judged
from taskvec.app.maps import Head, HeadCell, TokenCell, TokenMap
from taskvec.intervals import FEWEST
from taskvec.report.style import ARROWS
from taskvec.tasks import title_of

REGION_TITLES = {
    "cls": "CLS",
    "support_input": "example's input",
    "support_output": "example's output",
    "query_input": "query",
    "query_output": "answer",
}

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's

# five pictures side by side on a desk, two on a phone; gradio's own style of tables and buttons is for text
STYLE = """
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
.tv-row { display: flex; flex-wrap: wrap; gap: 12px; margin: 6px 0 14px; }
.tv-row figure { margin: 0; width: calc(50% - 6px); max-width: 176px; }
.tv-row.tv-small figure { max-width: 96px; }
.tv-row img { width: 100%; display: block; margin: 0; border-radius: 6px; box-shadow: 0 0 0 1px #8886; }
.tv-row figcaption { font-size: 14px; line-height: 1.35; padding-top: 6px; }
.tv-row figure.tv-patched img { box-shadow: 0 0 0 3px #0072b2; }
.tv-row figure.tv-patched figcaption { font-weight: 600; }
.tv-name { font-weight: 600; overflow-wrap: anywhere; margin: 8px 0 2px; }
.tv-note { opacity: 0.8; max-width: 75ch; margin: 4px 0; }
.tv-error { border-left: 4px solid #d55e00; padding: 6px 12px; margin: 6px 0; overflow-wrap: anywhere; }
.tv-maps { display: flex; flex-wrap: wrap; gap: 8px 32px; }
.tv-map { max-width: 100%; overflow-x: auto; }
.tv-map table { border-collapse: separate; border-spacing: 2px; }
.tv-map th { font-weight: 400; font-size: 12px; opacity: 0.8; padding: 0 4px; text-align: center; }
.tv-map td { padding: 0; }
.tv-map button { width: 30px; height: 30px; padding: 0; border-radius: 4px; border: 1px solid #8886; cursor: pointer;
  font-size: 12px; line-height: 1; text-align: center; vertical-align: top; }
.tv-map button:focus-visible, .tv-map button.tv-here { outline: 3px solid #d55e00; outline-offset: -1px; }
.tv-map button.tv-off { color: #222 !important; background: repeating-linear-gradient(45deg, #ddd 0 4px, #fff 4px 8px)
  !important; text-decoration: line-through; }
.tv-tokens { display: grid; gap: 2px; width: max-content; max-width: 100%; margin: 6px 0; }
.tv-tokens span { width: clamp(10px, 3.2vw, 24px); aspect-ratio: 1; border-radius: 3px; border: 1px solid #8886; }
.tv-tokens span.tv-chosen { border: 2px solid #d55e00; }
.tv-points { display: flex; flex-wrap: wrap; gap: 16px; align-items: center; }
.tv-points svg { width: 260px; max-width: 100%; border: 1px solid #8886; border-radius: 6px; }
.tv-points p { display: grid; gap: 6px; }
.tv-wide { overflow-x: auto; }
table.tv-scores { border-collapse: collapse; margin: 8px 0; }
table.tv-scores td, table.tv-scores th { padding: 4px 12px 4px 0; border-bottom: 1px solid #8886; text-align: left; }
"""

# a click on a head, also of what the map is replaced by later
ON_LOAD = """element.addEventListener('click', event => {
  const head = event.target.closest('[data-head]');
  if (head) trigger('click', {head: head.dataset.head});
});"""


def note(text: str) -> str:
    return f'<p class="tv-note">{escape(text)}</p>'


def error(text: str) -> str:
    return f'<p class="tv-error" role="alert">{escape(text)}</p>'


def answers_markup(answers: Sequence[Answers]) -> str:
    return "".join(_answers(each) for each in answers)


def _answers(answers: Answers) -> str:
    if answers.refused is not None:
        return error(answers.refused)
    title = f'<p class="tv-name">{escape(answers.name)}</p>'
    example = [name for name in EXAMPLE if name in answers.pictures]
    main = "".join(_figure(answers, name) for name in answers.pictures if name not in example)
    shown = f'{title}<div class="tv-row">{main}</div>'
    if not example:
        return shown
    return shown + f'<div class="tv-row tv-small">{"".join(_figure(answers, name) for name in example)}</div>'


def _figure(answers: Answers, name: str) -> str:
    caption = escape(name)
    if name in answers.scores and answers.metric is not None:
        metric = answers.metric
        caption += f"<br>{escape(metric.label)} {answers.scores[name]:.3f} {ARROWS[metric.better]}"
    kind = ' class="tv-patched"' if name == PATCHED else ""
    picture = f'<img src="{_data(answers.pictures[name])}" alt="{escape(name)} of {escape(answers.name)}">'
    return f"<figure{kind}>{picture}<figcaption>{caption}</figcaption></figure>"


def _data(picture: Image.Image) -> str:
    file = BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def map_markup(rows: Mapping[str, list[list[HeadCell]]], here: Head | None) -> str:
    """A table of buttons for every stack: layers downwards, heads sideways."""
    known = any(cell.taskness is not None for stack in rows.values() for row in stack for cell in row)
    what = "Colour is taskness; the number is" if known else "Colour and number are"
    told = f"{what} at how many tokens a head takes the mean. A click shows the head and switches it off, or on again."
    stacks = "".join(_stack(name, stack, here) for name, stack in rows.items())
    return f'{note(told)}<div class="tv-maps">{stacks}</div>'


def _stack(name: str, rows: list[list[HeadCell]], here: Head | None) -> str:
    most = max((cell.places for row in rows for cell in row), default=0) or 1
    heads = "".join(f"<th>{number}</th>" for number in range(len(rows[0])))
    table = f"<tr><th>layer</th>{heads}</tr>"
    for layer, row in enumerate(rows):
        table += f"<tr><th>{layer}</th>" + "".join(_head(cell, most, here) for cell in row) + "</tr>"
    return f'<div class="tv-map"><p class="tv-name">{escape(name)}</p><table>{table}</table></div>'


def _head(cell: HeadCell, most: int, here: Head | None) -> str:
    share = cell.places / most if cell.taskness is None else cell.taskness**0.5  # few heads have most of it
    kinds = [name for name, on in (("tv-off", cell.off), ("tv-here", cell.head == here)) if on]
    state = "off" if cell.off else "on" if cell.places else "not chosen"
    title = escape(f"{cell.head}: {cell.places} tokens, {state}", quote=True)
    return (
        f'<td><button type="button" data-head="{escape(str(cell.head), quote=True)}" class="{" ".join(kinds)}" '
        f'title="{title}" aria-label="{title}" style="{_shade(share)}">{cell.places or ""}</button></td>'
    )


def _shade(share: float) -> str:
    """From white to blue, with ink that can be read on it."""
    red, green, blue = (round(255 + (end - 255) * share) for end in (0, 114, 178))
    return f"background-color: rgb({red}, {green}, {blue}); color: {'#fff' if share > 0.5 else '#222'}"


def tokens_markup(tokens: TokenMap, *, off: Collection[Head]) -> str:
    """The canvas of a head: frames where it takes the mean, shades of taskness or of the mean's size."""
    chosen = [cell for cell in (*tokens.rest, *tokens.cells) if cell.chosen]
    known = any(cell.taskness is not None for cell in tokens.cells)
    state = "switched off" if tokens.head in off else f"takes the mean at {len(chosen)} tokens"
    regions = dict.fromkeys(cell.place.region or "the last token" for cell in chosen)
    where = ": " + ", ".join(REGION_TITLES.get(name, name.replace("_", " ")) for name in regions) if chosen else ""
    title = f'<p class="tv-name">{escape(str(tokens.head))} {escape(state)}{escape(where)}</p>'
    if not tokens.cells:
        return title
    cells = "".join(_token(cell) for cell in tokens.cells)
    grid = f'<div class="tv-tokens" style="grid-template-columns: repeat({tokens.columns}, max-content)">{cells}</div>'
    shades = "taskness" if known else "the size of the mean"
    return title + grid + note(f"The canvas, token by token. Framed: takes the mean; shaded by {shades}.")


def _token(cell: TokenCell) -> str:
    share = cell.norm if cell.taskness is None else cell.taskness**0.5
    region = REGION_TITLES.get(cell.place.region or "", cell.place.region or "")
    title = escape(f"token {cell.place.token}, {region}", quote=True)
    kind = ' class="tv-chosen"' if cell.chosen else ""
    return f'<span{kind} title="{title}" style="{_shade(share)}"></span>'


def points_markup(head: Head, points: Mapping[str, np.ndarray]) -> str:
    """A point for every prompt, a colour for every task."""
    dots, names = "", ""
    for (task, of_task), colour in zip(points.items(), COLOURS, strict=False):
        dots += "".join(
            f'<circle cx="{5 + 190 * x:.1f}" cy="{5 + 190 * y:.1f}" r="4" fill="{colour}"/>' for x, y in of_task
        )
        names += f'<span style="border-left: 12px solid {colour}; padding-left: 6px">{escape(title_of(task))}</span>'
    picture = f'<svg viewBox="0 0 200 200" role="img" aria-label="t-SNE of {escape(str(head))}">{dots}</svg>'
    told = "Outputs of this head on drawn prompts, by t-SNE: tasks that lie apart are told apart by it."
    return f'<div class="tv-points">{picture}<p>{names}</p></div>{note(told)}'


def judged_markup(judged: Sequence[Judged]) -> str:
    """A row of mean scores for every task."""
    if not judged:
        return ""
    names = list(judged[0].scores)
    head = "".join(f"<th>{escape(name)}</th>" for name in ("task", *names, "images"))
    rows = ""
    for each in judged:
        scores = "".join(f"<td>{each.scores[name]:.3f}</td>" for name in names)
        label = f"{each.task.title}, {each.task.metric.label} {ARROWS[each.task.metric.better]}"
        rows += f"<tr><td>{escape(label)}</td>{scores}<td>{each.queries}</td></tr>"
    told = "Mean scores on images kept aside."
    if min(each.queries for each in judged) < FEWEST:
        told += " They are too few to tell which is better: judging takes 25 pairs in all."
    return f"{_table(head, rows)}{note(told)}"


def texts_markup(answers: Sequence[Mapping[str, str]]) -> str:
    if not answers:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in answers[0])
    rows = "".join("<tr>" + "".join(f"<td>{escape(value)}</td>" for value in row.values()) + "</tr>" for row in answers)
    return _table(head, rows)


def _table(head: str, rows: str) -> str:
    return f'<div class="tv-wide"><table class="tv-scores"><tr>{head}</tr>{rows}</table></div>'
