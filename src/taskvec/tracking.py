"""Where a search can be watched beside its own log: TensorBoard."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvec.extras import install

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Takes a search's records, as ``on_step`` of ``taskvec.find``, and writes their numbers for TensorBoard.

    ``directory`` is that of one run: `tensorboard --logdir` takes it, or one that has several runs in it. A search that
    goes on after a stop replaces what the stopped one had written of the same steps. Raises ValueError where the
    package tensorboard is not installed.
    """

    def __init__(self, directory: str | Path):
        try:
            import tensorboard  # noqa: F401, PLC0415 (an extra)
        except ImportError as error:
            raise ValueError(f"TensorBoard takes tensorboard: {install('tensorboard')}") from error
        self._directory = str(directory)
        self._writer: SummaryWriter | None = None

    def __call__(self, record: dict[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 which takes a second to import

        step = record["step"]
        if self._writer is None:
            self._writer = SummaryWriter(self._directory, purge_step=step)
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(f"search/{name}", value, step)
        self._writer.flush()  # whenever the search is stopped, and for who is watching
