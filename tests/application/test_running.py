import itertools
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from applied import applied, left, save
from taskvec import files
from taskvec.application import Here, Reading, reading_of, source_of
from taskvec.application.running import overlapped
from taskvec.images import Range, read_raster
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors


@pytest.mark.parametrize("processes", [0, 2])
def test_a_run_is_taken_up_where_it_was_interrupted(
    random_vectors: TaskVectors, tmp_path: Path, processes: int
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for level, name in enumerate(("a.png", "b.png", "c.png")):
        save(images / name, level)
    assert left(random_vectors, images, out) == 3
    assert applied(random_vectors, images / "a.png", out, processes=processes) == {}
    assert left(random_vectors, images, out) == 2
    assert left(random_vectors, images, out, overwrite=True) == 3
    (images / "b.png").unlink()
    (images / "b.png").symlink_to("b.png")  # unreadable for every user
    assert list(applied(random_vectors, images, out, processes=processes)) == [str(images / "b.png")]
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png"]


def test_a_result_of_something_else_is_never_replaced(
    random_vectors: TaskVectors, small_model: MaeVqgan, tmp_path: Path
) -> None:
    save(tmp_path / "a.png")
    image, out = tmp_path / "a.png", tmp_path / "out"
    applied(random_vectors, image, out)

    other = TaskVectors(small_model, random_vectors.config, {s: 2 * m for s, m in random_vectors.means.items()})
    with pytest.raises(
        ValueError, match=r"a.png exists and is not what these vectors make of .*\(1 such files in all\): name another"
    ):
        applied(other, image, out)
    save(image, 9)  # the image has changed
    with pytest.raises(ValueError, match="exists and is not what these vectors make of"):
        applied(random_vectors, image, out)
    save(image)
    assert left(random_vectors, image, out) == 0
    for content in (image.read_bytes(), b"a text"):
        (out / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match="exists and is not what these vectors make of"):
            applied(random_vectors, image, out)


def test_a_result_says_what_it_was_made_from(random_vectors: TaskVectors, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    applied(random_vectors, tmp_path / "a.png", tmp_path / "out")
    with Image.open(tmp_path / "out" / "a.png") as result:
        assert json.loads(result.info["taskvec"])["vectors"] == random_vectors.fingerprint()


def test_photographs_are_turned_upright(random_vectors: TaskVectors, tmp_path: Path) -> None:
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 12, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    for name in ("turned", "upright"):
        applied(random_vectors, tmp_path / f"{name}.png", tmp_path / "out")
    results = [np.asarray(Image.open(tmp_path / "out" / f"{name}.png")) for name in ("turned", "upright")]
    assert np.array_equal(results[0], results[1])


def test_what_fails_is_told_and_the_rest_is_done(random_vectors: TaskVectors, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for name in ("a.png", "c.png", "d.png"):
        save(images / name)
    (images / "b.png").write_bytes((images / "a.png").read_bytes()[:20])
    (images / "e.png").write_bytes(b"not a picture")
    (out / "d.png").mkdir(parents=True)  # where a result should be
    done: list[int] = []
    failures = applied(random_vectors, images, out, overwrite=True, on_done=done.append)
    assert list(failures) == [str(images / f"{name}.png") for name in "bde"]
    assert "b.png cannot be read as an image" in failures[str(images / "b.png")]
    assert "d.png cannot be written: " in failures[str(images / "d.png")]
    assert sum(done) == 5
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png", "d.png"]
    with pytest.raises(ValueError, match=r"b\.png cannot be read as an image"):
        applied(random_vectors, images, out, overwrite=True, strict=True)


def test_batches_are_those_of_single_images(
    random_vectors: TaskVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    for index in range(5):
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (9, 7 + index, 3), np.uint8)).save(
            tmp_path / "images" / f"{index}.png"
        )
    for batch in (1, 3):
        monkeypatch.setattr("taskvec.application.running.BATCH", batch)
        assert applied(random_vectors, tmp_path / "images", tmp_path / f"out{batch}") == {}
    for index in range(5):
        one, three = (np.asarray(Image.open(tmp_path / f"out{batch}" / f"{index}.png")) for batch in (1, 3))
        assert one.shape == (9, 7 + index, 3)
        assert np.abs(one.astype(int) - three).max() <= 1  # sums in another order may round otherwise


def test_a_name_as_long_as_can_be(random_vectors: TaskVectors, tmp_path: Path) -> None:
    name = "\N{GREEK SMALL LETTER PI}" * 125 + ".png"
    save(tmp_path / name)
    assert applied(random_vectors, tmp_path / name, tmp_path / "out") == {}
    assert (tmp_path / "out" / name).is_file()


def test_a_damaged_result_is_made_again(random_vectors: TaskVectors, tmp_path: Path) -> None:
    """Wherever the damage is, the result does not count as done."""
    image, out = tmp_path / "a.png", tmp_path / "out"
    result = out / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(image)
    applied(random_vectors, image, out)
    whole = result.read_bytes()
    assert left(random_vectors, image, out) == 0
    start = whole.index(b"IDAT") + 4
    for place in np.linspace(start, len(whole) - 17, 40).astype(int):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        result.write_bytes(damaged)
        with Image.open(result) as opened:  # some damage changes no pixel, as that of a sum
            try:
                same = np.array_equal(np.asarray(opened), np.asarray(Image.open(BytesIO(whole))))
            except Exception:
                same = False
        assert left(random_vectors, image, out) == (0 if same else 1)
    result.write_bytes(whole[: len(whole) // 2])
    assert left(random_vectors, image, out) == 1
    assert applied(random_vectors, image, out) == {}
    assert result.read_bytes() == whole


def test_deep_images_have_one_range(random_vectors: TaskVectors, small_model: MaeVqgan, tmp_path: Path) -> None:
    """The same levels look the same, whatever else is in the image."""
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    ramp = np.linspace(0, 4095, 400).reshape(20, 20)
    for name, marker in (("a.png", 0), ("b.png", 65535)):
        levels = ramp.astype(np.uint16)
        levels[0, 0] = marker
        Image.fromarray(levels).save(images / name)
    save(images / "c.png", 9)
    source, plain = source_of(images, out), source_of(images / "c.png", out)
    with Here(random_vectors, 0) as engine:
        told, remark = reading_of(random_vectors, source, engine)
        assert told.levels is not None
        assert told.levels.low == pytest.approx(20, abs=12)
        assert told.levels.high == pytest.approx(4075, abs=12)
        assert "of the 2 deep images become 0 to 255 (told from all of them; --levels LO HI sets others)" in str(remark)
        asked, _ = reading_of(random_vectors, source, engine, (0, 4095))
        config = replace(random_vectors.config, input_levels=(0.0, 4095.0))
        found = TaskVectors(small_model, config, random_vectors.means)
        assert reading_of(found, source, engine)[0].levels == asked.levels
        assert reading_of(random_vectors, plain, engine) == (Reading(), None)  # nothing deep, nothing said
    assert applied(random_vectors, images, out, reading=asked) == {}
    assert left(random_vectors, images, out, reading=asked) == 0
    with pytest.raises(ValueError, match=r"2 such files in all"):  # of another range
        left(random_vectors, images, out, reading=told)
    found.save_pretrained(tmp_path / "vectors")
    assert TaskVectors.load(tmp_path / "vectors", small_model).levels == asked.levels
    failures = applied(random_vectors, images / "a.png", tmp_path / "other")
    assert "a.png cannot be read as an image: it has uint16 levels" in failures[str(images / "a.png")]


def test_a_huge_image_fails_alone(random_vectors: TaskVectors, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    save(images / "a.png")
    Image.new("L", (300, 200)).save(images / "b.png")
    failures = applied(random_vectors, images, out, reading=Reading(max_pixels=50_000))
    assert list(failures) == [str(images / "b.png")]
    assert "it has 300 x 200 pixels, expected 0.05 million at most (--max-pixels)" in failures[str(images / "b.png")]
    with pytest.raises(ValueError, match="300 x 200 pixels"):
        applied(random_vectors, images, out, reading=Reading(max_pixels=50_000), strict=True)


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


def _killed_in_the_middle(vectors: TaskVectors, images: Path, out: Path, form: str, processes: int) -> None:
    """A process of its own that kills itself, as the system would, once six images are done."""
    child = os.fork()
    if child == 0:
        done: list[int] = []

        def die(number: int) -> None:
            done.append(number)
            if sum(done) == 6:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            applied(vectors, images, out, form, processes=processes, shard_size=4, on_done=die)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(("form", "processes"), [("folder", 0), ("folder", 2), ("tar", 0)])
def test_what_is_done_stays_after_a_kill_and_nothing_is_done_twice(
    random_vectors: TaskVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, processes: int
) -> None:
    monkeypatch.setattr("taskvec.application.running.BATCH", 1)
    images, out = tmp_path / "images", tmp_path / "out"
    for number in range(12):
        save(images / f"{number:02}.png", 20 * number)
    assert applied(random_vectors, images, tmp_path / "whole", form, shard_size=4) == {}
    _killed_in_the_middle(random_vectors, images, out, form, processes)
    deadline = time.monotonic() + 20
    while temporary := list(out.glob(".*.tmp")):  # of processes that end with the one that was killed, if they had work
        if processes == 0 or time.monotonic() > deadline:
            break
        time.sleep(0.05)
        files._swept.clear()
        files.sweep(out)
    assert processes == 0 or not temporary
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.is_file()}
    assert 0 < len(before) < len(list((tmp_path / "whole").iterdir()))
    files._swept.clear()
    assert applied(random_vectors, images, out, form, processes=processes, shard_size=4) == {}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()
    }
    done = {name: time for name, time in before.items() if form == "folder" or name == "images-000000.tar"}
    assert {name: (out / name).stat().st_mtime_ns for name in done} == done


def test_a_process_that_is_killed_is_told(
    random_vectors: TaskVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*anything: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    save(tmp_path / "images" / "a.png")
    monkeypatch.setattr("taskvec.application.running.read", die)
    with pytest.raises(ChildProcessError, match="a process that reads and writes images was killed"):
        applied(random_vectors, tmp_path / "images", tmp_path / "out", processes=1)


def test_no_more_than_so_many_are_ahead() -> None:
    """What is held does not grow with the number of items, and what comes out is in their order."""
    taken, most = itertools.count(), 0
    out = 0
    with ThreadPoolExecutor(3) as threads:
        for item, result in overlapped(
            lambda number: threads.submit(pow, number, 2), (next(taken) for _ in range(50)), 4
        ):
            assert (item, result) == (out, out * out)
            out += 1
            most = max(most, int(repr(taken)[6:-1]) - out)
    assert (out, most) == (50, 3)
