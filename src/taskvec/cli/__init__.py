"""The command: parses, calls, prints. Everything it does is one call of the Python API away.

Nothing here imports PyTorch before signals are listened to. ``commands`` has all commands by name; a command's module
imports what its signature says, and the command itself what it works with, so that help, and errors of usage, take no
second. ``scores``, ``studies`` and ``texts`` are what some commands work with.
"""

import os
import sys
import warnings
from contextlib import suppress
from io import TextIOWrapper
from itertools import takewhile

from taskvec.cli.signals import BROKEN_PIPE, INTERRUPTED, WORDS, listening

__all__ = ["main"]

UNEXPECTED = 70  # the exit status of what is an error of ours, EX_SOFTWARE of sysexits.h
TRACEBACK = "--traceback"
COMPLETING = {"--install-completion", "--show-completion", "--help"}  # options that are about completion in a shell
_EXPECTED = (ValueError, OSError, OverflowError, NotImplementedError, MemoryError)


# options that had another name in the version before
FORMER = {"--split": "--fold", "--held-out": "--validation", "--and-root": "--root"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; whatever goes wrong is one sentence on standard error and a non-zero status.

    With --traceback among the arguments, or TASKVEC_TRACEBACK=1 in the environment, errors are raised instead.
    """
    given = sys.argv[1:] if arguments is None else arguments
    raises = TRACEBACK in given or os.environ.get("TASKVEC_TRACEBACK", "0") not in ("", "0")
    with listening() as signals:
        from taskvec.cli.commands import application
        from taskvec.cli.terminal import as_told

        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal may know fewer characters than the tables have
        formatted, warnings.formatwarning = warnings.formatwarning, _warning
        warnings.filterwarnings("ignore", module="PIL")  # of damage that it reads past; what it cannot read is an error
        try:
            with as_told():
                words = _renamed(given) or ["--help"]
                app = application(completing=_completing(words))
                status = app(words, standalone_mode=False, prog_name="taskvec", obj=signals) or 0
                _flush()
        except KeyboardInterrupt:
            status = INTERRUPTED
        except SystemExit as end:
            status = BROKEN_PIPE if isinstance(end.__context__, BrokenPipeError) else int(end.code or 0)
        except BrokenPipeError:  # whoever read the output has seen enough
            status = BROKEN_PIPE
        except Exception as error:
            if signals.status is not None:  # which it came from
                status = signals.status
            elif raises and not hasattr(error, "format_message"):
                raise
            else:
                status = _complain(*_told(error))
        warnings.formatwarning = formatted
        if status == INTERRUPTED or signals.status is not None:
            status = signals.status or INTERRUPTED
            _complain(WORDS[status], status)
        if arguments is None:  # the process is about to end, and what it had to do is done
            signals.at_once = True
            _close()
        return status


def _warning(message: Warning | str, *place: object, **more: object) -> str:
    """A line, without the place in the code that it comes from."""
    return f"taskvec: {' '.join(str(message).split())}\n"


def _renamed(given: list[str]) -> list[str]:
    """The arguments with the present names of options, of which a hint says what they are."""
    words = []
    for word in given:
        name, equals, value = word.partition("=")
        if name in FORMER:
            _complain(f"{name} is called {FORMER[name]} now", 0)
        if word != TRACEBACK:
            words.append(f"{FORMER.get(name, name)}{equals}{value}")
    return words


def _completing(words: list[str]) -> bool:
    """Whether a shell asks for completion, or the options of no command in particular may be about it."""
    options = takewhile(lambda word: word.startswith("-"), words)
    return "_TASKVEC_COMPLETE" in os.environ or not COMPLETING.isdisjoint(options)


def _told(error: Exception) -> tuple[str, int]:
    """An error as a sentence, and the status to end with."""
    from typer import Abort

    # typer's errors of usage have no public class that all its versions share, nor has what it makes of an EOFError
    if hasattr(error, "format_message"):
        return error.format_message(), 2  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(error, Abort) and isinstance(error.__cause__, EOFError):
        error = error.__cause__
    if isinstance(error, RecursionError):
        return "what was given is nested too deeply", 1
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}", 1
    if isinstance(error, MemoryError | RuntimeError) and "torch" in sys.modules:
        from taskvec.memory import ADVICE, ShortageError, is_shortage, shortage

        if is_shortage(error) and not isinstance(error, ShortageError):
            return f"{shortage(error)}: {ADVICE}", 1
    if isinstance(error, _EXPECTED):
        return str(error) or type(error).__name__, 1
    return f"unexpected: {type(error).__name__}: {error}; run it again with {TRACEBACK} and report it", UNEXPECTED


def _complain(message: str, status: int) -> int:
    from taskvec.files import escaped

    with suppress(OSError):  # nobody reads it
        print(f"taskvec: {escaped(' '.join(message.split()))}", file=sys.stderr, flush=True)
    return status


def _flush() -> None:
    """Write what is left of standard output, of which the system's error says nothing."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(f"standard output cannot be written: {error.strerror}") from error


def _close() -> None:
    """What cannot be written is let go, of which Python would say so when it ends."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
