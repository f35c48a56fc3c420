"""The hub without a network: a stand-in for its client's interface, and a port where nobody listens."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

import records
from taskvec import hub
from taskvec.card import card
from taskvec.cli import main
from taskvec.models import load_model
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.provenance import Combination, Term
from taskvec.vectors import TaskVectors


class _Hub:
    """What is asked of HfApi: repositories are directories of ``root``, without an owner those of anna."""

    root: Path

    def create_repo(self, name: str, **_: Any) -> SimpleNamespace:
        full = name if "/" in name else f"anna/{name}"
        (self.root / full).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=full)

    def upload_folder(self, *, repo_id: str, folder_path: Path) -> None:
        assert (self.root / repo_id).is_dir(), f"{repo_id} was not made"
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)


@pytest.fixture
def repositories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the stand-in keeps its repositories."""
    root = tmp_path / "hub"
    monkeypatch.setattr(_Hub, "root", root, raising=False)
    monkeypatch.setattr(hub, "HfApi", _Hub)
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **_: str(root / name))
    return root


def _refusing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    monkeypatch.setattr(_Hub, "create_repo", refuse)


def _response(status: int) -> Any:
    return SimpleNamespace(status_code=status, headers={}, request=None)


def test_vectors_go_up_with_a_card_and_come_down(
    small_model: MaeVqgan, random_vectors: TaskVectors, repositories: Path
) -> None:
    assert random_vectors.push_to_hub("lungs") == "anna/lungs"
    files = sorted(path.name for path in (repositories / "anna" / "lungs").iterdir())
    assert files == ["README.md", "config.json", "vectors.safetensors"]
    for name in ("hub:anna/lungs", "anna/lungs"):
        loaded = TaskVectors.from_pretrained(name, small_model)
        assert loaded.fingerprint() == random_vectors.fingerprint()
    text = (repositories / "anna" / "lungs" / "README.md").read_text()
    assert 'TaskVectors.from_pretrained("hub:anna/lungs", model)' in text
    assert random_vectors.push_to_hub("clinic/lungs") == "clinic/lungs"


def test_a_card_says_what_is_recorded_and_claims_no_score(random_vectors: TaskVectors) -> None:
    config = random_vectors.config
    search = records.search("a", statistics=records.drawn("b", "c", prompts=7), validation=(records.drawn("d", "e"),))
    for found, expected in (
        (
            search,
            ("| Prompts behind the means | 7, data set scenes, split train |", "relaxed, for the sites of 1 task"),
        ),
        (replace(search, settings={"at_most": 5}), ("| Budget | at most 5 sites |",)),
        (Combination("a | b", (Term(1, "a", "mse", "", search),)), ("| Combined | a \\| b, of 1 terms |",)),
        (None, ("| Search | not recorded |",)),
    ):
        text = card(SimpleNamespace(**{**vars(config), "found": found, "task": "x\n# y", "model": "tiny"}), "o/n")  # pyright: ignore
        head = yaml.safe_load(text.split("---")[1])
        assert head == {"library_name": "taskvec", "tags": ["visual-prompting", "task-vectors"]}
        for line in (
            "| Task | x # y |",
            "| Licence | none stated |",
            "none is claimed",
            'load_model("tiny")',
            *expected,
        ):
            assert line in text
        assert ModelCard(text).data.to_dict()["library_name"] == "taskvec"


def test_models_come_down_only_when_they_are_named_as_of_the_hub(
    small_model: MaeVqgan, repositories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_model.save_pretrained(repositories / "anna" / "model")
    loaded = load_model("hub:anna/model")
    assert (loaded.fingerprint(), loaded.name) == (small_model.fingerprint(), "hub:anna/model")
    _refusing(monkeypatch, AssertionError("the network was asked"))
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
    ],
)
def test_what_the_hub_refuses_is_one_sentence(
    error: Exception,
    message: str,
    random_vectors: TaskVectors,
    repositories: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    _refusing(monkeypatch, error)
    with pytest.raises(ValueError, match=f"^{message}"):
        random_vectors.push_to_hub("a/b")
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
