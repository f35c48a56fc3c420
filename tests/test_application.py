import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.application import Job, Reading, apply_files, left_to_do, plan, reading_of
from taskvec.images import Range, read_raster
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors


def _save(path: Path, level: int = 0) -> None:
    Image.new("RGB", (4, 4), (level, level, level)).save(path)


def test_files_come_in_order_and_hidden_ones_do_not(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for name in ("b.png", "a.jpg", ".hidden.png"):
        _save(images / name)
    assert plan(images, out).jobs == [Job(images / "a.jpg", out / "a.png"), Job(images / "b.png", out / "b.png")]
    assert plan(images / "b.png", out).jobs == [Job(images / "b.png", out / "b.png")]


def test_what_would_be_overwritten_is_refused(tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match="does not exist"):
        plan(tmp_path / "absent", out)


def test_a_run_is_taken_up_where_it_was_interrupted(random_vectors: TaskVectors, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for level, name in enumerate(("a.png", "b.png", "c.png")):
        _save(tmp_path / "images" / name, level)
    jobs = plan(tmp_path / "images", tmp_path / "out").jobs
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
    jobs = plan(tmp_path / "a.png", tmp_path / "out").jobs
    apply_files(random_vectors, jobs)

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
    for content in ((tmp_path / "a.png").read_bytes(), b"a text"):
        jobs[0].result.write_bytes(content)
        with pytest.raises(ValueError, match="exists and is not what these vectors make of"):
            left_to_do(random_vectors, jobs)


def test_a_result_says_what_it_was_made_from(random_vectors: TaskVectors, tmp_path: Path) -> None:
    _save(tmp_path / "a.png")
    (job,) = plan(tmp_path / "a.png", tmp_path / "out").jobs
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
        apply_files(random_vectors, plan(tmp_path / f"{name}.png", tmp_path / "out").jobs)
    results = [np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) for name in ("turned", "upright")]
    assert np.array_equal(results[0], results[1])


def test_what_fails_is_told_and_the_rest_is_done(random_vectors: TaskVectors, tmp_path: Path) -> None:
    for name in ("a.png", "c.png", "d.png"):
        _save(tmp_path / name)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    (tmp_path / "e.png").write_bytes(b"not a picture")
    (tmp_path / "out" / "d.png").mkdir(parents=True)  # where a result should be
    done: list[Job] = []
    jobs = plan(tmp_path / "a.png", tmp_path / "out").jobs
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
        monkeypatch.setattr("taskvec.application.BATCH", batch)
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


def test_what_is_no_image_is_skipped_and_listed(random_vectors: TaskVectors, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    (images / "more").mkdir(parents=True)
    _save(images / "a.png")
    _save(images / "more" / "b.png")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "notes.txt", "scan.nii.gz", "raw.CR2"):
        (images / name).write_bytes(b"0")
    planned = plan(images, out)
    assert planned.jobs == [Job(images / "a.png", out / "a.png")]
    names = [".DS_Store", "Thumbs.db", "desktop.ini", "more", "notes.txt", "raw.CR2", "scan.nii.gz"]
    assert [path.name for path in planned.skipped] == names
    assert "it is NIfTI: save a slice of it as .npy" in planned.skipped[images / "scan.nii.gz"]
    assert "develop it into .tiff or .jpg" in planned.skipped[images / "raw.CR2"]
    planned = plan(images, out, recursive=True)
    assert planned.jobs[1] == Job(images / "more" / "b.png", out / "more" / "b.png")
    assert apply_files(random_vectors, planned.jobs) == {}
    assert planned.jobs[1].result.is_file()
    (images / "a.png").unlink()
    with pytest.raises(ValueError, match=r"has no images: .*DS_Store is a file manager's"):
        plan(images, out)


def test_a_directory_without_images_names_what_is_there(tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no images \(--recursive takes those of the directories in it\)"):
        plan(images, tmp_path / "out")


def test_a_damaged_result_is_made_again(random_vectors: TaskVectors, tmp_path: Path) -> None:
    """Wherever the damage is, the result does not count as done."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    jobs = plan(tmp_path / "a.png", tmp_path / "out").jobs
    apply_files(random_vectors, jobs)
    whole = jobs[0].result.read_bytes()
    assert left_to_do(random_vectors, jobs) == []
    start = whole.index(b"IDAT") + 4
    for place in np.linspace(start, len(whole) - 17, 40).astype(int):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        jobs[0].result.write_bytes(damaged)
        with Image.open(jobs[0].result) as image:  # some damage changes no pixel, as that of a sum
            try:
                same = np.array_equal(np.asarray(image), np.asarray(Image.open(BytesIO(whole))))
            except Exception:
                same = False
        assert left_to_do(random_vectors, jobs) == ([] if same else jobs)
    jobs[0].result.write_bytes(whole[: len(whole) // 2])
    assert left_to_do(random_vectors, jobs) == jobs
    assert apply_files(random_vectors, jobs) == {}
    assert jobs[0].result.read_bytes() == whole


def test_deep_images_have_one_range(random_vectors: TaskVectors, small_model: MaeVqgan, tmp_path: Path) -> None:
    """The same levels look the same, whatever else is in the image."""
    (tmp_path / "images").mkdir()
    ramp = np.linspace(0, 4095, 400).reshape(20, 20)
    for name, marker in (("a.png", 0), ("b.png", 65535)):
        levels = ramp.astype(np.uint16)
        levels[0, 0] = marker
        Image.fromarray(levels).save(tmp_path / "images" / name)
    _save(tmp_path / "images" / "c.png", 9)
    jobs = plan(tmp_path / "images", tmp_path / "out").jobs
    told = reading_of(random_vectors, jobs)
    assert told.levels is not None
    assert told.levels.low == pytest.approx(20, abs=12)
    assert told.levels.high == pytest.approx(4075, abs=12)
    assert "of the 2 deep images become 0 to 255 (told from all of them; --levels LO HI sets others)" in str(
        told.remark
    )
    asked = reading_of(random_vectors, jobs, (0, 4095))
    assert apply_files(random_vectors, jobs, reading=asked) == {}
    assert left_to_do(random_vectors, jobs, asked) == []
    with pytest.raises(ValueError, match=r"2 such files in all"):  # of another range
        left_to_do(random_vectors, jobs, told)
    config = replace(random_vectors.config, input_levels=(0.0, 4095.0))
    found = TaskVectors(small_model, config, random_vectors.means)
    assert reading_of(found, jobs).levels == asked.levels
    found.save_pretrained(tmp_path / "vectors")
    assert TaskVectors.load(tmp_path / "vectors", small_model).levels == asked.levels
    assert reading_of(found, jobs[2:]) == reading_of(random_vectors, jobs[2:])  # nothing deep, nothing said
    failures = apply_files(random_vectors, jobs[:1])
    assert "a.png cannot be read as an image: it has uint16 levels" in failures[jobs[0].image]


def test_a_huge_image_fails_alone(random_vectors: TaskVectors, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    _save(tmp_path / "images" / "a.png")
    Image.new("L", (300, 200)).save(tmp_path / "images" / "b.png")
    jobs = plan(tmp_path / "images", tmp_path / "out").jobs
    failures = apply_files(random_vectors, jobs, reading=reading_of(random_vectors, jobs, max_pixels=50_000))
    assert list(failures) == [tmp_path / "images" / "b.png"]
    assert "it has 300 x 200 pixels, expected 0.05 million at most (--max-pixels)" in failures[jobs[1].image]
    with pytest.raises(ValueError, match="300 x 200 pixels"):
        apply_files(random_vectors, jobs, reading=Reading(max_pixels=50_000), strict=True)


@pytest.mark.parametrize(("mode", "ending"), [("L", "png"), ("RGB", "jpg"), ("P", "png"), ("I;16", "png")])
def test_large_images_are_reduced_as_they_are_read(
    random_vectors: TaskVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, ending: str
) -> None:
    """Nearly the same pixels reach the model, and the result has the whole size."""
    ramp = np.add.outer(np.arange(480), np.arange(640)).astype(np.uint16)
    image = Image.fromarray(ramp) if mode == "I;16" else Image.fromarray((ramp // 5).astype(np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / f"a.{ending}", exif=exif)
    whole = read_raster(tmp_path / f"a.{ending}")
    monkeypatch.setattr("taskvec.images.decoding._LARGE", 1000)
    monkeypatch.setattr("taskvec.images.decoding._REDUCED_SIDE", 60)
    reduced = read_raster(tmp_path / f"a.{ending}", reduce=True)
    assert reduced.shape[0] < whole.shape[0] / 3
    assert reduced.size == whole.size == (480, 640)
    levels = Range(0, 1200)
    first, second = (random_vectors.to_input(one, levels).astype(int) for one in (whole, reduced))
    assert np.abs(first - second).max() <= 4
    assert reduced.as_stored().size == (640, 480)
