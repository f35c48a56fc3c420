"""`taskvec apply` on very many images: images a second and peak memory, against another checkout of taskvec.

    git worktree add ../before e157d6f
    .venv/bin/python benchmarks/applying.py --before ../before --photographs VOCdevkit/VOC2012/JPEGImages

The same command is run with the source of both, each on its own, taking turns: on so many drawn scenes of 64 x 64
pixels (PNG), on the photographs of a directory, up to as many, and on 100 scenes for the memory. Times are of whole
commands, PyTorch's import among them; where others are at work on the machine, the time of processors is the safer one.
Memory is the largest sum of the proportional set sizes (PSS) of all processes of
the command, read every tenth of a second, so that what processes share counts once; Linux alone tells it. In the end,
results of both are compared byte by byte.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

import taskvec
from taskvec import environment

HERE = Path(taskvec.__file__).parents[1]


@dataclass(frozen=True)
class Run:
    """One command: its seconds, those of processors that all its processes took, and, in MiB, its peak."""

    seconds: float
    processors: float
    peak: float
    processes: int


def processes_of(process: int) -> Iterator[int]:
    """A process and all that it started."""
    yield process
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from processes_of(int(child))


def proportional(process: int) -> int:
    """KiB of a process, of pages that n processes share an n-th."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def applied(source: Path, vectors: Path, inputs: Path, out: Path, *options: str) -> Run:
    """`taskvec apply` of a checkout."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "taskvec", "apply", str(vectors), str(inputs), "--out", str(out), *options]
    started = time.perf_counter()
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(source)}, stderr=subprocess.PIPE)  # noqa: S603
    peak = most = 0
    while (ended := os.wait4(running.pid, os.WNOHANG))[0] == 0:
        every = list(processes_of(running.pid))
        peak, most = max(peak, sum(map(proportional, every))), max(most, len(every))
        time.sleep(0.1)
    seconds = time.perf_counter() - started
    _, status, used = ended
    running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise RuntimeError(running.stderr.read().decode() if running.stderr else "")
    return Run(seconds, used.ru_utime + used.ru_stime, peak / 1024, most)


def draw(place: Path, number: int) -> None:
    """Scenes as PNG files."""
    place.mkdir()
    data = taskvec.load_data("scenes", split="test")
    for start in range(0, number, 500):
        rows = np.arange(start, min(start + 500, number))
        for row, image in zip(rows, data.load(rows, size=64).images, strict=True):
            Image.fromarray(image).save(place / f"{row:06}.png")


def differing(first: Path, second: Path) -> tuple[int, int]:
    """Files of either directory, and how many are not the same in both."""
    names = {path.name for place in (first, second) for path in place.iterdir()}
    same = [
        (first / name).is_file()
        and (second / name).is_file()
        and (first / name).read_bytes() == (second / name).read_bytes()
        for name in names
    ]
    return len(names), same.count(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--vectors", type=Path, help="task vectors of segmentation, found if not given")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory(dir=".") as made:
        work = Path(made).absolute()
        vectors = options.vectors or work / "vectors"
        if options.vectors is None:
            model, train = taskvec.load_model("tiny"), taskvec.load_data("scenes", split="train")
            taskvec.find(model, train, task="segmentation", progress=False).save_pretrained(vectors)
        draw(work / "scenes", options.images)
        (work / "hundred").mkdir()
        for path in sorted((work / "scenes").iterdir())[:100]:
            os.link(path, work / "hundred" / path.name)
        cases = {"100 scenes": work / "hundred", f"{options.images:,} scenes": work / "scenes"}
        if options.photographs is not None:
            (work / "photographs").mkdir()
            chosen = sorted(options.photographs.absolute().glob("*.jpg"))[: options.images]
            for path in chosen:
                (work / "photographs" / path.name).symlink_to(path)
            cases[f"{len(chosen):,} photographs"] = work / "photographs"
        sources = {"before": options.before.absolute() / "src", "now": HERE}
        results = []
        print("| images | build | images/s | times as many | processor ms an image | peak, MiB | processes | differ |")
        print("|---|---|---|---|---|---|---|---|")
        for case, inputs in cases.items():
            runs: dict[str, list[Run]] = {name: [] for name in sources}
            for _ in range(options.repeats):
                for name, source in sources.items():
                    runs[name].append(applied(source, vectors, inputs, work / name))
            number, other = differing(work / "before", work / "now")
            ratio = statistics.median(b.seconds / n.seconds for b, n in zip(runs["before"], runs["now"], strict=True))
            for name, some in runs.items():
                speed = number / statistics.median(run.seconds for run in some)
                peak = max(run.peak for run in some)
                times = f"{ratio:.2f}" if name == "now" else "1"
                cost = f"{1000 * statistics.median(run.processors for run in some) / number:.1f}"
                row = (
                    case,
                    name,
                    f"{speed:.0f}",
                    times,
                    cost,
                    f"{peak:.0f}",
                    some[0].processes,
                    f"{other} of {number}",
                )
                print(f"| {' | '.join(map(str, row))} |", flush=True)
            results.append(
                {"case": case, "ratio": ratio, "files": number, "differing": other}
                | {name: [asdict(run) for run in some] for name, some in runs.items()}
            )
        if options.out is not None:
            told = {"machine": environment.machine(), "versions": environment.versions(), "results": results}
            options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
