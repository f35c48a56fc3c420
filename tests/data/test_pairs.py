"""Word pairs: what files bring, how they are split, and how prompts have them."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvec.data.pair_files import Pair, read_pairs
from taskvec.data.pairs import WordPairs
from taskvec.data.templates import Template, Wording
from taskvec.metrics import TOP1

CAPITALS = [("France", "Paris"), ("Peru", "Lima"), ("Japan", "Tokyo"), ("Kenya", "Nairobi"), ("Cuba", "Havana")]


def _write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _json(path: Path, pairs: list[tuple[str, str]]) -> Path:
    return _write(path, json.dumps([{"input": one, "output": other} for one, other in pairs]))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return _json(tmp_path / "capitals.json", CAPITALS)


def test_a_file_is_a_task_of_its_own(file: Path) -> None:
    data = WordPairs(file, "all")
    assert (data.own_task.name, data.own_task.metric, data.shots) == ("capitals", TOP1, 10)
    examples = data.load(np.array([1, 0]), 224)
    assert examples.outputs is not None
    assert examples.images.tolist() == ["Q: Peru\nA:", "Q: France\nA:"]
    assert examples.outputs.tolist() == [" Lima", " Paris"]
    assert (examples.masks, data.wording.separator) == (None, "\n\n")
    assert data.names(np.array([0, 4])) == ["France -> Paris", "Cuba -> Havana"]
    assert (data.class_of(np.arange(5)) == 0).all()
    assert data.remarks() == []


def test_its_record_is_of_what_prompts_hold(file: Path, tmp_path: Path) -> None:
    described = WordPairs(file, "all").describe()
    turned = _json(tmp_path / "other.json", CAPITALS[::-1])
    assert WordPairs(turned, "all").describe() == described
    assert WordPairs(file, "all", "colon").describe() != described
    assert WordPairs(file, "all", shots=3).describe() != described
    other = _json(tmp_path / "third.json", [*CAPITALS[:4], ("Cuba", "Holguin")])
    assert WordPairs(other, "all").describe()["digest"] != described["digest"]
    assert str(tmp_path) not in json.dumps(described)


# --- formats


def test_every_format_holds_the_same(tmp_path: Path) -> None:
    values = [("a", "1"), ('say "x"', "two\nlines"), ("c, d", "\u00e9t\u00e9"), ("1.50", "007")]
    expected = [Pair(*value) for value in values]
    for ending, delimiter in (("csv", ","), ("tsv", "\t"), ("tab", "\t")):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter).writerows([("input", "output"), *values])
        for start in (b"", b"\xef\xbb\xbf"):
            path = _write(tmp_path / f"pairs.{ending}", start + text.getvalue().encode())
            assert read_pairs(path).pairs == expected
            assert read_pairs(path).remarks == []
    objects = [{"output": other, "input": one} for one, other in values]
    assert read_pairs(_write(tmp_path / "a.json", json.dumps(objects))).pairs == expected
    assert read_pairs(_write(tmp_path / "A.JSON", json.dumps(objects, indent=1))).pairs == expected
    lines = "\r\n".join(json.dumps(each, ensure_ascii=False) for each in objects)
    for ending in ("jsonl", "ndjson"):
        assert read_pairs(_write(tmp_path / f"a.{ending}", lines + "\n\n")).pairs == expected


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1).filter(
    lambda text: bool(text) and text == text.strip()
)
_PAIRS = st.lists(st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=6, unique=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("round_trip")


@given(_PAIRS, st.sampled_from(["csv", "tsv", "json", "jsonl"]), st.booleans())
def test_what_is_written_is_read(place: Path, pairs: list[tuple[str, str]], ending: str, flag: bool) -> None:
    objects = [{"input": one, "output": other} for one, other in pairs]
    if ending == "json":
        text = json.dumps(objects, ensure_ascii=flag)
    elif ending == "jsonl":
        text = "".join(json.dumps(each, ensure_ascii=flag) + "\n" for each in objects)
    else:
        lines = io.StringIO(newline="")
        writer = csv.writer(
            lines, delimiter="," if ending == "csv" else "\t", quoting=csv.QUOTE_ALL if flag else csv.QUOTE_MINIMAL
        )
        writer.writerows([("input", "output"), *pairs])
        text = lines.getvalue()
    found = read_pairs(_write(place / f"pairs.{ending}", text))
    assert found.pairs == [Pair(*pair) for pair in pairs]
    assert found.remarks == []


def test_numbers_in_json_are_the_text_that_they_are_written_as(tmp_path: Path) -> None:
    text = '[{"input": 1.50, "output": 12345678901234567890123}, {"input": -0, "output": 1e5}]'
    found = read_pairs(_write(tmp_path / "n.json", text))
    assert found.pairs == [Pair("1.50", "12345678901234567890123"), Pair("-0", "1e5")]


def test_what_was_told_of_a_file_is_said(tmp_path: Path) -> None:
    text = 'France,Paris\r\n\r\nPeru , Lima\r\nFrance,Paris\r\nFrance,Lyon\r\nKenya,Nairobi\r\nCuba,"a\r\nb"\r\n'
    data = WordPairs(_write(tmp_path / "capitals.csv", text), "all")
    assert data.load(np.arange(len(data)), 0).outputs.tolist() == [" Paris", " Lima", " Lyon", " Nairobi", " a\nb"]  # pyright: ignore
    assert data.remarks() == [
        "capitals.csv: no first line names input and output, so 'France' and 'Paris' are a pair, too",
        "capitals.csv: left out: white space around 2 inputs or outputs",
        r"capitals.csv: ends of lines in 1 input or output become \n",
        "capitals.csv: left out, as they are there before: 1 pair",
        "capitals.csv: 1 pairs have the input of another, which stays with it",
        r"capitals.csv: 1 output has '\n' within, where answers that are generated end",
    ]


def test_other_columns_and_keys_are_left_out_and_said(tmp_path: Path) -> None:
    table = "id\tOutput\tInput\n1\tParis\tFrance\n2\tLima\tPeru\n"
    found = read_pairs(_write(tmp_path / "a.tsv", table))
    assert found.pairs == [Pair("France", "Paris"), Pair("Peru", "Lima")]
    assert found.remarks == ["a.tsv: left out: columns 'id'"]
    lines = '{"input": "a", "output": "b", "note": [1]}\n{"input": "c", "output": "d", "id": 1}\n'
    assert read_pairs(_write(tmp_path / "a.jsonl", lines)).remarks == ["a.jsonl: left out: keys 'note', 'id'"]


def test_unicode_is_left_as_it_is_and_one_text_in_two_forms_is_one_group(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    data = WordPairs(_json(tmp_path / "a.json", [*CAPITALS, (composed, "a"), (apart, "b")]), "all")
    assert data.load(np.array([5, 6]), 0).images.tolist() == [f"Q: {composed}\nA:", f"Q: {apart}\nA:"]
    groups = data.groups_of(np.arange(7))
    assert groups[5] == groups[6]
    assert len(set(groups)) == 6


GOOD = '{"input": "a", "output": "b"}'


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "", "a.json is empty: expected pairs of an input and an output"),
        ("a.csv", "\ufeff \n", "a.csv is empty"),
        ("a.json", "[]", "a.json has no pairs: expected an input and an output in every row"),
        ("a.csv", "input,output\n", "a.csv has no pairs"),
        ("a.json", "[{", "a.json is not JSON: "),
        ("a.json", '{"input": ["a"], "output": ["b"]}', "a.json holds an object: expected a list, "),
        ("a.json", '"a"', "a.json holds a single value: expected a list"),
        ("a.json", f"[{GOOD}, [1, 2]]", 'a.json, row 2: ["1", "2"] is no object: expected {"input": '),
        ("a.json", f'[{GOOD}, {{"input": "a"}}]', "row 2: there is no key 'output' (keys: 'input'): expected"),
        ("a.json", "[{}]", "row 1: there is no key 'input' (keys: none)"),
        ("a.json", '[{"input": "a", "input": "c", "output": "b"}]', "row 1: the key 'input' is there twice: "),
        ("a.json", '[{"input": "", "output": "b"}]', "row 1: the input '' is empty: expected text"),
        ("a.json", '[{"input": "a", "output": " \\n"}]', r"row 1: the output ' \n' is empty: expected text"),
        ("a.json", '[{"input": "a", "output": null}]', "row 1: the output is null: expected text or a number"),
        ("a.json", '[{"input": true, "output": "b"}]', "row 1: the input is true: expected text or a number"),
        ("a.json", '[{"input": "a", "output": ["b", "c"]}]', 'the output ["b", "c"] is a list: expected one text'),
        ("a.json", '[{"input": {"a": 1}, "output": "b"}]', "row 1: the input is an object: expected text or a number"),
        ("a.json", '[{"input": NaN, "output": "b"}]', "a.json is not JSON: NaN is no number of JSON"),
        ("a.json", "[" * 100_000, "a.json is nested too deeply: expected an input and an output, both text"),
        ("a.json", '[{"input": "\\u0000", "output": "b"}]', r"the input '\x00' has a character that no text has"),
        ("a.json", '[{"input": "\\ud800", "output": "b"}]', r"the input '\ud800' has a character that no text has"),
        ("a.json", b'[{"input": "caf\xe9"', "line 1: the byte e9 is no text in UTF-8: expected a file saved as UTF-8"),
        ("a.csv", "input,output\na,b\n".encode("utf-16"), "a.csv, line 1: the byte ff is no text in UTF-8"),
        ("a.csv", "a,b\nc,d\n".encode("utf-16-le"), "a.csv, line 1: the byte 00 is in no text: expected a file"),
        ("a.jsonl", f"{GOOD}\n\n{{'a'}}\n", "a.jsonl, line 3 is not JSON: "),
        ("a.jsonl", f'{GOOD}\n{{"input": "x"}}', "a.jsonl, line 2: there is no key 'output'"),
        ("a.csv", "a,b\nc;d\n", "line 2: 'c;d' has 1 column: expected two columns separated by commas, or a"),
        ("a.csv", "a,b\n\nc,d,e\n", "a.csv, line 3: 'c,d,e' has 3 columns: expected two columns"),
        ("a.tsv", "input\toutput\na b\n", "line 2: 'a b' has 1 column: expected 2, as in the first line"),
        ("a.csv", "input,output,input\na,b,c\n", "line 1: the column 'input' is there twice: expected it once"),
        ("a.csv", 'input,output\n"a\nb",c\n,d\n', "a.csv, line 4: the input '' is empty: expected text"),
        ("a.csv", 'a,b\nc,"d\ne,f\n', "a.csv, line 2: what begins here is no record: "),
        ("a.csv", 'a,b\n"c"d,e\n', "a.csv, line 2: what begins here is no record: "),
        ("a.txt", "a,b\n", "a.txt is no file of pairs by its name: expected one of .json, .jsonl, .ndjson, .csv, "),
    ],
)  # fmt: skip
def test_what_is_not_in_order_is_one_sentence(tmp_path: Path, name: str, content: str | bytes, says: str) -> None:
    path = _write(tmp_path / name, content)
    with pytest.raises(ValueError) as refused:  # noqa: PT011 (compared below)
        WordPairs(path)
    told = str(refused.value)
    assert says in told
    assert told.startswith(str(path))
    assert "\n" not in told
    assert len(told) < len(str(path)) + 200


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.csv is not there: expected a file of pairs \(.json, "):
        WordPairs(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="is a directory, expected a file"):
        WordPairs(tmp_path)


def test_a_long_value_is_cut_in_the_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 1: \[\"x+\.\.\. is no object"):
        WordPairs(_write(tmp_path / "a.json", json.dumps([["x" * 5000]])))


def test_too_few_pairs_and_other_settings_are_refused(file: Path, tmp_path: Path) -> None:
    few = _json(tmp_path / "few.json", [*CAPITALS[:3], ("France", "Lyon")])
    with pytest.raises(ValueError, match=r"few.json has 3 different inputs, expected 4 or more"):
        WordPairs(few)
    assert len(WordPairs(_json(few, CAPITALS[:4]), "train")) == 3
    with pytest.raises(ValueError, match="word pairs have no split 'validation': expected one of train, test, all"):
        WordPairs(file, "validation")
    with pytest.raises(ValueError, match="--shots 0: expected 1 or more"):
        WordPairs(file, shots=0)
    with pytest.raises(ValueError, match=r"the template 'chat' has \{input\} 0 times: expected qa or colon, or a text"):
        WordPairs(file, template="chat")


# --- splits


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=12, max_size=80, unique=True))
def test_no_input_is_on_two_sides(place: Path, numbers: list[tuple[int, int]]) -> None:
    numbers += [(index, 9) for index in range(40, 44)]
    path = _json(place / "numbers.json", [(f"i{one}", f"o{other}") for one, other in numbers])
    train, test, every = (WordPairs(path, split) for split in ("train", "test", "all"))
    sides = [set(one.groups_of(np.arange(len(one)))) for one in (train, test)]
    assert not sides[0] & sides[1]
    assert all(sides)
    pairs = [one.images_of(np.arange(len(one))) for one in (train, test, every)]
    assert sorted(pairs[0] + pairs[1]) == sorted(pairs[2])
    assert len(set(pairs[2])) == len(numbers)
    turned = WordPairs(_json(place / "turned.json", [(f"i{one}", f"o{other}") for one, other in numbers[::-1]]), "test")
    assert sorted(turned.images_of(np.arange(len(turned)))) == sorted(pairs[1])


# --- templates


@pytest.mark.parametrize(
    ("template", "image", "output", "separator"),
    [
        ("qa", "Q: France\nA:", " Paris", "\n\n"),
        ("colon", "France:", "Paris", "\n"),
        ("{input} {output}", "France", " Paris", "\n"),
        ("{input}\n{output}", "France\n", "Paris", "\n\n"),
        ("{input}  {output}; ", "France ", " Paris", "; "),
        ("<{input}> is {{}} {output}\n---\n", "<France> is {{}}", " Paris", "\n---\n"),
    ],
)
def test_templates(template: str, image: str, output: str, separator: str) -> None:
    written = Template.named(template)
    assert (written.input("France"), written.output("Paris"), written.separator) == (image, output, separator)
    assert Template.named(written.text) == written


_PIECES = st.text(st.characters(codec="utf-8", exclude_characters="{}"))


@given(_PIECES, _PIECES.filter(bool), _PIECES, _TEXTS, _TEXTS)
def test_an_example_is_the_template_with_the_pair_in_it(
    before: str, between: str, separator: str, first: str, second: str
) -> None:
    text = f"{before}{{input}}{between}{{output}}{separator}"
    written = Template.named(text)
    example = written.input(first) + written.output(second)
    assert example == f"{before}{first}{between}{second}"
    assert written.separator == separator or (separator == "" and written.separator in ("\n", "\n\n"))
    assert written.output("") in ("", " ")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{input}", "has {output} 0 times"),
        ("{input} {input} {output}", "has {input} 2 times"),
        ("{output} from {input}", "has {output} before {input}"),
        ("{input}{output}", "has nothing between {input} and {output}: expected some text"),
    ],
)
def test_other_templates_are_refused(template: str, says: str) -> None:
    with pytest.raises(ValueError, match="the template '") as refused:
        Template.named(template)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("template", "written", "answer"),
    [
        ("qa", " Paris\n\nQ: Peru\nA: Lima", "Paris"),
        ("qa", " Paris is\nthe capital", "Paris is"),
        ("qa", "\n\nQ: Peru\nA: Lima", ""),  # the next example is not the answer to this one
        ("colon", "Paris\nPeru:Lima", "Paris"),
        ("{input} -> {output};", " New York; Peru -> Lima;", "New York"),
        ("{input} -> {output};", "; Peru -> Lima", ""),
        ("{input}={output} ", " Paris Peru=Lima", "Paris"),
    ],
)
def test_an_answer_ends_where_another_example_would_begin(template: str, written: str, answer: str) -> None:
    assert Wording(template, 2).answer(written) == answer


def test_outputs_that_have_in_them_what_ends_an_answer_are_told(tmp_path: Path) -> None:
    path = _json(tmp_path / "many.json", [*CAPITALS[:4], ("Bolivia", "La Paz; Sucre")])
    assert WordPairs(path).remarks() == []
    (told,) = WordPairs(path, template="{input} -> {output};").remarks()
    assert told == "many.json: 1 output has ';' within, where answers that are generated end"
