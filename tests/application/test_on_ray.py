"""The same on a cluster of two nodes on this machine, one of which dies in the middle."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from applied import applied
from taskvec.vectors import TaskVectors

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from ray.cluster_utils import Cluster  # noqa: E402

from taskvec.application.on_ray import OnRay  # noqa: E402
from taskvec.interrupts import own_signals  # noqa: E402

MEMORY = 80 << 20  # bytes, the least that Ray takes for objects
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    head = {"num_cpus": 1, "object_store_memory": MEMORY, "_system_config": QUICK}
    with own_signals():
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.add_node(num_cpus=1, object_store_memory=MEMORY)
        ray.init(nodes.address, log_to_driver=False)
        try:
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()


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

    with OnRay(lambda device: random_vectors, "cpu") as engine:
        out, victim = tmp_path / "there", sorted(cluster.worker_nodes, key=str)[0]

        def kill(number: int) -> None:
            if victim in cluster.worker_nodes:
                cluster.remove_node(victim, allow_graceful=False)

        there = partial(applied, random_vectors, images, out, "tar", engine=engine, recursive=True, shard_size=2)
        assert there(on_done=kill) == here
        assert victim not in cluster.worker_nodes
        expected = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == expected
        (out / "images-000003.tar").unlink()
        assert there() == here
        assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == expected
