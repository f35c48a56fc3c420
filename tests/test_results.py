from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from taskvec.experiments.paper import TABLE_3, TABLE_6
from taskvec.intervals import interval
from taskvec.metrics import IOU, MSE, Metric
from taskvec.results import Column, GroupScores, Picture, Row, Scores, Table, Value, contrast


def scores(metric: Metric, **groups: list[float]) -> Scores:
    """One image a pair, the same names in every set of scores."""
    return Scores(
        metric, {name: GroupScores(np.array(s), [f"{name}{i}" for i in range(len(s))]) for name, s in groups.items()}
    )


def test_a_value_is_over_all_pairs_and_its_spread_over_groups():
    value = scores(IOU, a=[0.1, 0.3], b=[0.5, 0.7, 0.9]).value()
    assert value.mean == pytest.approx(0.45)  # groups count alike
    assert value.spread == pytest.approx(np.std([0.2, 0.7]))
    assert value.count == 5
    assert value.low < value.mean < value.high


def test_one_group_has_no_spread():
    value = scores(IOU, a=[0.1, 0.3]).value()
    assert value.spread is None
    assert str(replace(value, low=0.1, high=0.3)) == "0.200 [0.100, 0.300]"
    assert str(replace(value, spread=0.0284)) == "0.200 ± 0.028"


def test_the_papers_spread_is_that_of_its_four_splits():
    """Of Table 3's cells, those that its splits in Table 6 give are the standard deviation with ddof 0."""
    known = {0: 0, 1: 0}
    for method in TABLE_3.keys() & TABLE_6.keys():
        for task, printed in enumerate(TABLE_3[method]):
            splits = [float(number) for number in TABLE_6[method][4 * task : 4 * task + 4]]
            mean, spread = (float(number) for number in printed.split(" ± "))
            if len(splits) == 4 and abs(np.mean(splits) - mean) < 6e-4 * max(1, mean):
                for ddof in known:
                    known[ddof] += bool(abs(np.std(splits, ddof=ddof) - spread) < 6e-4)
    assert known == {0: 38, 1: 0}


def test_images_of_several_groups_hang_together():
    random = np.random.default_rng(0)
    names, same = [str(image) for image in range(30)], random.random(30)
    together, apart = (
        Scores(IOU, {name: GroupScores(same, [each + name * own for each in names]) for name in "ab"}).value()
        for own in (False, True)
    )
    whole = interval(same)
    assert (together.low, together.high) == pytest.approx((whole.low, whole.high))
    assert apart.high - apart.low < together.high - together.low


def test_a_value_stays_within_the_metrics_range_and_spreads_over_new_searches():
    value = scores(IOU, a=[0.1, 0.3], b=[0.5, 0.7, 0.9]).value()
    assert (value.low, value.high) == (0, 1)
    apart = scores(MSE, a=[0.1] * 20, b=[0.2] * 20, c=[0.3] * 20).value()
    reach = stats.t.ppf(0.975, 2) * 0.1 / np.sqrt(3)
    assert (apart.low, apart.high) == (max(0, 0.2 - reach), pytest.approx(0.2 + reach))


@pytest.mark.parametrize(("metric", "sign"), [(IOU, 1), (MSE, -1)])
def test_a_gain_is_positive_where_scores_are_better(metric: Metric, sign: int):
    hard = np.random.default_rng(0).normal(0, 10, 50)
    ours, theirs = scores(metric, a=(hard + 1).tolist()), scores(metric, a=hard.tolist())
    gain = ours.gain_over(theirs)
    assert gain.mean == pytest.approx(sign)
    # what makes a pair hard cancels: every difference is the same
    assert (gain.low, gain.high) == pytest.approx((sign, sign))
    assert theirs.gain_over(ours).mean == pytest.approx(-sign)
    thrice = contrast((1.0, ours), (2.0, theirs))
    assert thrice.mean == pytest.approx(3 * hard.mean() + 1)


def test_only_the_same_prompts_can_be_compared():
    one = scores(IOU, a=[0.1, 0.2])
    with pytest.raises(ValueError, match="same metric and groups"):
        one.gain_over(scores(MSE, a=[0.1, 0.2]))
    with pytest.raises(ValueError, match="same metric and groups"):
        one.gain_over(scores(IOU, b=[0.1, 0.2]))
    with pytest.raises(ValueError, match="scores of a are of different prompts"):
        one.gain_over(Scores(IOU, {"a": GroupScores(np.array([0.1, 0.2]), ["a1", "a0"])}))


def value(mean: float) -> Value:
    return Value(mean, mean - 0.1, mean + 0.1, None, 3)


def table(*rows: Row) -> Table:
    columns = (Column("up", "higher"), Column("down", "lower"), Column("plain"))
    return Table("table-0", "Title", "", columns, rows)


def test_the_best_of_a_column_depends_on_its_better_end():
    rows = [Row(f"row {mean}", (value(mean), value(mean), value(mean))) for mean in (0.2, 0.3, 0.1)]
    assert table(*rows).best() == {(1, 0), (2, 1)}


def test_values_that_print_alike_are_equally_good_and_references_are_no_candidates():
    rows = [
        Row("a", (value(0.3001), None, None)),
        Row("b", (value(0.2999), "text", None)),
        Row("reconstruction", (value(0.9), None, None), reference=True),
    ]
    assert table(*rows).best() == {(0, 0), (1, 0)}


@pytest.mark.parametrize("row", [Row("short", (None, None)), Row("long", (None,) * 3, ("0.1",))])
def test_rows_have_a_cell_for_every_column(row: Row):
    with pytest.raises(ValueError, match=f"table-0: row '{row.label}' has .*, expected 3 each"):
        table(row)


def test_results_show_themselves_as_text_and_to_a_notebook() -> None:
    ours = Value(0.5, 0.4, 0.6, None, 3)
    rows = (Row("ours <b>", (ours, "x & y")), Row("theirs", (replace(ours, mean=0.3), None)))
    results = Table("t", "Title <i>", "Note", (Column("IoU", "higher"), Column("said")), rows)
    lines = ["Title <i>", "          IoU                   said", "ours <b>  0.500 [0.400, 0.600]  x & y"]
    assert repr(results).splitlines() == [*lines, "theirs    0.300 [0.400, 0.600]", "Note"]
    html = results._repr_html_()
    assert "<td>ours &lt;b&gt;</td><td><b>0.500 [0.400, 0.600]</b></td><td>x &amp; y</td>" in html
    assert "Title &lt;i&gt;" in html
    picture = Picture("p", "Title <i>", "Note", Figure((0.1, 0.1)))._repr_html_()
    assert '<img src="data:image/png;base64,' in picture
    assert "<i>" not in picture
    told = repr(scores(IOU, a=[0.1, 0.2]))
    assert told.startswith("Scores(IoU 0.150 [")
    assert told.endswith("2 pairs in 1 groups)")
