"""The Hugging Face hub: models and task vectors as repositories of it, asked for only where they are named so."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from taskvec.names import HUB

PREFIX = HUB  # in commands and in Python
_NAME = re.compile(r"(?P<repository>(?!\.)[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@\s]+))?", re.ASCII)
_NEW = re.compile(r"(?!\.)[\w.-]+(/[\w.-]+)?", re.ASCII)  # to push to, one's own without an owner
_COMMIT = re.compile(r"[0-9a-f]{40}")
# what the library's client of HTTP raises without a connection: neither OSError nor ValueError in some versions
_TRANSPORT: type[Exception] = HfHubHTTPError.__bases__[0]


def is_named(name: str | Path) -> bool:
    """Whether a name is explicitly one of the hub: hub:OWNER/NAME."""
    return str(name).startswith(PREFIX)


def named(repository: str, revision: str | None = None) -> str:
    """The name of a repository, ``hub:OWNER/NAME@REVISION``, or without a revision that of its newest state."""
    return f"{PREFIX}{repository}" + ("" if revision is None else f"@{revision}")


def repository(name: str | Path) -> str:
    """The repository of ``OWNER/NAME`` or ``hub:OWNER/NAME``; ValueError where it is neither."""
    return _parsed(name)["repository"]


def revision_in(name: str | Path) -> str | None:
    """The revision in hub:OWNER/NAME@REVISION, None where there is none; ValueError as above."""
    return _parsed(name)["revision"]


def _parsed(name: str | Path) -> re.Match[str]:
    if found := _NAME.fullmatch(str(name).removeprefix(PREFIX)):
        return found
    if is_named(name):
        raise ValueError(f"{name} is no repository of the Hugging Face hub: expected {PREFIX}OWNER/NAME")
    raise ValueError(f"there is no directory {name}; a repository of the Hugging Face hub is {PREFIX}OWNER/NAME")


def hint(directory: Path) -> str:
    """What to add where a directory is not there, whose name may have been meant as a repository's."""
    meant = not directory.exists() and _NAME.fullmatch(directory.as_posix())
    return f"; the repository of the Hugging Face hub is {named(directory.as_posix())}" if meant else ""


def located(name: str | Path) -> Path:
    """``name`` as a path; hub:OWNER/NAME is downloaded first, as ``download`` does."""
    return download(name) if is_named(name) else Path(name)


def download(
    name: str | Path, *, revision: str | None = None, token: str | None = None, local_files_only: bool = False
) -> Path:
    """The directory that a repository was downloaded to, in the hub's cache; ValueError where that failed.

    ``revision``, a branch, tag or commit, may also stand in the name: hub:OWNER/NAME@REVISION. ``token`` is by default
    the one of `hf auth login`. With ``local_files_only`` nothing but the cache is asked.
    """
    wanted, own = _parsed(name).group("repository", "revision")
    if revision is not None and own not in (None, revision):
        raise ValueError(f"{name} names a revision, and revision={revision!r} another: expected one")
    options = {"revision": revision or own, "token": token, "local_files_only": local_files_only}
    with asked(wanted, "" if is_named(name) else f"there is no directory {name}, and "):
        try:
            return Path(snapshot_download(wanted, **options))
        except LocalEntryNotFoundError as error:
            if local_files_only:
                raise ValueError(f"{named(wanted, options['revision'])} is not in the hub's cache") from error
            raise


def commit_of(directory: Path) -> str | None:
    """The commit of a directory that ``download`` gave; None of any other."""
    return directory.name if is_downloaded(directory) and _COMMIT.fullmatch(directory.name) else None


def is_downloaded(directory: Path) -> bool:
    """Whether a directory is one of the hub's cache, whose user has asked the network for it."""
    return directory.absolute().is_relative_to(Path(constants.HF_HUB_CACHE).absolute())


def create(repository: str, *, private: bool, token: str | None = None) -> str:
    """Make a repository where there is none yet, the user's own without an owner in its name. Gives its full name.

    Raises ValueError where that is refused or there is no connection, as does ``upload``, and where it shall be
    private but is there already for all to see.
    """
    name = repository.removeprefix(PREFIX)
    if not _NEW.fullmatch(name):
        raise ValueError(f"{repository} is no name of a repository of the Hugging Face hub: expected OWNER/NAME")
    api = HfApi(token=token)
    with asked(name):
        created = api.create_repo(name, private=private or None, exist_ok=True).repo_id
        if private and not api.repo_info(created).private:
            raise ValueError(f"the repository {created} is public: make it private on its page, or name another")
    return created


def upload(
    directory: Path,
    repository: str,
    *,
    message: str,
    revision: str | None = None,
    token: str | None = None,
    former: Collection[str] = (),
) -> None:
    """Upload a directory's files to a repository, by its full name, in one commit, so that they are there together.

    ``revision`` is a branch, which is made where there is none. Files of the names ``former``, of an earlier upload, go
    where the directory has none such.
    """
    api = HfApi(token=token)
    files = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()}
    with asked(repository):
        if revision is not None and revision != constants.DEFAULT_REVISION:
            api.create_branch(repository, branch=revision, exist_ok=True)
        gone = {*former} & {*api.list_repo_files(repository, revision=revision)} - files.keys() if former else ()
        operations = [CommitOperationAdd(name, path) for name, path in files.items()]
        operations += [CommitOperationDelete(name) for name in gone]
        api.create_commit(repository, operations, commit_message=message, revision=revision)


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
    except ValueError as error:  # of names and cards, in several lines
        raise ValueError(" ".join(str(error).split())) from error
