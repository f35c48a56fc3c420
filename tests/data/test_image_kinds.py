import re
from pathlib import Path

import numpy as np
import pytest

from data.image_kinds import KINDS, SIDE, Case, Kind, table
from taskvec.data.folder import Folder
from taskvec.metrics import IOU

CASES = [(kind, case) for kind in KINDS for case in kind.cases]


@pytest.mark.parametrize(
    ("kind", "case"), CASES, ids=[f"{kind.name}: {case.what}".replace("/", "_") for kind, case in CASES]
)
@pytest.mark.filterwarnings("ignore")  # pydicom's and pillow's, of what they read all the same
def test_the_model_is_given_what_is_meant_or_a_sentence_says_why_not(kind: Kind, case: Case, tmp_path: Path) -> None:
    if case.missing:
        pytest.skip(f"{', '.join(case.missing)} is not installed")
    case.make(tmp_path)
    if case.refuses is not None:
        with pytest.raises(ValueError, match=re.escape(case.refuses)):
            _read_everything(tmp_path, case)
        return
    data = Folder(tmp_path, "all", **case.options)
    remarks = data.remarks()
    examples = data.load(np.arange(len(data)), SIDE)
    assert case.sees is not None
    if data.own_task is None:
        seen = examples.images[0].astype(int)
        expected = case.sees if case.sees.ndim == 3 else np.repeat(case.sees[..., None], 3, -1)
        assert np.abs(seen - expected).max() <= case.tolerance
    else:
        assert data.own_task.metric is IOU
        assert examples.outputs is not None
        assert set(np.unique(examples.outputs.mean(-1).round())) <= set(range(256))
        for output in examples.outputs if case.options.get("metric") is None else examples.outputs[:1]:
            assert np.array_equal(output[..., 0] > 127, case.sees)
        if case.ignored is None:
            assert examples.ignored is None
        else:
            assert examples.ignored is not None
            assert all(np.array_equal(ignored, case.ignored) for ignored in examples.ignored)
    if case.says is not None:
        assert any(case.says in remark for remark in remarks), remarks


def _read_everything(root: Path, case: Case) -> None:
    data = Folder(root, "all", **case.options)
    _ = data.own_task
    data.load(np.arange(len(data)), SIDE)


def test_there_are_enough_cases_and_none_twice() -> None:
    names = [(kind.name, case.what) for kind, case in CASES]
    assert len(set(names)) == len(names) >= 120
    assert all((case.sees is None) == (case.refuses is not None) for _, case in CASES)


def test_the_page_has_the_table() -> None:
    page = Path(__file__).parents[2] / "docs" / "images.md"
    assert table() in page.read_text()
