"""A small drawn VOCdevkit with the lists of Pascal-5i."""

from pathlib import Path

import numpy as np
from PIL import Image

from taskvec.data.pascal import FOLDS


def lines_of(first: int, classes: range, each: int = 2) -> list[str]:
    """Some images of each class, numbered from ``first``."""
    return [f"2007_{first + each * (c - 1) + i:06}__{c:02}" for c in classes for i in range(each)]


def write_list(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\r\n".join(lines) + "\r\n")


def write_devkit(place: Path, each: int = 2) -> Path:
    """VOCdevkit with palette masks: as many training and validation images of each class, lists in the few-shot way."""
    base = place / "VOCdevkit" / "VOC2012"
    for directory in ("JPEGImages", "SegmentationClass"):
        (base / directory).mkdir(parents=True)
    for first in (0, 100):
        for line in lines_of(first, range(1, 21), each):
            name, class_index = line.split("__")
            labels = np.zeros((20, 30), np.uint8)
            labels[5:15, 10:25] = int(class_index)
            labels[4, 10:25] = 255
            mask = Image.fromarray(labels)
            mask.putpalette(bytes(range(256)) * 3)
            mask.save(base / "SegmentationClass" / f"{name}.png")
            image = np.repeat(labels[..., None] * 8, 3, -1)
            image[0] = int(name[-3:])  # no two images are the same
            Image.fromarray(image).save(base / "JPEGImages" / f"{name}.jpg")
    for fold in range(FOLDS):
        inside = range(5 * fold + 1, 5 * fold + 6)
        others = [c for c in range(1, 21) if c not in inside]
        write_list(base / "splits" / "val" / f"fold{fold}.txt", lines_of(100, inside, each))
        lines = [line for c in others for line in lines_of(0, range(c, c + 1), each)]
        write_list(base / "splits" / "trn" / f"fold{fold}.txt", lines)
    return place / "VOCdevkit"
