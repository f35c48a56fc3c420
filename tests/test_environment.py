from taskvec import environment


def test_what_a_measurement_is_told_by() -> None:
    machine = environment.machine()
    assert machine["processor"]
    assert isinstance(machine["cores"], int)
    assert machine["cores"] >= 1
    assert {"python", "taskvec", "torch", "numpy"} == environment.versions().keys()
