import signal
import sys
import time
from types import SimpleNamespace

import pytest

from taskvec.cli.signals import TERMINATED, listening


def test_an_interrupt_that_a_library_let_go_of_comes_again() -> None:
    before = sys.unraisablehook
    with listening() as signals:
        signals.at_once = False
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        sys.unraisablehook(SimpleNamespace(exc_type=KeyboardInterrupt))  # pyright: ignore[reportArgumentType]
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
        assert signals.status == TERMINATED
    assert sys.unraisablehook is before
