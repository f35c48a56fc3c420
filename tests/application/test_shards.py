import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from applied import applied, save
from taskvec.application.shards import BrokenShardError, TarShard, quoted, why_unsafe
from taskvec.vectors import TaskVectors

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def _image(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(level).integers(0, 256, (9, 7, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def _tar(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in members.items() if isinstance(members, dict) else members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def _members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as file:
        return {member.name: file.extractfile(member).read() for member in file}  # pyright: ignore[reportOptionalMemberAccess]


def _table(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def _files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*.png"))}


def test_results_are_the_same_bytes_wherever_they_come_from_and_go(random_vectors: TaskVectors, tmp_path: Path) -> None:
    """A folder, shards of two formats and their results: every pixel and every origin."""
    images = {f"{number:02}": _image(number) for number in range(5)}
    (tmp_path / "images").mkdir()
    for key, content in images.items():
        (tmp_path / "images" / f"{key}.png").write_bytes(content)
    assert applied(random_vectors, tmp_path / "images", tmp_path / "folder", processes=2) == {}
    expected = {Path(name).stem: content for name, content in _files(tmp_path / "folder").items()}
    assert list(expected) == list(images)

    halves = [dict(list(images.items())[:3]), dict(list(images.items())[3:])]
    for number, half in enumerate(halves):
        _tar(
            tmp_path / "tars" / f"t-{number}.tar",
            {
                f"./{key}.{ending}": one
                for key, content in half.items()
                for ending, one in (("png", content), ("cls", b"7"))
            },
        )
        _table(
            tmp_path / "tables" / f"p-{number}.parquet",
            {
                "label": range(len(half)),
                "__key__": list(half),
                "scan": [{"bytes": c, "path": None} for c in half.values()],
            },
        )
    for form in ("tar", "parquet"):
        for name in ("tars", "tables", "images"):
            out = tmp_path / f"{name}-{form}"
            assert applied(random_vectors, tmp_path / name, out, form, processes=2, shard_size=3) == {}
            found: dict[str, bytes] = {}
            shards = sorted(out.glob(f"*.{form}"))
            prefix = {"tars": "t-{}", "tables": "p-{}", "images": "images-{:06}"}[name]
            assert [path.stem for path in shards] == [prefix.format(number) for number in range(2)]
            for path in shards:
                if form == "tar":
                    members = _members(path)
                    found |= {Path(key).stem: one for key, one in members.items() if key.endswith(".png")}
                    assert sum(key.endswith(".cls") for key in members) == (len(members) // 2 if name == "tars" else 0)
                else:
                    table = parquet.read_table(path).to_pydict()
                    column = table["scan" if name == "tables" else "image"]
                    found |= {key: one["bytes"] for key, one in zip(table["__key__"], column, strict=True)}
                    assert ("label" in table) == (name == "tables")
            assert found == expected
            times = [path.stat().st_mtime_ns for path in shards]
            assert applied(random_vectors, tmp_path / name, out, form, shard_size=3) == {}
            assert [path.stat().st_mtime_ns for path in shards] == times  # nothing was done twice
    for name in ("tars", "tables"):
        assert applied(random_vectors, tmp_path / name, tmp_path / f"{name}-folder", "folder") == {}
        results = _files(tmp_path / f"{name}-folder")
        assert {Path(key).stem: content for key, content in results.items()} == expected
        assert [str(Path(key).parent) for key in results] == [f"{name[0] if name == 'tars' else 'p'}-0"] * 3 + [
            f"{name[0] if name == 'tars' else 'p'}-1"
        ] * 2


def test_a_shard_of_something_else_is_never_replaced(random_vectors: TaskVectors, tmp_path: Path) -> None:
    shard, out = _tar(tmp_path / "in" / "a.tar", {"x.png": _image(1), "y.png": b"no image"}), tmp_path / "out"
    failures = applied(random_vectors, shard, out)
    assert list(failures) == [f"{shard}: y.png"]
    assert list(_members(out / "a.tar")) == ["x.png"]
    record = json.loads((out / "a.tar.json").read_text())
    assert (record["done"], record["failed"]) == (1, failures)
    assert applied(random_vectors, shard, out) == failures  # which is told again
    whole = (out / "a.tar").read_bytes()
    (out / "a.tar").write_bytes(whole[:600])  # damaged: made again
    assert applied(random_vectors, shard, out) == failures
    assert (out / "a.tar").read_bytes() == whole
    _tar(shard, {"x.png": _image(2)})
    with pytest.raises(
        ValueError, match=r"a.tar exists and is not what these vectors make of .*name another directory"
    ):
        applied(random_vectors, shard, out)
    (out / "a.tar.json").unlink()
    with pytest.raises(ValueError, match="exists and is not what these vectors make of"):
        applied(random_vectors, shard, out)
    assert applied(random_vectors, shard, out, overwrite=True) == {}
    assert (out / "a.tar").read_bytes() != whole


def test_a_damaged_tar_is_named_and_the_rest_is_done(random_vectors: TaskVectors, tmp_path: Path) -> None:
    """Wherever it ends or is damaged; in a directory the samples before that are there."""
    whole = _tar(tmp_path / "in" / "a.tar", {f"{key}.png": _image(ord(key)) for key in "xyz"}).read_bytes()
    _tar(tmp_path / "in" / "b.tar", {"v.png": _image(9)})
    second = whole.index(b"y.png")
    for number, (damaged, done) in enumerate(
        (
            (whole[:second], ["x"]),  # at the border of a member, where tarfile sees no damage
            (whole[: second + 600], ["x"]),
            (whole[:second] + b"?" * 512 + whole[second + 512 :], ["x"]),  # nor here
            (b"", []),
        )
    ):
        (tmp_path / "in" / "a.tar").write_bytes(damaged)
        out = tmp_path / f"out-{number}"
        failures = applied(random_vectors, tmp_path / "in", out / "files", "folder")
        assert list(failures) == [str(tmp_path / "in" / "a.tar")]
        assert "a.tar cannot be read to its end: " in failures[str(tmp_path / "in" / "a.tar")]
        assert list(_files(out / "files")) == [*(f"a/{key}.png" for key in done), "b/v.png"]
        assert list(applied(random_vectors, tmp_path / "in", out / "files", "folder")) == list(failures)
        assert list(applied(random_vectors, tmp_path / "in", out / "tar")) == list(failures)
        assert sorted(path.name for path in (out / "tar").iterdir()) == ["b.tar", "b.tar.json"]
    with pytest.raises(ValueError, match=r"a.tar cannot be read to its end"):
        applied(random_vectors, tmp_path / "in", tmp_path / "strict", strict=True)


def test_no_member_leads_elsewhere(random_vectors: TaskVectors, tmp_path: Path) -> None:
    path, out = tmp_path / "in" / "a.tar", tmp_path / "deep" / "out"
    _tar(path, [])
    with tarfile.open(path, "w") as file:
        for name in ("/etc/x.png", "../y.png", "a/../../z.png", "sub/good.png"):
            member = tarfile.TarInfo(name)
            member.size = len(_image(1))
            file.addfile(member, io.BytesIO(_image(1)))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        file.addfile(link)
    for form in ("folder", "tar"):
        failures = applied(random_vectors, path, out, form)
        assert sorted(failures) == sorted(f"{path}: {key}.png" for key in ("/etc/x", "../y", "a/../../z", "link"))
        assert "may lead elsewhere" in failures[f"{path}: ../y.png"]
        assert "is a link or a device in the archive" in failures[f"{path}: link.png"]
    assert [str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*.png")] == ["deep/out/a/sub/good.png"]
    assert list(_members(out / "a.tar")) == ["sub/good.png"]


def test_samples_of_a_tar_that_are_not_one_image(random_vectors: TaskVectors, tmp_path: Path) -> None:
    members = [
        ("__meta__/shard.json", b"{}"),  # about the shard, as WebDataset has it
        ("README", b"no ending"),
        ("a.jpg", _image(1)),
        ("a.seg.png", _image(2)),
        ("b.json", b"{}"),
        ("c.jpg", _image(3)),
        ("a.jpg", _image(4)),
    ]
    path = _tar(tmp_path / "in" / "a.tar", members)
    told = applied(random_vectors, path, tmp_path / "out")
    assert list(told) == [f"{path}: a.jpg", f"{path}: b", f"{path}: a.jpg"][:2]
    assert list(_members(tmp_path / "out" / "a.tar")) == ["c.png"]
    told = applied(random_vectors, path, tmp_path / "chosen", column="jpg")
    assert list(told.values()) == [
        f"{path}: b has no image among its members json: expected jpg (--column)",
        f"{path}: a is there twice: a sample of the key came before",
    ]
    assert _members(tmp_path / "chosen" / "a.tar")["a.seg.png"] == _image(2)


def test_tables_with_rows_that_cannot_be_done(random_vectors: TaskVectors, tmp_path: Path) -> None:
    path = _table(
        tmp_path / "in" / "a.parquet",
        {
            "x": [_image(1), b"broken", None, _image(2)],
            "y": [b""] * 4,
            "n": [7, 8, 9, 10],
            "id": ["a", "b", "c", "../d"],
        },
    )
    assert "2 columns hold bytes, x, y: expected one (--column)" in str(applied(random_vectors, path, tmp_path / "o1"))
    assert "n is no column of bytes" in str(applied(random_vectors, path, tmp_path / "o2", column="n"))
    failures = applied(random_vectors, path, tmp_path / "out", column="x", key="id")
    assert [name.rpartition(" ")[2] for name in failures] == ["(b)", "(c)", "(../d)"]
    assert parquet.read_table(tmp_path / "out" / "a.parquet").drop(["x"]).to_pydict() == {
        "y": [b""],
        "n": [7],
        "id": ["a"],
    }
    failures = applied(random_vectors, path, tmp_path / "numbers", "folder", column="x")
    assert len(failures) == 2
    assert list(_files(tmp_path / "numbers")) == ["a/00000000.png", "a/00000003.png"]
    applied(random_vectors, path, tmp_path / "numbered", column="x")
    table = parquet.read_table(tmp_path / "numbered" / "a.parquet")
    assert table["__key__"].to_pylist() == ["00000000", "00000003"]
    path.write_bytes(path.read_bytes()[:-30])
    failures = applied(random_vectors, path, tmp_path / "cut", column="x")
    assert "a.parquet cannot be read to its end" in failures[str(path)]


def test_shards_are_of_one_kind_and_apart_from_results(tmp_path: Path, random_vectors: TaskVectors) -> None:
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("{a,b}.tar", {}, "b.tar is no file, expected a shard"),
        ("a.tar", {"key": "id"}, "only tables have other ones"),
        ("one", {}, "expected shards all named .tar, or all .parquet"),
        ("same", {"recursive": True}, "share a name"),
        ("i.png", {"column": "jpg"}, "--column is about shards"),
    )
    for name, options, told in cases:
        for shard in ("a.tar", "one/a.tar", "one/b.parquet", "same/x/a.tar", "same/y/a.tar"):
            _tar(tmp_path / shard, {})
        save(tmp_path / "i.png")
        with pytest.raises(ValueError, match=told):
            applied(random_vectors, tmp_path / name, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="is in the directory for results"):
        applied(random_vectors, tmp_path / "a.tar", tmp_path)


_KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@given(key=_KEYS)
def test_a_key_comes_back_from_a_tar(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    """Whatever a file's name, its sample in a tar has a key of its own, from which the name can be told."""
    if why_unsafe(key):
        return
    path = _tar(tmp_path_factory.getbasetemp() / "key.tar", {f"{quoted(key)}.png": b"1"})
    (sample,) = TarShard(path).samples()
    directory, slash, name = sample.key.rpartition("/")
    assert directory + slash + name.replace("%2E", ".").replace("%25", "%") == key


@given(data=st.binary(max_size=4096))
def test_no_bytes_are_taken_for_a_whole_tar_but_by_their_end(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tar"
    path.write_bytes(data)
    try:
        samples = list(TarShard(path).samples())
    except BrokenShardError:
        pass
    else:
        assert samples == [] or bytes(512) in data
