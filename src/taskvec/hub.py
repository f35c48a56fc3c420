"""The Hugging Face hub: models and task vectors as repositories of it, asked for only where they are named so."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

PREFIX = "hub:"  # before OWNER/NAME, in commands and in Python
_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# what the library's client of HTTP raises without a connection: neither OSError nor ValueError in some versions
_TRANSPORT: type[Exception] = HfHubHTTPError.__bases__[0]


def is_named(name: str | Path) -> bool:
    """Whether a name is explicitly one of the hub: hub:OWNER/NAME."""
    return str(name).startswith(PREFIX)


def repository(name: str | Path) -> str:
    """The repository of ``OWNER/NAME`` or ``hub:OWNER/NAME``; ValueError where it is neither."""
    found = str(name).removeprefix(PREFIX)
    if _NAME.fullmatch(found) and not found.startswith("."):
        return found
    if is_named(name):
        raise ValueError(f"{name} is no repository of the Hugging Face hub: expected {PREFIX}OWNER/NAME")
    raise ValueError(f"there is no directory {name}; a repository of the Hugging Face hub is {PREFIX}OWNER/NAME")


def located(name: str | Path) -> Path:
    """``name`` as a path; hub:OWNER/NAME is downloaded first, as ``download`` does."""
    return download(name) if is_named(name) else Path(name)


def download(name: str | Path, *, revision: str | None = None, local_files_only: bool = False) -> Path:
    """The directory that a repository was downloaded to, in the hub's cache; ValueError where that failed."""
    wanted = repository(name)
    with asked(wanted, "" if is_named(name) else f"there is no directory {name}, and "):
        return Path(snapshot_download(wanted, revision=revision, local_files_only=local_files_only))


def create(repository: str, *, private: bool) -> str:
    """Make a repository where there is none yet, the user's own without an owner in its name. Gives its full name.

    Raises ValueError where that is refused or there is no connection, as does ``upload``.
    """
    with asked(repository):
        return HfApi().create_repo(repository, private=private, exist_ok=True).repo_id


def upload(directory: Path, repository: str) -> None:
    """Upload a directory's files to a repository, by its full name."""
    with asked(repository):
        HfApi().upload_folder(repo_id=repository, folder_path=directory)


@contextmanager
def asked(name: str, before: str = "") -> Iterator[None]:
    """Turns what goes wrong with the hub inside the block into a ValueError of one sentence that begins ``before``."""
    try:
        yield
    except GatedRepoError as error:
        raise ValueError(f"{before}the repository {name} of the hub is gated: ask for access on its page") from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{before}the repository {name} of the hub has no such revision") from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{before}the Hugging Face hub has no repository {name} that you may read (`hf auth login` is for private "
            "ones)"
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        advice = ": log in with `hf auth login`" if status in (401, 403) else ""
        raise ValueError(f"{before}the Hugging Face hub refused {name}, status {status}{advice}") from error
    except (LocalEntryNotFoundError, _TRANSPORT) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{before}the Hugging Face hub cannot be reached for {name}: {cause[:200]}") from error
