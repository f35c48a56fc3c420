"""The first pairs of a task as the model is given them: what was misread shows before anything else does."""

from io import BytesIO

import numpy as np
from PIL import Image

from taskvec.prompts import Prompts
from taskvec.report.style import VERMILLION

PAIRS, _COLUMNS, _SIDE, _GAP = 12, 4, 96, 8


def contact_sheet(prompts: Prompts) -> bytes:
    """A PNG of up to twelve different queries, input beside output; pixels that count nowhere are vermillion."""
    rows = list(dict(zip(reversed(prompts.query_images), range(len(prompts) - 1, -1, -1), strict=True)).values())
    rows = sorted(rows)[:PAIRS]
    outputs = prompts.query_output[rows].copy()
    if prompts.query_ignored is not None:
        outputs[prompts.query_ignored[rows]] = np.frombuffer(bytes.fromhex(VERMILLION.lstrip("#")), np.uint8)
    columns = min(_COLUMNS, len(rows))
    width, height = 2 * _SIDE + 2 * _GAP, _SIDE + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, -(-len(rows) // columns) * height + _GAP), "white")
    for number, (shown, output) in enumerate(zip(prompts.query_input[rows], outputs, strict=True)):
        left, top = _GAP + number % columns * width, _GAP + number // columns * height
        for offset, pixels in ((0, shown), (_SIDE + 1, output)):
            frame = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
            sheet.paste("grey", (left + offset - 1, top - 1, left + offset + _SIDE + 1, top + _SIDE + 1))
            sheet.paste(frame, (left + offset, top))
    file = BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
