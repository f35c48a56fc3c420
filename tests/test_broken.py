"""A share of what ``broken.py`` tries: files of every kind that is read, changed at random."""

import sys

import pytest

from test_kills import in_a_process_of_its_own


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and reads /proc")
def test_what_is_broken_gets_a_sentence_or_the_same_result() -> None:
    trials = in_a_process_of_its_own("broken.py", "--trials", "44", "--seed", "1")
    assert len(trials) == 44
    assert not [each for each in trials if each["outcome"] not in ("refused", "same", "other")]
    refused = [each for each in trials if each["outcome"] == "refused"]
    assert len(refused) > 22
    assert len({each["artefact"] for each in refused}) > 12
