import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from applied import applied, save
from taskvec.application import source_of
from taskvec.application.sources import PORTION, Files, expanded
from taskvec.vectors import TaskVectors


def _files(inputs: Path, out: Path, *, recursive: bool = False) -> list[tuple[Path, str]]:
    portions = source_of(inputs, out, recursive=recursive).portions()
    return [file for portion in portions if isinstance(portion, Files) for file in portion.files]


def test_files_come_in_order_and_hidden_ones_do_not(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    for name in ("b.png", "a.jpg", ".hidden.png", "1.2.840.1"):
        save(images / name) if "840" not in name else (images / name).write_bytes(bytes(128) + b"DICM")
    assert _files(images, out) == [
        (images / "1.2.840.1", "1.2.840.1"),
        (images / "a.jpg", "a"),
        (images / "b.png", "b"),
    ]
    assert _files(images / "b.png", out) == [(images / "b.png", "b")]


def test_what_would_be_overwritten_is_refused(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    with pytest.raises(ValueError, match="has no files: expected images"):
        source_of(images, out)
    save(images / "a.png")
    with pytest.raises(ValueError, match=r"would replace the image .*a.png: name another directory"):
        source_of(images / "a.png", images)
    for place in (images / "out", images):
        with pytest.raises(ValueError, match="is in the directory of the images"):
            source_of(images, place)
    save(images / "a.jpg")
    with pytest.raises(ValueError, match=r"a.jpg and .*a.png share a name"):
        source_of(images, out)
    with pytest.raises(ValueError, match="does not exist"):
        source_of(tmp_path / "absent", out)


def test_what_is_no_image_is_skipped_and_listed(random_vectors: TaskVectors, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    save(images / "a.png")
    save(images / "more" / "b.png")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "notes.txt", "scan.nii.gz", "raw.CR2"):
        (images / name).write_bytes(b"0")
    source = source_of(images, out)
    assert _files(images, out) == [(images / "a.png", "a")]
    names = [".DS_Store", "Thumbs.db", "desktop.ini", "more", "notes.txt", "raw.CR2", "scan.nii.gz"]
    assert [Path(path).name for path in source.skipped] == names
    assert "it is NIfTI: save a slice of it as .npy" in source.skipped[str(images / "scan.nii.gz")]
    assert "develop it into .tiff or .jpg" in source.skipped[str(images / "raw.CR2")]
    assert _files(images, out, recursive=True)[1] == (images / "more" / "b.png", "more/b")
    assert applied(random_vectors, images, out, recursive=True) == {}
    assert (out / "more" / "b.png").is_file()
    (images / "a.png").unlink()
    with pytest.raises(ValueError, match=r"has no images \(--recursive .*DS_Store is a file manager's|has no images"):
        source_of(images, out)


def test_a_directory_without_images_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "images" / "more").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"has no images \(--recursive takes those of the directories in it\)"):
        source_of(tmp_path / "images", tmp_path / "out")


def test_a_list_names_images_anywhere(random_vectors: TaskVectors, tmp_path: Path) -> None:
    save(tmp_path / "here" / "a.png", 1)
    save(tmp_path / "there" / "b.png", 2)
    some, out = tmp_path / "here" / "list.txt", tmp_path / "out"
    some.write_text(f"a.png\n\n{tmp_path}/there/b.png\n")
    assert source_of(some, out).count == 2
    assert applied(random_vectors, some, out) == {}
    assert (out / "a.png").is_file()
    assert (out / tmp_path.relative_to("/") / "there" / "b.png").is_file()
    for text, told in (
        ("a.png\n../there/b.png", "goes up by .."),
        ("a.png\na.jpg", "a.jpg shares a name with another: both results would be a.png"),
        ("", "has no paths"),
        (f"{out}/a.png", "is in the directory for results"),
    ):
        some.write_text(text)
        with pytest.raises(ValueError, match=told):
            source_of(some, out)
    some.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is no text in UTF-8"):
        source_of(some, out)
    some.write_text("absent.png\na.png\n")
    failures = applied(random_vectors, some, tmp_path / "other")
    assert list(failures) == [str(tmp_path / "here" / "absent.png")]


def test_portions_are_of_so_many_files(tmp_path: Path) -> None:
    some = tmp_path / "list.txt"
    some.write_text("\n".join(f"{number}.png" for number in range(2 * PORTION + 1)))
    source = source_of(some, tmp_path / "out")
    assert [len(list(portion.samples())) for portion in source.portions()] == [PORTION, PORTION, 1]
    assert [portion.place for portion in source.portions(400)] == ["images-000000", "images-000001"]


@given(
    first=st.integers(0, 10**4), number=st.integers(1, 40), width=st.integers(1, 7), name=st.text(string.ascii_letters)
)
def test_a_pattern_names_every_number_once(first: int, number: int, width: int, name: str) -> None:
    last = first + number - 1
    names = expanded(f"{name}-{{{first:0{width}}..{last:0{width}}}}.tar")
    assert [int(one.removeprefix(f"{name}-").removesuffix(".tar")) for one in names] == list(range(first, last + 1))
    assert names == [f"{name}-{value:0{max(width, len(str(first)))}}.tar" for value in range(first, last + 1)]


def test_patterns(tmp_path: Path) -> None:
    assert expanded("{a,b}-{8..10}.tar") == [f"{x}-{n}.tar" for x in "ab" for n in (8, 9, 10)]
    for pattern, told in (
        ("x-{3..1}.tar", "FIRST not above LAST"),
        ("x-{a}.tar", "expected {FIRST..LAST} or {ONE,OTHER}"),
        ("x-{0..9999999}.tar", "names more than 1,000,000 shards"),
    ):
        with pytest.raises(ValueError, match=told):
            expanded(pattern)
    with pytest.raises(ValueError, match=r"x-000.tar is no file, expected a shard"):
        source_of(tmp_path / "x-{000..002}.tar", tmp_path / "out")
