"""The hub without a network: one on this machine, a stand-in for what it refuses, and a port where nobody listens."""

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from PIL import Image

import hub_server
import records
from hub_server import ANNA, BERT
from taskvec import hub
from taskvec.arithmetic import combine
from taskvec.card import card
from taskvec.cli import main
from taskvec.data.folder import Folder
from taskvec.finding import FindSettings, find
from taskvec.models import load_model
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.provenance import Combination, Measured, Score, Term
from taskvec.search import ReinforceSettings
from taskvec.vectors import TaskVectors


def _log_in(tmp_path: Path, token: str = ANNA) -> None:
    (tmp_path / "token").write_text(token)


def test_vectors_go_up_with_a_card_and_come_down(
    small_model: MaeVqgan, random_vectors: TaskVectors, served: hub_server.Hub
) -> None:
    assert random_vectors.push_to_hub("lungs", token=ANNA, licence="cc-by-4.0", commit_message="First") == "anna/lungs"
    pushed = served.repositories["anna/lungs"]
    assert sorted(pushed.files) == ["README.md", "config.json", "vectors.safetensors"]
    assert pushed.messages == ["First"]  # in one commit: never some of the files
    for name in ("hub:anna/lungs", "anna/lungs"):
        loaded = TaskVectors.from_pretrained(name, small_model)
        assert loaded.fingerprint() == random_vectors.fingerprint()
    text = pushed.files["README.md"].decode()
    assert 'TaskVectors.from_pretrained("hub:anna/lungs", taskvec.load_model("DIRECTORY"))' in text
    assert yaml.safe_load(text.split("---")[1])["license"] == "cc-by-4.0"
    served.asked.clear()
    kept = TaskVectors.from_pretrained("hub:anna/lungs", small_model, local_files_only=True)
    assert (kept.fingerprint(), served.asked) == (random_vectors.fingerprint(), [])
    with pytest.raises(ValueError, match=r"^hub:anna/ribs is not in the hub's cache$"):
        TaskVectors.from_pretrained("hub:anna/ribs", small_model, local_files_only=True)


def test_a_branch_is_made_and_read(
    small_model: MaeVqgan, random_vectors: TaskVectors, served: hub_server.Hub, tmp_path: Path
) -> None:
    _log_in(tmp_path)
    random_vectors.push_to_hub("anna/lungs")
    (2 * random_vectors).push_to_hub("anna/lungs", revision="twice", picture=b"PNG")
    random_vectors.push_to_hub("anna/lungs", revision="once", picture=b"PNG")
    random_vectors.push_to_hub("anna/lungs", revision="once")  # and the picture goes
    branches = served.repositories["anna/lungs"].branches
    commits = served.repositories["anna/lungs"].commits
    assert [len(commits[branches[name]]) for name in ("main", "twice", "once")] == [3, 4, 3]
    for name, revision in (("hub:anna/lungs@twice", None), ("anna/lungs", branches["twice"])):
        twice = TaskVectors.from_pretrained(name, small_model, revision=revision)
        assert twice.fingerprint() == (2 * random_vectors).fingerprint()
    with pytest.raises(ValueError, match=r"^the repository anna/lungs of the hub has no such revision$"):
        TaskVectors.from_pretrained("hub:anna/lungs@thrice", small_model)
    with pytest.raises(ValueError, match=r"names a revision, and revision='b' another: expected one$"):
        TaskVectors.from_pretrained("hub:anna/lungs@a", small_model, revision="b")


def test_doors_are_told_in_a_sentence(
    small_model: MaeVqgan, random_vectors: TaskVectors, served: hub_server.Hub
) -> None:
    random_vectors.push_to_hub("anna/hidden", token=ANNA, private=True)
    random_vectors.push_to_hub("anna/hidden", token=ANNA, private=True)
    assert served.repositories["anna/hidden"].private
    for token in (None, BERT):
        with pytest.raises(ValueError, match=r"^the Hugging Face hub has no repository anna/hidden that you may read"):
            TaskVectors.from_pretrained("hub:anna/hidden", small_model, token=token)
    assert TaskVectors.from_pretrained("hub:anna/hidden", small_model, token=ANNA).task == "task"

    served.repositories["anna/gated"] = replace(served.repositories["anna/hidden"], private=False, gated=True)
    with pytest.raises(ValueError, match=r"^the repository anna/gated of the hub is gated: ask for access on its page"):
        TaskVectors.from_pretrained("hub:anna/gated", small_model)

    served.asked.clear()
    for token, says in (
        (None, "status 401: log in"),
        ("hf_nobody", "status 401: log in"),
        (BERT, "status 403: log in"),
    ):
        with pytest.raises(ValueError, match=rf"^the Hugging Face hub refused anna/new, {says} with `hf auth login`$"):
            random_vectors.push_to_hub("anna/new", token=token)
    assert not [one for one in served.asked if "commit" in one]
    assert "anna/new" not in served.repositories

    random_vectors.push_to_hub("anna/open", token=ANNA)
    with pytest.raises(ValueError, match=r"^the repository anna/open is public: make it private on its page, or name"):
        random_vectors.push_to_hub("anna/open", token=ANNA, private=True)
    with pytest.raises(ValueError, match=r"^a/b/c is no name of a repository of the Hugging Face hub: expected OWNER"):
        random_vectors.push_to_hub("a/b/c", token=ANNA)


def test_vectors_bring_their_model_from_the_hub(
    small_model: MaeVqgan,
    random_vectors: TaskVectors,
    served: hub_server.Hub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _log_in(tmp_path)
    assert small_model.push_to_hub("model", licence="Ask me first") == "anna/model"
    files = served.repositories["anna/model"].files
    facts = ModelCard(files["README.md"].decode()).data.to_dict()
    assert (facts["license"], facts["license_name"]) == ("other", "ask-me-first")
    model = MaeVqgan.from_pretrained("anna/model")
    commit = served.repositories["anna/model"].branches["main"]
    assert (model.name, model.revision, model.licence) == ("hub:anna/model", commit, "ask-me-first")

    vectors = replace(random_vectors, model=model)
    vectors.push_to_hub("lungs")
    text = served.repositories["anna/lungs"].files["README.md"].decode()
    assert yaml.safe_load(text.split("---")[1])["base_model"] == "anna/model"
    config = json.loads(served.repositories["anna/lungs"].files["config.json"])
    told = ("base_model_name_or_path", "base_model_revision", "base_model_type", "model_fingerprint")
    assert [config[name] for name in told] == ["anna/model", commit, "mae_vqgan", model.fingerprint()]

    served.repositories["anna/model"].commit("main", {"config.json": b"{}"}, "another model")  # theirs is still there
    loaded = TaskVectors.from_pretrained("anna/lungs")
    assert (loaded.fingerprint(), loaded.model.name) == (vectors.fingerprint(), "hub:anna/model")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 7)).save(tmp_path / "image.png")
    assert main(["apply", "hub:anna/lungs", "image.png", "--out", "out"]) == 0
    assert (tmp_path / "out" / "image.png").is_file()

    vectors.save_pretrained(tmp_path / "here")  # which ask nobody
    served.asked.clear()
    capsys.readouterr()
    assert main(["apply", "here", "image.png", "--out", "other"]) == 1
    name = f"hub:anna/model@{commit}"
    says = f"taskvec: here holds task vectors of {name}: pass --model {name} to take it from the hub\n"
    assert capsys.readouterr().err == says
    assert main(["apply", "anna/lungs", "image.png", "--out", "other"]) == 1
    assert "; the repository of the Hugging Face hub is hub:anna/lungs\n" in capsys.readouterr().err
    assert served.asked == []


def test_vectors_of_a_model_without_a_name_say_what_to_bring(
    small_model: MaeVqgan, random_vectors: TaskVectors, served: hub_server.Hub, tmp_path: Path
) -> None:
    random_vectors.push_to_hub("lungs", token=ANNA)
    bring = (
        rf"holds task vectors of a model of the type mae_vqgan with fingerprint {small_model.fingerprint()}, which has "
        "no name that others know: pass the directory of this model as --model, in Python the model itself$"
    )
    with pytest.raises(ValueError, match=bring):
        TaskVectors.from_pretrained("hub:anna/lungs")


@pytest.mark.parametrize("odd", ["a b'c", "\u00fc\u4e2d\N{GRINNING FACE}", 'quo"te\\back', "<b>&amp;.."])
def test_nothing_of_the_makers_names_is_in_what_is_pushed(
    odd: str, small_model: MaeVqgan, served: hub_server.Hub, tmp_path: Path, random: np.random.Generator
) -> None:
    """Names of directories and files have a word in them that is in no byte that went out, whatever surrounds it."""
    place = tmp_path / f"{odd} zebra7"
    for side in ("input", "output"):
        (place / "lungs" / side).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 256, (15, 15, 3), np.uint8)
            Image.fromarray(pixels).save(place / "lungs" / side / f"{odd} zebra7 {number}.png")
    small_model.save_pretrained(place / "model")
    model = load_model(place / "model")
    search = ReinforceSettings(steps=1, masks_per_item=2, checkpoint_every=1)
    settings = FindSettings(prompts=2, items=2, validation=2, search=search)
    found = find(model, Folder(root=place / "lungs", split="all"), settings=settings, progress=False)
    found.save_pretrained(place / "vectors zebra7")
    loaded = TaskVectors.load(place / "vectors zebra7", model)
    model.name = str(place)  # which nobody should
    for number, shared in enumerate((found, loaded, combine("'vectors zebra7' * 2", model, place), model)):
        shared.push_to_hub(f"shared{number}", token=ANNA)
    assert len(served.repositories) == 4
    for body in served.received:
        assert b"zebra7" not in body
    for repository in served.repositories.values():
        for name, content in repository.files.items():
            for word in (b"zebra7", str(tmp_path).encode(), base64.b64encode(str(tmp_path).encode())):
                assert word not in content + name.encode()


def test_a_card_says_what_is_recorded_and_no_score_that_was_not_measured(random_vectors: TaskVectors) -> None:
    config = replace(random_vectors.config, base_model_name_or_path="tiny", task="x\n# y")
    search = records.search("a", statistics=records.drawn("b", "c", prompts=7), validation=(records.drawn("d", "e"),))
    value, few = Measured(0.5, 0.25, 0.75), Measured(0.5, None, None)
    score = Score("", None, "mse", "folder", "test", 40, 8, 3, value, {"query_only": Measured(2.0, 1.5, 2.5)})
    for changed, expected in (
        (
            {"found": search},
            (
                "| Prompts behind the means | 7 |",
                "| Data | drawn scenes, split train |",
                "relaxed, for the sites of 1 task",
            ),
        ),
        ({"found": replace(search, settings={"at_most": 5})}, ("| Budget | at most 5 sites |",)),
        (
            {"found": Combination("a | b", (Term(1, "a", "mse", "", search),))},
            ("| Combined | a \\| b, of 1 terms |",),
        ),
        ({"found": None}, ("| Search | not recorded |", "None is claimed: they were not scored")),
        (
            {"scores": (score,)},
            (
                "means over 40 pairs, pairs of images of the maker's own, split test, with 95 % intervals over 8 ",
                "Of the queries, 3 are of what they were found on.",
                "| **task vectors** | 0.500 [0.250, 0.750] |",
                "| the query alone, without them | 2.000 [1.500, 2.500] |",
            ),
        ),
        ({"scores": (replace(score, value=few, groups=2),)}, ("| 0.500 |", "That is too few to tell how well they do")),
    ):
        text = card(replace(config, **changed), "hub:o/n", picture="examples.png")  # pyright: ignore[reportArgumentType]
        head = yaml.safe_load(text.split("---")[1])
        assert head == {"library_name": "taskvec", "base_model": "tiny", "tags": ["visual-prompting", "task-vectors"]}
        for line in (
            "| Task | x # y |",
            "| Licence | not stated |",
            'from_pretrained("hub:o/n")',
            "![Answers beside the truth](examples.png)",
            *expected,
        ):
            assert line in text
        assert ModelCard(text).data.to_dict()["library_name"] == "taskvec"


def test_models_come_down_only_when_they_are_named_as_of_the_hub(
    small_model: MaeVqgan, served: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model.push_to_hub("model", token=ANNA)
    loaded = load_model("hub:anna/model")
    assert (loaded.fingerprint(), loaded.name) == (small_model.fingerprint(), "hub:anna/model")
    served.asked.clear()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="anna/model is no model"):
        load_model("anna/model")
    for command in (
        ["info", "anna/model"],
        ["apply", "anna/lungs", "images", "--out", "out"],
        ["evaluate", "--task", "identity", "--method", "vectors:anna/lungs"],
        ["evaluate", "--task", "identity", "--method", "query_only", "--model", "anna/model"],
    ):
        assert main(command) == 1
    assert served.asked == []
    with pytest.raises(
        ValueError, match=r"hub:model is no repository of the Hugging Face hub: expected hub:OWNER/NAME"
    ):
        load_model("hub:model")


@pytest.mark.parametrize("name", ["nowhere", "/nowhere/at/all", "../nowhere", "a/b/c", "./a"])
def test_a_directory_that_is_not_there_is_told_as_such(name: str, small_model: MaeVqgan) -> None:
    with pytest.raises(
        ValueError, match=rf"there is no directory {name}; a repository of the Hugging Face hub is hub:OW"
    ):
        TaskVectors.from_pretrained(name, small_model)
    with pytest.raises(ValueError, match="there is no directory"):
        MaeVqgan.from_pretrained(name)


def _response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RepositoryNotFoundError("401", response=_response(401)),
            "the Hugging Face hub has no repository a/b that you m",
        ),
        (GatedRepoError("403", response=_response(403)), "the repository a/b of the hub is gated"),
        (RevisionNotFoundError("404", response=_response(404)), "the repository a/b of the hub has no such revision"),
        (HfHubHTTPError("403", response=_response(403)), "the Hugging Face hub refused a/b, status 403: log in with"),
        (HfHubHTTPError("500", response=_response(500)), "the Hugging Face hub refused a/b, status 500$"),
        (
            hub._TRANSPORT("[Errno 111] Connection refused"),
            "the Hugging Face hub cannot be reached for a/b: .Errno 111",
        ),
        (ValueError("Invalid metadata\n- in the card"), "Invalid metadata - in the card$"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    error: Exception,
    message: str,
    random_vectors: TaskVectors,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(ValueError, match=f"^{message}"):
        random_vectors.push_to_hub("a/b")
    if not isinstance(error, ValueError):
        with pytest.raises(ValueError, match=f"^there is no directory a/b, and {message}"):
            MaeVqgan.from_pretrained("a/b")
    assert main(["apply", "hub:a/b", "images", "--out", "out"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_connection_is_one_sentence(tmp_path: Path) -> None:
    """The client itself, asking a port of this machine where nobody listens."""
    code = (
        "import sys, taskvec.hub\n"
        "try: taskvec.hub.download('hub:anna/lungs')\n"
        "except ValueError as error: print(error)\n"
    )
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    environment["PYTHONPATH"] = str(Path(hub.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the Hugging Face hub cannot be reached for anna/lungs: ")
    assert len(done.stdout.splitlines()) == 1
