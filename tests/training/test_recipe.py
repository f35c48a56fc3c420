import json
import os
import shutil
import signal
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from taskvec import tasks
from taskvec.models import SHIPPED, load_model
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.training import checkpoints, loop
from taskvec.training.checkpoints import DivergedError
from taskvec.training.photograph_tasks import PHOTOGRAPH_TASKS
from taskvec.training.prompt_pool import SCENE_TASKS
from taskvec.training.recipe import TRAINING_TASKS, read_recipe, train

RECIPES = Path(__file__).parents[2] / "recipes"


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    finished: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a step: of the tokenizer, of its last step, and of the transformer."""
    console = Console(quiet=True)
    original = loop.learning_rate_factor

    def interrupt_at(stage: str, at: int) -> None:
        def learning_rate_factor(step: int, steps: int) -> float:
            if step == at:
                os.kill(os.getpid(), signal.SIGINT)
            return original(step, steps)

        monkeypatch.setattr(f"taskvec.training.{stage}.learning_rate_factor", learning_rate_factor)

    for stage, step in (("tokenizer", 4), ("tokenizer", 5), ("mae", 3)):
        interrupt_at(stage, step)
        with pytest.raises(KeyboardInterrupt):
            train(read_recipe(recipe), tmp_path / "parts", console)
    monkeypatch.undo()
    parts = train(read_recipe(recipe), tmp_path / "parts", console)

    first, second = (load_file(directory / "model.safetensors") for directory in (finished / "model", parts))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_training_writes(finished: Path, recipe: Path) -> None:
    model = load_model(finished / "model")
    assert isinstance(model, MaeVqgan)
    assert model.config == read_recipe(recipe).model
    assert (model.vqgan.quantize.embedding.weight != 0).any()
    stages = {stage: (finished / f"{stage}.jsonl").read_text().splitlines() for stage in ("tokenizer", "mae")}
    for lines in stages.values():
        assert [json.loads(line)["step"] for line in lines] == [6, 6]
    assert {"mse", "commitment"} <= json.loads(stages["tokenizer"][0]).keys()
    assert 0 < json.loads(stages["mae"][0])["loss"] < 10
    assert json.loads(stages["mae"][1]).keys() > {"segmentation", "low_light", "identity"}


def test_another_recipe_does_not_go_on_with_a_run(finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    other = replace(read_recipe(recipe), seed=4)
    with pytest.raises(ValueError, match=r"run holds the run of a recipe with another seed: 3, not 4"):
        train(other, run, Console(quiet=True))


def test_a_name_stands_for_one_task_in_every_recipe() -> None:
    assert all(TRAINING_TASKS[task.name] == task for task in (*SCENE_TASKS, *PHOTOGRAPH_TASKS))
    assert not TRAINING_TASKS.keys() & tasks.TASKS.keys()


def test_a_run_that_names_no_tasks_does_not_go_on(finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    del facts["recipe"]["tasks"]
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"run holds a run that does not say what tasks it trains"):
        train(read_recipe(recipe), run, Console(quiet=True))


@pytest.mark.parametrize(
    ("name", "count", "digest"), [("tiny", 27, "2a7550e3e1fddd54"), ("small", 97, "273243d1de728390")]
)
def test_a_new_task_changes_no_recipe(name: str, count: int, digest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shipped model was trained on, in order, stays what it was when it was trained."""
    before = read_recipe(RECIPES / f"{name}.toml")
    monkeypatch.setitem(tasks.TASKS, "upside_up", tasks.Task("upside_up", tasks.image, tasks.image))
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert (recipe.trained, recipe.validated) == (before.trained, before.validated)
    assert [task.name for task in recipe.validated] == [
        "segmentation",
        "low_light",
        "inpainting",
        "colorization",
        "identity",
    ]
    names = [task.name for task in recipe.trained]
    assert len(names) == count
    assert sha256(" ".join(names).encode()).hexdigest()[:16] == digest


def test_a_killed_run_forgets_what_it_logged_after_its_checkpoint(finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    log, checkpoint = (run / f"mae.{ending}" for ending in ("jsonl", "checkpoint.pt"))
    complete = [json.loads(line) for line in log.read_text().splitlines()]
    checkpoint.unlink()
    train(read_recipe(recipe), run, Console(quiet=True))
    again = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in again] == [line["step"] for line in complete]
    assert again[0]["loss"] == complete[0]["loss"]


def test_damaged_runs_are_one_clear_error(finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    with (run / "mae.jsonl").open("a") as log:
        log.write('{"step": 7, "los')  # a kill in the middle of a line does no harm
    train(read_recipe(recipe), run, Console(quiet=True))
    (run / "mae.checkpoint.pt").write_bytes((run / "mae.checkpoint.pt").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"mae.checkpoint.pt is damaged; remove it to begin the stage again"):
        train(read_recipe(recipe), run, Console(quiet=True))
    (run / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        train(read_recipe(recipe), run, Console(quiet=True))


@pytest.mark.parametrize("where", range(0, 100, 9))
def test_a_checkpoint_with_a_changed_byte_is_refused_or_the_same(
    where: int, finished: Path, recipe: Path, tmp_path: Path
) -> None:
    """``where`` is a hundredth of the file."""
    run = shutil.copytree(finished, tmp_path / "run")
    content = bytearray((run / "mae.checkpoint.pt").read_bytes())
    content[where * len(content) // 100] ^= 16
    (run / "mae.checkpoint.pt").write_bytes(content)
    shutil.rmtree(run / "model")
    try:
        train(read_recipe(recipe), run, Console(quiet=True))
    except ValueError as error:
        assert "mae.checkpoint.pt is damaged; remove it to begin the stage again" in str(error)  # noqa: PT017
    else:
        one, two = (load_file(directory / "model" / "model.safetensors") for directory in (finished, run))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_changed_weight_of_a_checkpoint_is_refused(finished: Path, recipe: Path, tmp_path: Path) -> None:
    """Which nothing but the digest tells: the file is one that torch wrote."""
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "mae.checkpoint.pt"
    content = torch.load(path, weights_only=True)
    next(iter(content["parts"]["model"].values())).flatten()[0] += 1
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"mae.checkpoint.pt is damaged.*its content is not what its digest says"):
        train(read_recipe(recipe), run, Console(quiet=True))
    for other in ({"step": 7}, {}, [1], "text"):
        torch.save(other, path)
        with pytest.raises(ValueError, match=r"mae.checkpoint.pt is damaged; remove it to begin the stage again"):
            train(read_recipe(recipe), run, Console(quiet=True))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"mae.checkpoint.pt is a pipe, expected a file"):
        train(read_recipe(recipe), run, Console(quiet=True))


@pytest.mark.parametrize("line", ["{}", "[1]}", '{"step": "one"}', '{"loss": 1}'])
def test_a_damaged_log_is_named(line: str, finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "mae.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"mae.jsonl is damaged, expected records with a step"):
        train(read_recipe(recipe), run, Console(quiet=True))


@pytest.mark.parametrize(("stage", "rate"), [("tokenizer", "learning_rate"), ("mae", "adamw_learning_rate")])
def test_a_training_that_diverges_stops_and_keeps_its_last_good_checkpoint(
    stage: str, rate: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a rate that no weights survive, with a checkpoint after every step."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    original = read_recipe(recipe)
    diverging = replace(original, **{stage: replace(getattr(original, stage), **{rate: 1e30}, steps=200)})
    run = tmp_path / "run"
    with pytest.raises(DivergedError, match=rf"{stage} diverged at step \d+: .* not finite") as raised:
        train(diverging, run, Console(quiet=True))
    assert not (run / "model").exists()
    for line in (run / f"{stage}.jsonl").read_text().splitlines():
        record = json.loads(line, parse_constant=pytest.fail)
        assert all(number is not None for number in record.values())
    checkpoint = run / f"{stage}.checkpoint.pt"
    assert checkpoint.exists() == (str(checkpoint) in str(raised.value))
    if checkpoint.exists():
        checkpoints.check_finite(checkpoints.read(checkpoint))


def test_weights_that_half_precision_does_not_hold_are_no_model(finished: Path, recipe: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(run / "model")
    content = checkpoints.read(run / "mae.checkpoint.pt")
    content["parts"]["model"]["mask_token"].fill_(1e6)
    checkpoints.write(run / "mae.checkpoint.pt", content)
    with pytest.raises(DivergedError, match=r"weights have grown up to 1e\+06, which torch.float16 does not hold"):
        train(read_recipe(recipe), run, Console(quiet=True))
    assert not (run / "model").exists()


@pytest.mark.parametrize("name", ["model", "model/config.json/", "tokenizer.jsonl/", "mae.checkpoint.pt/", "run.json/"])
def test_what_stands_in_the_way_is_told_before_the_work(
    name: str, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskvec.training.recipe._read_data", lambda *_: pytest.fail("work was done"))
    path = tmp_path / "run" / name
    if name.endswith("/"):
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        path.touch()
    with pytest.raises(ValueError, match=rf"{name.strip('/')} is a (file|directory), expected a (file|directory)"):
        train(read_recipe(recipe), tmp_path / "run", Console(quiet=True))


def test_sigterm_keeps_a_checkpoint_and_goes_to_whoever_listens(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, heard = loop.learning_rate_factor, []

    def learning_rate_factor(step: int, steps: int) -> float:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(step, steps)

    monkeypatch.setattr("taskvec.training.tokenizer.learning_rate_factor", learning_rate_factor)
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with pytest.raises(KeyboardInterrupt):
            train(read_recipe(recipe), tmp_path / "run", Console(quiet=True))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert checkpoints.read(tmp_path / "run" / "tokenizer.checkpoint.pt")["step"] == 3


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    factors = [loop.learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[100:600] == [1.0] * 500
    assert factors[-1] == pytest.approx(1 / 400)
    assert factors[600:] == sorted(factors[600:], reverse=True)


def test_shipped_recipes_are_readable_and_make_the_shipped_models() -> None:
    for name in SHIPPED:
        assert read_recipe(RECIPES / f"{name}.toml").model == load_model(name).config


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 6\nbatch = 4", "steps = 'many'", r"miniature.toml: mae.steps: input should be a valid integer"),
        ('"identity", "mirror"', '"mirrored"', r"miniature.toml: .*tasks has 'mirrored': did you mean mirror"),
        ("seed = 3", "sed = 3", r"miniature.toml: sed: unexpected keyword argument"),
        ("[mae]", "[mea]", r"miniature.toml: "),
        ("seed = 3", "seed = -3", r"miniature.toml: .*seed is -3, expected 0 or more"),
        ("steps = 6\nbatch = 4", "steps = 6\nadamw_learning_rate = nan\nbatch = 4", r"mae.adamw_learning_rate is nan"),
        ("seed = 3", "seed = = 3", r"miniature.toml is not a readable recipe"),
        ("patch_size = 4", "patch_size = 8", r"one code stands for 4 pixels and a patch for 8"),
        ("width = 16, heads = 2", "width = 18, heads = 2", r"a width of 18 does not divide among 2 heads and by 4"),
        ("layers = 1", "layers = 0", r"a stack has 0 layers and 2 heads"),
        ("codes = 16", "codes = -1", r"sizes must all be positive"),
        ("local = true", "local = false", r"recipes make models with a local tokenizer"),
        ("scenes = 96", "scenes = 99999999999999", r"scenes is 99999999999999, expected less than 2\^31"),
        ("steps = 6\nbatch = 4", "steps = 6\nbatch = 4294967296", r"mae.batch is 4294967296, expected less than 2\^31"),
        ("seed = 3", "seed = 1979-05-27", r"miniature.toml: seed: input should be a valid integer"),
        ("seed = 3", "seed = " + 5000 * "[", r"miniature.toml is not a readable recipe: "),
        ("scenes = 96", "scenes = 12", r"scenes is 12, expected at least two of each of the 12 classes"),
        ("[mae]", "[mae]\nrandom_masks = 7.0", r"are shares, expected between 0 and 1"),
        ("autoencoder_steps = 3", "autoencoder_steps = 6", r"autoencoder_steps is 6, expected 1 or more and fewer"),
    ],
)
def test_wrong_recipes_are_refused(old: str, new: str, message: str, recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_recipe(recipe)


def test_a_pipe_is_no_recipe(tmp_path: Path) -> None:
    """It would be waited for."""
    os.mkfifo(tmp_path / "recipe.toml")
    with pytest.raises(ValueError, match=r"recipe.toml is a pipe, expected a file"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_model_of_no_memory_is_one_sentence(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace("codes = 16", "codes = 9223372036854775807"))
    with pytest.raises(ValueError, match=r"the recipe describes a model that cannot be made"):
        train(read_recipe(recipe), tmp_path / "run", Console(quiet=True))
