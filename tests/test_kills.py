"""Every long command, ended in the middle and given again, ends as it would have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def in_a_process_of_its_own(script: str, *options: str) -> list[dict[str, object]]:
    """What a script beside this one prints as JSON; it forks the process that it is run in."""
    places = os.pathsep.join((str(HERE.parent / "src"), str(HERE)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": places}
    done = subprocess.run(
        [sys.executable, HERE / script, "--json", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it forks, and reads /proc")
def test_the_same_command_again_gives_the_same_result() -> None:
    """24 by SIGKILL, half of them just before a change of files, 6 by signals that are heard or a full disk."""
    kinds = ["SIGKILL", "SIGKILL at a change"] * 12 + ["SIGTERM", "SIGINT", "disk full"] * 2
    ends = in_a_process_of_its_own("kills.py", "--kills", "30", "--kinds", *kinds)
    assert not [each for each in ends if not each["same"]]
    killed = [each for each in ends if each["ended"] and str(each["how"]).startswith("SIGKILL")]
    assert len(killed) >= 20  # the others had done their work before
    assert len({str(each["job"]).split(",")[0] for each in ends}) == 7
    assert len([each for each in ends if each["ended"]]) > len(killed)
