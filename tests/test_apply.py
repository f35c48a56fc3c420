import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.apply import Job, apply_files, left_to_do, plan
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors


def _save(path: Path, level: int = 0) -> None:
    Image.new("RGB", (4, 4), (level, level, level)).save(path)


def test_files_come_in_order_and_hidden_ones_do_not(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for name in ("b.png", "a.jpg", ".hidden.png"):
        _save(images / name)
    assert plan(images, out) == [Job(images / "a.jpg", out / "a.png"), Job(images / "b.png", out / "b.png")]
    assert plan(images / "b.png", out) == [Job(images / "b.png", out / "b.png")]


def test_what_would_be_skipped_or_overwritten_is_refused(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    with pytest.raises(ValueError, match="has no files: expected images"):
        plan(images, out)
    _save(images / "a.png")
    with pytest.raises(ValueError, match=r"would replace the image .*a.png: name another directory"):
        plan(images / "a.png", images)
    _save(images / "a.jpg")
    with pytest.raises(ValueError, match=r"a.jpg and .*a.png share a name"):
        plan(images, out)
    (images / "a.jpg").unlink()
    (images / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"notes.txt is not an image"):
        plan(images, out)
    (images / "notes.txt").unlink()
    (images / "more").mkdir()
    with pytest.raises(ValueError, match=r"more is a directory, expected an image"):
        plan(images, out)
    with pytest.raises(ValueError, match="does not exist"):
        plan(tmp_path / "absent", out)


def test_a_run_is_taken_up_where_it_was_interrupted(random_vectors: TaskVectors, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for level, name in enumerate(("a.png", "b.png", "c.png")):
        _save(tmp_path / "images" / name, level)
    jobs = plan(tmp_path / "images", tmp_path / "out")
    assert left_to_do(random_vectors, jobs) == jobs
    assert apply_files(random_vectors, jobs[:2]) == {}
    assert left_to_do(random_vectors, jobs) == jobs[2:]
    assert left_to_do(random_vectors, jobs, overwrite=True) == jobs
    jobs[0].image.unlink()
    jobs[0].image.symlink_to(jobs[0].image.name)  # unreadable for every user
    assert left_to_do(random_vectors, jobs) == [jobs[0], jobs[2]]
    assert list(apply_files(random_vectors, [jobs[0], jobs[2]])) == [jobs[0].image]


def test_a_result_of_something_else_is_never_replaced(
    random_vectors: TaskVectors, small_model: MaeVqgan, tmp_path: Path
) -> None:
    _save(tmp_path / "a.png")
    jobs = plan(tmp_path / "a.png", tmp_path / "out")
    apply_files(random_vectors, jobs)
    result = jobs[0].result.read_bytes()

    other = TaskVectors(small_model, random_vectors.config, {s: 2 * m for s, m in random_vectors.means.items()})
    with pytest.raises(
        ValueError, match=r"a.png exists and is not what these vectors make of .*\(1 such files in all\): name another"
    ):
        left_to_do(other, jobs)
    _save(tmp_path / "a.png", 9)  # the image has changed
    with pytest.raises(ValueError, match="exists and is not what these vectors make of"):
        left_to_do(random_vectors, jobs)
    _save(tmp_path / "a.png")
    assert left_to_do(random_vectors, jobs) == []
    for content in (result[: len(result) // 2], (tmp_path / "a.png").read_bytes(), b"a text"):
        jobs[0].result.write_bytes(content)
        with pytest.raises(ValueError, match="exists and is not what these vectors make of"):
            left_to_do(random_vectors, jobs)


def test_a_result_says_what_it_was_made_from(random_vectors: TaskVectors, tmp_path: Path) -> None:
    _save(tmp_path / "a.png")
    (job,) = plan(tmp_path / "a.png", tmp_path / "out")
    apply_files(random_vectors, [job])
    with Image.open(job.result) as result:
        assert json.loads(result.info["taskvec"])["vectors"] == random_vectors.fingerprint()


def test_photographs_are_turned_upright(random_vectors: TaskVectors, tmp_path: Path) -> None:
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 12, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    for name in ("turned", "upright"):
        apply_files(random_vectors, plan(tmp_path / f"{name}.png", tmp_path / "out"))
    results = [np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) for name in ("turned", "upright")]
    assert np.array_equal(results[0], results[1])


def test_what_fails_is_told_and_the_rest_is_done(random_vectors: TaskVectors, tmp_path: Path) -> None:
    for name in ("a.png", "c.png", "d.png"):
        _save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    (tmp_path / "e.png").write_bytes(b"not a picture")
    (tmp_path / "out" / "d.png").mkdir(parents=True)  # where a result should be
    done: list[Job] = []
    jobs = plan(tmp_path / "a.png", tmp_path / "out")
    jobs += [Job(tmp_path / f"{name}.png", tmp_path / "out" / f"{name}.png") for name in "bcde"]
    failures = apply_files(random_vectors, jobs, done.append)
    assert [path.name for path in failures] == ["b.png", "d.png", "e.png"]
    assert "b.png cannot be read as an image" in failures[tmp_path / "b.png"]
    assert "d.png cannot be written: " in failures[tmp_path / "d.png"]
    assert done == jobs
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "d.png"]


def test_batches_are_those_of_single_images(
    random_vectors: TaskVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(5):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (9, 7 + index, 3), np.uint8)).save(
            tmp_path / f"{index}.png"
        )
    for batch in (1, 3):
        monkeypatch.setattr("taskvec.apply.BATCH", batch)
        jobs = [Job(tmp_path / f"{i}.png", tmp_path / f"out{batch}" / f"{i}.png") for i in range(5)]
        assert apply_files(random_vectors, jobs) == {}
    for index in range(5):
        one, three = (np.asarray(Image.open(tmp_path / f"out{batch}" / f"{index}.png")) for batch in (1, 3))
        assert one.shape == (9, 7 + index, 3)
        assert np.abs(one.astype(int) - three).max() <= 1  # sums in another order may round otherwise


def test_a_name_as_long_as_can_be(random_vectors: TaskVectors, tmp_path: Path) -> None:
    name = "\N{GREEK SMALL LETTER PI}" * 125 + ".png"
    _save(tmp_path / name)
    assert apply_files(random_vectors, [Job(tmp_path / name, tmp_path / "out" / name)]) == {}


def test_results_among_the_images_are_refused(tmp_path: Path) -> None:
    """They would be images of the next run."""
    _save(tmp_path / "a.jpg")
    for out in (tmp_path / "out", tmp_path):
        with pytest.raises(ValueError, match="is in the directory of the images"):
            plan(tmp_path, out)
