"""Models as directories that one person writes and another reads, here or on the Hugging Face hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from taskvec import hub
from taskvec.files import write_text

CARD = "README.md"


class Shared:
    """What every model has of it: ``write`` and ``load`` are its own, and of directories of this machine alone."""

    name: str | None = None  # of a model that ships with the package or is on the hub; a user's directory stays private
    revision: str | None = None  # the commit of one that is on the hub
    licence: str | None = None  # as the model's card states it, where there is one

    @classmethod
    def load(cls, directory: Path, /) -> Self:
        """Read a model directory; ValueError, which names the file, where it holds no such model."""
        raise NotImplementedError(f"{cls.__name__} is not read from a directory")

    def write(self, directory: Path, /) -> None:
        """Write the directory that ``load`` reads; every file appears whole."""
        raise NotImplementedError(f"{type(self).__name__} is not written to a directory")

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """``load`` for a directory; any other name is a repository of the Hugging Face hub, which is downloaded.

        ``hub:OWNER/NAME`` is always the repository. ``revision`` is a branch, tag or commit, ``token`` by default the
        one of `hf auth login`; with ``local_files_only`` nothing but the hub's cache is asked. Raises ValueError where
        there is neither, or no connection.
        """
        if Path(name).is_dir():
            return cls.load(Path(name))
        place = hub.download(name, revision=revision, token=token, local_files_only=local_files_only)
        model = cls.load(place)
        model.name, model.revision = hub.named(hub.repository(name)), hub.commit_of(place)
        return model

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the directory that ``from_pretrained`` reads, with a card where there is none yet."""
        self.write(Path(directory))
        if not (Path(directory) / CARD).exists():
            write_text(Path(directory) / CARD, self._card("DIRECTORY"))

    def push_to_hub(
        self,
        repository: str,
        *,
        token: str | None = None,
        revision: str | None = None,
        commit_message: str | None = None,
        private: bool = False,
        licence: str | None = None,
    ) -> str:
        """Upload to the Hugging Face hub, with a card; without an owner, to the user's own repository of this name.

        One commit to the branch ``revision``, which is made where there is none. ``licence`` is what the card states,
        by default the one that the model's own card has. Returns the full name. Raises ValueError where the hub refuses
        it or there is no connection, and where a ``private`` repository was asked for and it is public already.
        """
        with TemporaryDirectory() as directory:
            self.write(Path(directory))
            created = hub.create(repository, private=private, token=token)
            write_text(Path(directory) / CARD, self._card(hub.named(created, revision), licence))
            message = commit_message or "Upload a model with taskvec"
            hub.upload(Path(directory), created, message=message, revision=revision, token=token)
        return created

    def _card(self, name: str, licence: str | None = None) -> str:
        from taskvec.card import model_card  # noqa: PLC0415 which is about models

        model: Any = self
        return model_card(model, name, licence or self.licence)
