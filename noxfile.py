"""The tests on every Python and with the oldest and newest of what taskvec needs, each in an environment of its own.

`nox` runs all, `nox -s "newest-3.13"` one, `nox -s oldest -- tests/test_metrics.py` some tests.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"

EXTRAS = "dev,llm,seggpt,cluster"
# One thread in each of the processes that share the tests; bytecode is kept, as many tests start the command.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}
SHARED = ["-n", "auto", "--dist", "loadgroup", "--no-loadscope-reorder"]


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def newest(session: nox.Session) -> None:
    """What pip takes today."""
    session.install(f".[{EXTRAS}]")
    session.run("python", "-m", "pytest", *SHARED, *session.posargs, env=ENVIRONMENT)


@nox.session(python="3.11", venv_backend="uv")
def oldest(session: nox.Session) -> None:
    """The lowest versions that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", f".[{EXTRAS}]")
    session.run("python", "-m", "pytest", *SHARED, *session.posargs, env=ENVIRONMENT)


@nox.session(python="3.11")
def package(session: nox.Session) -> None:
    """The wheel and the archive of sources build; the wheel works where nothing of the checkout is."""
    session.install("build", "twine")
    out = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(out), ".")
    session.run("python", "-m", "twine", "check", "--strict", *map(str, out.glob("taskvec-*")))
    session.install(*map(str, out.glob("*.whl")))
    session.chdir(out)
    session.run("taskvec", "info", "tiny")
