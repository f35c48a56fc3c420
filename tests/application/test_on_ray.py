"""The same on a cluster of two nodes on this machine, one of which dies in the middle."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from applied import applied
from taskvec.vectors import TaskVectors

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from ray.cluster_utils import Cluster  # noqa: E402

from taskvec.application.on_ray import OnRay  # noqa: E402


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 << 20})
    nodes.add_node(num_cpus=2, object_store_memory=80 << 20)
    ray.init(nodes.address, log_to_driver=False)
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


def _loaded(vectors: TaskVectors, device: torch.device) -> TaskVectors:
    return vectors


def test_a_node_that_dies_loses_nothing_and_doubles_nothing(
    cluster: Cluster, random_vectors: TaskVectors, tmp_path: Path
) -> None:
    """The bytes of a run here: a folder's results, and shards with their other members; what fails is told once."""
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(images / ("more" if number % 2 else ".") / f"{number:02}.png")
    (images / "12.png").write_bytes(b"no image")
    here = applied(random_vectors, images, tmp_path / "here", "tar", recursive=True, shard_size=2)
    assert list(here) == [str(images / "12.png")]

    with OnRay(partial(_loaded, random_vectors), "cpu") as engine:
        out, victim = tmp_path / "there", sorted(cluster.worker_nodes, key=str)[0]

        def kill(number: int) -> None:
            if victim in cluster.worker_nodes:
                cluster.remove_node(victim, allow_graceful=False)
                cluster.add_node(num_cpus=2, object_store_memory=80 << 20)

        options = {"engine": engine, "recursive": True, "shard_size": 2}
        assert applied(random_vectors, images, out, "tar", on_done=kill, **options) == here
        assert victim not in cluster.worker_nodes
        expected = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == expected
        assert applied(random_vectors, images, out, "tar", **options) == here  # all there: told again
        (out / "images-000003.tar").unlink()
        assert applied(random_vectors, images, out, "tar", **options) == here
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == expected
