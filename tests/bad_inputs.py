"""Broken inputs, and what the command says of each: one sentence, a status that is not zero, nothing half-written.

    .venv/bin/python tests/bad_inputs.py

prints the table of docs/real-images.md.
"""

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from taskvec.cli import main
from taskvec.data.folder import Folder
from taskvec.data.pascal import FOLDS
from taskvec.data.scenes import Scenes
from taskvec.models import load_model
from taskvec.vectors import TaskVectors

VOC_LINES = [f"2007_{index:06}__{1 if index < 12 else 6:02}\n" for index in range(24)]  # of folds 0 and 1
OUT = "out"  # what every command writes to; it must not be there afterwards


def make_workspace(directory: Path) -> None:
    """Small inputs that are in order: images/, pairs/, voc/, model/, vectors/."""
    scenes = Scenes("test").load(np.arange(24), 32)
    assert scenes.masks is not None
    for name in ("images", "pairs/input", "pairs/output", "voc/JPEGImages", "voc/SegmentationClass"):
        (directory / name).mkdir(parents=True)
    for index, (image, mask) in enumerate(zip(scenes.images, scenes.masks, strict=True)):
        if index < 3:
            Image.fromarray(image).save(directory / "images" / f"{index}.png")
        if index < 12:
            Image.fromarray(image).save(directory / "pairs" / "input" / f"{index:02}.png")
            Image.fromarray(mask).save(directory / "pairs" / "output" / f"{index:02}.png")
        name = f"2007_{index:06}"
        Image.fromarray(image).save(directory / "voc" / "JPEGImages" / f"{name}.jpg")
        labels = np.where(mask > 0, np.uint8(1 if index < 12 else 6), np.uint8(0))
        Image.fromarray(labels).save(directory / "voc" / "SegmentationClass" / f"{name}.png")
    for fold in range(FOLDS):
        for kind in ("trn", "val"):
            path = directory / "voc" / "splits" / kind / f"fold{fold}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(VOC_LINES[12 * fold : 12 * (fold + 1)]))
    model = load_model("tiny")
    model.write(directory / "model", torch.float16)
    sites = model.sites("quadrant")
    means = {"encoder": torch.zeros(6, 5, 65, 32), "decoder": torch.zeros(4, 5, 65, 32)}
    mask = sites.mask([0, 3])
    TaskVectors.select(model, sites, mask, means, task="lungs", metric="iou", found=None).save_pretrained(
        directory / "vectors"
    )


@dataclass(frozen=True)
class Case:
    """A breakage of the workspace, the command that meets it, its status, and what its one sentence must hold."""

    what: str
    breaks: Callable[[Path], None]
    arguments: str  # in the workspace, split at spaces
    says: str
    status: int = 1


def _nothing(_: Path) -> None:
    pass


def _write(name: str, content: bytes | str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def _half(name: str) -> Callable[[Path], None]:
    def cut(directory: Path) -> None:
        path = directory / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return cut


def _remove(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


def _image(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda directory: Image.fromarray(array).save(directory / name)


def _palette_photograph(directory: Path) -> None:
    """A photograph with a palette where a mask is expected: its indices are no classes."""
    path = directory / "voc" / "SegmentationClass" / "2007_000000.png"
    Image.fromarray(Scenes("test").load(np.array([0]), 32).images[0]).quantize(64).save(path)


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(directory: Path) -> None:
        path = directory / "model" / "model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path)

    return rewrite


def _other_model(directory: Path) -> None:
    _weights(lambda state: state["mask_token"].add_(1))(directory)


def _unwritable(directory: Path) -> None:
    (directory / "locked").write_text("a file, no directory")


def _unreadable(directory: Path) -> None:
    """A link to itself: unreadable for every user, root too."""
    path = directory / "images" / "1.png"
    path.unlink()
    path.symlink_to(path.name)


def _moving(directory: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    frames[0].save(directory / "images" / "moving.gif", save_all=True, append_images=frames[1:])


def _few_pairs(directory: Path) -> None:
    for name in ("input", "output"):
        for index in range(6):
            (directory / "pairs" / name / f"{index:02}.png").unlink()


def _only_one(directory: Path) -> None:
    (directory / "voc" / "splits" / "val" / "fold0.txt").write_text("2007_000000__01\n")


def _foreign_result(directory: Path) -> None:
    """A result's name is taken; put beside the output, which must stay as it is."""
    (directory / "results").mkdir()
    Image.new("RGB", (4, 4)).save(directory / "results" / "0.png")


def _half_of_the_kept_aside(directory: Path) -> None:
    name = Folder(directory / "pairs", "test").names(np.arange(1))[0]
    _half(f"pairs/input/{name}")(directory)


def _twelve_bits(directory: Path) -> None:
    Image.fromarray(np.array([[0, 200, 4000]], np.uint16)).save(directory / "images" / "scan.png")


def _classes(directory: Path) -> None:
    for path in (directory / "pairs" / "output").iterdir():
        Image.fromarray(np.arange(32 * 32, dtype=np.uint8).reshape(32, 32) // 64 % 4).save(path)


def _directory_beside(directory: Path) -> None:
    (directory / "beside" / "r.examples.png").mkdir(parents=True)


def _damaged_vectors(directory: Path) -> None:
    path = directory / "vectors" / "config.json"
    config = json.loads(path.read_text())
    config["sites"][0]["layer"] = 99
    path.write_text(json.dumps(config))


APPLY = f"apply vectors images --out {OUT}"
PASCAL = f"evaluate --data pascal --root voc --fold 0 --task segmentation --method query_only --json {OUT}/r.json"
FOLDER = f"evaluate --data folder --root pairs --method query_only --json {OUT}/r.json"
FIND = f"find --root pairs --out {OUT}"
MODEL = f"evaluate --model model --task identity --method query_only --pairs 2 --json {OUT}/r.json"

CASES = [
    Case("a JPEG cut in half", _half("voc/JPEGImages/2007_000003.jpg"), PASCAL, "2007_000003.jpg cannot be read as an"),
    Case("a file of no bytes", _write("images/1.png", b""), APPLY, "1.png cannot be read as an image: its content is"),
    Case(
        "HTML that is called PNG", _write("images/1.png", "<html></html>"), APPLY, "its content is of no known format"
    ),
    Case("an unreadable file", _unreadable, APPLY, "1.png cannot be read: Too many levels"),
    Case(
        "a video among the images",
        _write("images/film.mp4", b"0"),
        f"{APPLY} --strict",
        "film.mp4 is not read: it is a video: save its frames",
    ),
    Case(
        "a text among the images",
        _write("images/notes.txt", b"0"),
        f"{APPLY} --strict",
        "notes.txt is not an image: expected an ending",
    ),
    Case("a moving GIF", _moving, APPLY, "moving.gif cannot be read as an image: it holds 3 images, expected one"),
    Case(
        "levels that are no number",
        _image("images/levels.tiff", np.full((8, 8), np.nan, np.float32)),
        APPLY,
        "the images hold no finite level: expected numbers",
    ),
    Case("two images of one name", _image("images/1.bmp", np.zeros((4, 4), np.uint8)), APPLY, "1.png share a name"),
    Case(
        "a result's name is taken",
        _foreign_result,
        "apply vectors images --out results",
        "exists and is not what these vec",
    ),
    Case("no such directory", _nothing, f"apply vectors nowhere --out {OUT}", "nowhere does not exist: expected an im"),
    Case(
        "results among the images",
        _nothing,
        "apply vectors images --out images",
        "images is in the directory of the images",
    ),
    Case("a photograph as class mask", _palette_photograph, PASCAL, "2007_000000.png holds class"),
    Case(
        "a mask of another size",
        _image("voc/SegmentationClass/2007_000002.png", np.ones((9, 32), np.uint8)),
        PASCAL,
        "2007_000002.png is of 32 x 9 pixels, expected 32 x 32 as its image",
    ),
    Case(
        "a mask in colour",
        _image("voc/SegmentationClass/2007_000002.png", np.ones((32, 32, 3), np.uint8)),
        PASCAL,
        "has mode RGB, expected a byte a pixel, the class",
    ),
    Case(
        "a mask without its class",
        _image("voc/SegmentationClass/2007_000002.png", np.zeros((32, 32), np.uint8)),
        PASCAL,
        "has no pixel of class 01 (aeroplane)",
    ),
    Case(
        "a missing mask",
        _remove("voc/SegmentationClass/2007_000007.png"),
        PASCAL,
        "2007_000007.png is missing (inc",
    ),
    Case(
        "an unknown class in a list",
        _write("voc/splits/val/fold0.txt", "2007_000000__77\n"),
        PASCAL,
        "fold0.txt, line 1",
    ),
    Case("a list that is missing", _remove("voc/splits/val/fold0.txt"), PASCAL, "fold0.txt is not a readable list"),
    Case("an empty list", _write("voc/splits/val/fold0.txt", ""), PASCAL, "no example of split test, fold 0 is left"),
    Case("a class of one example", _only_one, PASCAL, "has two examples here, which a prompt"),
    Case(
        "the wrong directory", _nothing, PASCAL.replace("voc", "images"), "images holds no Pascal VOC: expected JPEGIm"
    ),
    Case("no directory named", _nothing, PASCAL.replace("--root voc ", ""), "pascal needs root (--root)"),
    Case("an unknown fold", _nothing, PASCAL.replace("--fold 0", "--fold 4"), "pascal has no fold 4: expected 0 to 3"),
    Case("an input without output", _remove("pairs/output/04.png"), FOLDER, "04.png has no partner of the same name"),
    Case("fewer than ten pairs", _few_pairs, FIND, "pairs/input has 6 images, expected 10 or more"),
    Case(
        "a directory of directories",
        _nothing,
        FIND.replace("pairs", "voc"),
        "voc has no images, but JPEGImages/, SegmentationClass/, splits/: did you mean --input JPEGImages --output",
    ),
    Case("a corrupt output", _half("pairs/output/04.png"), FIND, "04.png cannot be read as an image"),
    Case("a corrupt input kept aside", _half_of_the_kept_aside, FIND, "cannot be read as an image"),
    Case("a range of no levels", _twelve_bits, f"{APPLY} --levels 5 5", "the levels 5 to 5 are no range: expected LO"),
    Case(
        "classes as outputs",
        _classes,
        FIND,
        "levels 0..3 are classes: which is the object? --object N (0, 1, 2, 3 occur)",
    ),
    Case(
        "a fold that is not said",
        _nothing,
        PASCAL.replace("--fold 0", "").replace("query_only", "vectors:v{fold}"),
        "which fold {fold} stands for is not said, expected --fold",
    ),
    Case("a directory beside the result", _directory_beside, PASCAL.replace(f"{OUT}/r", "beside/r"), "is a directory"),
    Case("a name of another task", _nothing, f"{FOLDER} --task paris", "there is no task 'paris': expected one of"),
    Case(
        "a metric for a built-in task", _nothing, f"{FOLDER} --task identity --metric mse", "only a folder's own task"
    ),
    Case("a task without masks", _nothing, f"{FIND} --task segmentation", "the images have no masks of objects, which"),
    Case(
        "a metric that is none", _nothing, f"{FOLDER} --metric psnr", "there is no metric 'psnr': expected one of iou,"
    ),
    Case(
        "weights that are not finite",
        _weights(lambda s: s["mask_token"].fill_(torch.nan)),
        MODEL,
        "mask_token holds va",
    ),
    Case("a weight that is missing", _weights(lambda s: s.__delitem__("mask_token")), MODEL, "mask_token is missing"),
    Case("weights cut in half", _half("model/model.safetensors"), MODEL, "model.safetensors is not a safetensors file"),
    Case("no JSON as configuration", _write("model/config.json", "canvas"), MODEL, "config.json is not JSON"),
    Case(
        "vectors of another model",
        _other_model,
        f"{APPLY} --model model",
        "these task vectors are of the model tiny, not of this one: pass --model tiny",
    ),
    Case("vectors that were edited", _damaged_vectors, APPLY, "config.json is damaged or was changed: its checksum is"),
    Case("vectors cut in half", _half("vectors/vectors.safetensors"), APPLY, "vectors.safetensors"),
    Case("an unwritable output", _unwritable, "apply vectors images --out locked/out", "cannot be written: "),
    Case(
        "a file as output directory",
        _unwritable,
        "apply vectors images --out locked",
        "is a file, expected a directory",
    ),
    Case(
        "a pickle as checkpoint",
        _write("evil.pth", b"cos\nsystem\n(S'touch out'\ntR."),
        f"convert --mae evil.pth --out {OUT}",
        "evil.pth",
    ),
    Case("a value that is no number", _nothing, PASCAL + " --pairs many", "'--pairs'", status=2),
]


def run(case: Case, workspace: Path, directory: Path) -> tuple[int, list[str]]:
    """Break a copy of the workspace and run the command in it: its status and what it says on standard error."""
    shutil.copytree(workspace, directory)
    case.breaks(directory)
    errors = io.StringIO()
    before = Path.cwd()
    os.chdir(directory)
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            status = main(case.arguments.split())
    finally:
        os.chdir(before)
    return status, [line for line in errors.getvalue().splitlines() if line.startswith("taskvec: ")]


def table() -> None:
    """Print every case with the sentence it gets."""
    print("| input | status | what it says |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        make_workspace(Path(name) / "workspace")
        for index, case in enumerate(CASES):
            status, lines = run(case, Path(name) / "workspace", Path(name) / str(index))
            said = " ".join(lines).removeprefix("taskvec: ").replace(f"{name}/{index}/", "").replace("|", "\\|")
            print(f"| {case.what} | {status} | {said} |", flush=True)


if __name__ == "__main__":
    table()
