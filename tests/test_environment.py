import pytest

from taskvec import environment


def test_what_a_measurement_is_told_by() -> None:
    machine = environment.machine()
    assert machine["processor"]
    assert isinstance(machine["cores"], int)
    assert machine["cores"] >= 1
    assert {"python", "taskvec", "torch", "numpy"} == environment.versions().keys()


def test_tests_of_a_file_are_run_by_one_process(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("loadgroup", False):
        pytest.skip("not in one of several processes")
    assert request.node.nodeid.endswith("@test_environment.py")  # which pytest-xdist cannot say with every pytest
