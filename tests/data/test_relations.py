"""The relations that ship with the package: their form, and what can be told of their content by rules."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from taskvec.data.pair_files import Pair, read_pairs
from taskvec.data.relations import RELATIONS, named_relation

ROOT = Path(__file__).parents[2]
FILES = ROOT / "src" / "taskvec" / "relations"
FEWER = {"animal-young": "animals whose young have a name", "state-capital": "states of the United States"}
ACCENTS = {
    "english-french": "àâçèéêëîïôœùûü",
    "english-german": "äöüßÄÖÜ",
    "english-spanish": "áéíñóúü",
}
TWO_WORDS = ("country-", "landmark-", "state-", "english-french", "number-word", "next-item")


def _pairs(relation: str) -> list[Pair]:
    return read_pairs(FILES / f"{relation}.tsv").pairs


def _table(relation: str) -> dict[str, str]:
    return {pair.input: pair.output for pair in _pairs(relation)}


def test_there_are_many() -> None:
    assert len(RELATIONS) >= 24
    assert sorted(path.stem for path in FILES.glob("*.tsv")) == list(RELATIONS)


@pytest.mark.parametrize("relation", RELATIONS)
def test_files_are_in_order(relation: str) -> None:
    text = (FILES / f"{relation}.tsv").read_bytes().decode()
    lines = text.split("\n")
    assert lines[0] == "input\toutput"
    assert lines[-1] == ""
    assert "" not in lines[:-1]
    assert not re.search(r'[\r" ]\t|\t[ "]| \n|\r|"', text)
    assert read_pairs(FILES / f"{relation}.tsv").remarks == []
    pairs = _pairs(relation)
    assert len(pairs) == len(lines) - 2
    assert all(count == 1 for count in Counter(pair.input for pair in pairs).values())
    letters = {letter for letter in text if ord(letter) > 127}
    assert letters <= set(ACCENTS.get(relation, ""))
    assert len(pairs) >= 100 or relation in FEWER
    if not relation.startswith(TWO_WORDS):
        assert not any(" " in pair.output for pair in pairs)
    assert max(len(pair.output.split(" ")) for pair in pairs) <= 4


@pytest.mark.parametrize("relation", RELATIONS)
def test_each_is_a_data_set_with_something_to_judge_by(relation: str) -> None:
    train, test = (named_relation(split, relation) for split in ("train", "test"))
    assert len(train) + len(test) == len(_pairs(relation))
    assert len(train) >= 40
    assert len(test) >= 10
    assert train.own_task.name == relation
    assert not set(train.groups_of(np.arange(len(train)))) & set(test.groups_of(np.arange(len(test))))


def test_its_readme_has_every_relation_and_count() -> None:
    rows = [f"| {relation} | {len(_pairs(relation))} |" for relation in RELATIONS]
    for file in (FILES / "README.md", ROOT / "docs" / "language.md"):
        text = file.read_text(encoding="utf-8")
        for row in rows:
            assert row in text, f"{file.name}: {row}"


def test_what_spelling_alone_makes() -> None:
    for word, made in _table("word-capitalized").items():
        assert (word, made) == (made.lower(), word[0].upper() + word[1:])
    for word, made in _table("word-uppercase").items():
        assert (word, made) == (made.lower(), word.upper())
    assert all(word.startswith(letter) and len(letter) == 1 for word, letter in _table("word-first-letter").items())


def test_numbers() -> None:
    value = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
    for digits, numeral in _table("number-roman").items():
        units = [value[letter] for letter in numeral]
        signs = [-1 if unit < after else 1 for unit, after in zip(units, [*units[1:], 0], strict=True)]
        assert sum(sign * unit for sign, unit in zip(signs, units, strict=True)) == int(digits)
        assert not re.search(r"I{4}|X{4}|C{4}|V{2}|L{2}", numeral)
    spoken = _table("number-word")
    for named, number in {
        "zero": 0,
        "seventeen": 17,
        "forty": 40,
        "ninety-nine": 99,
        "one hundred twelve": 112,
    }.items():
        assert spoken[str(number)] == named
    assert len(set(spoken.values())) == len(spoken)


def test_the_next_of_letters_days_months_and_numbers() -> None:
    following, number = _table("next-item"), {word: int(digits) for digits, word in _table("number-word").items()}
    for item, after in following.items():
        if len(item) == 1 and item.isalpha():
            assert ord(after) == ord(item) + 1
        elif item in number:
            assert number[after] == number[item] + 1
        else:
            assert item[0].isupper()
    for start, steps in (("Monday", 7), ("January", 12)):
        seen = [start]
        for _ in range(steps):
            seen.append(following[seen[-1]])
        assert seen[-1] == start
        assert len(set(seen)) == steps


def test_elements_are_all_there() -> None:
    symbols = _table("element-symbol")
    assert len(symbols) == len(set(symbols.values())) == 118
    assert all(re.fullmatch("[A-Z][a-z]?", symbol) for symbol in symbols.values())
    others = [
        "sodium",
        "potassium",
        "iron",
        "silver",
        "tin",
        "antimony",
        "tungsten",
        "gold",
        "mercury",
        "lead",
    ]  # by their Latin names
    assert {name for name, symbol in symbols.items() if name[0] != symbol[0].lower()} == set(others)


def test_regular_forms_follow_the_rules_of_spelling() -> None:
    for verb, form in _table("present-gerund").items():
        assert form.endswith("ing")
        stem = form.removesuffix("ing")
        assert stem in (verb, verb.removesuffix("e"), verb + verb[-1], verb.removesuffix("ie") + "y"), verb
    for adjective, form in _table("adjective-comparative").items():
        regular = {adjective + "er", adjective + "r", adjective + adjective[-1] + "er", adjective[:-1] + "ier"}
        assert form in regular or adjective in ("bad", "far", "good", "little", "many"), adjective
    for adjective, form in _table("adjective-adverb").items():
        assert form.endswith("ly") or adjective == "good", adjective
    for verb, agent in _table("verb-agent").items():
        assert agent.endswith(("er", "or")), verb
        assert agent.startswith(verb[:3]), verb


def test_relations_of_countries_name_them_alike() -> None:
    continents = _table("country-continent")
    assert set(continents.values()) == {"Africa", "Asia", "Europe", "North America", "Oceania", "South America"}
    counts = {"country-capital": 180, "country-currency": 180, "country-demonym": 170, "country-continent": 180}
    tables = {name: _table(name) for name in counts}
    for name, table in tables.items():
        assert len(table) >= counts[name]
        assert all(country[0].isupper() for country in table)
        rare = [country for country in table if sum(country in other for other in tables.values()) == 1]
        assert rare == [], name
    assert set(_table("landmark-country").values()) <= set().union(*tables.values())


def test_outputs_are_what_kind_of_word_they_should_be() -> None:
    assert all(output[0].isupper() for output in _table("country-capital").values())
    assert all(output[0].isupper() for output in _table("country-demonym").values())
    for relation in ("present-past", "singular-plural", "antonym", "english-french", "english-spanish", "animal-young"):
        assert all(pair.output == pair.output.lower() for pair in _pairs(relation)), relation
    for relation in ("present-past", "singular-plural", "antonym"):
        assert all(pair.input != pair.output for pair in _pairs(relation)), relation
