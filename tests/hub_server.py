"""A hub on this machine: as much of its protocol as uploads and downloads need, with users, branches and doors."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

ANNA, BERT, ME = "hf_anna", "hf_bert", "hf_me"  # tokens
USERS = {ANNA: "anna", BERT: "bert", ME: "me"}
_REPOSITORY = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(\w+)(?:/(.+))?)?")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")

Files = dict[str, bytes]


@dataclass
class Repository:
    """``branches`` name commits, ``gated`` files are seen and not read."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    commits: dict[str, Files] = field(default_factory=lambda: {"0" * 40: {}})
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: Files, message: str) -> str:
        whole = hashlib.sha1(repr((len(self.commits), sorted(files))).encode(), usedforsecurity=False).hexdigest()
        self.commits[whole], self.branches[branch] = files, whole
        self.messages.append(message)
        return whole

    def at(self, revision: str) -> str | None:
        """The commit of a branch or a commit; None where there is none."""
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None

    @property
    def files(self) -> Files:
        return self.commits[self.branches["main"]]


class RefusedError(Exception):
    """What the hub answers with a status, and an error's code or message."""

    def __init__(self, status: int, code: str = "", message: str = ""):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Hub:
    """``asked`` are the requests that came, ``received`` the bodies of those that brought something."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    endpoint: str = ""

    def user(self, authorization: str | None) -> str | None:
        """Whose token it is, None without one."""
        if authorization is None:
            return None
        if (user := USERS.get(authorization.removeprefix("Bearer "))) is None:
            raise RefusedError(401, message="Invalid credentials in Authorization header")
        return user

    def repository(self, name: str, user: str | None) -> Repository:
        found = self.repositories.get(name)
        if found is None or (found.private and not _owns(user, name)):
            raise RefusedError(404 if user else 401, "RepoNotFound")
        return found

    def create(self, values: dict[str, Any], user: str | None) -> tuple[int, Any]:
        owner = values.get("organization") or user
        if user is None:
            raise RefusedError(401)
        if owner != user:
            raise RefusedError(403, message="You don't have the rights to create a model under this namespace")
        name = f"{owner}/{values['name']}"
        private = values.get("visibility") == "private" or bool(values.get("private"))
        status = 409 if name in self.repositories else 200
        self.repositories.setdefault(name, Repository(private))
        return status, {"url": f"{self.endpoint}/{name}"}

    def of_repository(self, name: str, verb: str, rest: str, body: bytes, user: str | None) -> tuple[int, Any]:
        found, revision = self.repository(name, user), unquote(rest) or "main"
        if verb in ("preupload", "commit", "branch") and not _owns(user, name):
            raise RefusedError(403, message="You don't have the rights to write to this repository")
        if verb == "branch":
            status = 409 if revision in found.branches else 200
            found.branches.setdefault(revision, found.branches["main"])
            return status, {}
        if (commit := found.at(revision)) is None:
            raise RefusedError(404, "RevisionNotFound")
        files = found.commits[commit]
        if verb == "preupload":
            sent = json.loads(body)["files"]
            return 200, {
                "files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in sent]
            }
        if verb == "commit":
            files, message = dict(files), ""
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "header":
                    message = line["value"]["summary"]
                elif line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                else:
                    del files[line["value"]["path"]]
            made = found.commit(revision, files, message)
            return 200, {"commitOid": made, "commitUrl": f"{self.endpoint}/{name}/commit/{made}"}
        if verb == "tree":
            listed = [
                {"type": "file", "path": path, "size": len(content), "oid": _identity(content)}
                for path, content in files.items()
            ]
            return 200, listed
        siblings = [{"rfilename": path} for path in files]
        return 200, {"id": name, "modelId": name, "sha": commit, "private": found.private, "siblings": siblings}


def _owns(user: str | None, name: str) -> bool:
    return name.startswith(f"{user}/")


def _identity(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *values: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_GET  # noqa: N815 as the library calls them

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = urlsplit(self.path).path
            hub.asked.append(f"{self.command} {path}")
            if body:
                hub.received.append(body)
            try:
                user = hub.user(self.headers.get("Authorization"))
                if file := _FILE.fullmatch(path):
                    self._send_file(unquote(file[1]), unquote(file[2]), unquote(file[3]), user)
                    return
                if path == "/api/repos/create":
                    status, value = hub.create(json.loads(body), user)
                elif path == "/api/validate-yaml":
                    status, value = 200, {"errors": [], "warnings": []}
                elif asked := _REPOSITORY.fullmatch(path):
                    name, verb, rest = asked.groups()
                    status, value = hub.of_repository(name, verb or "", rest or "", body, user)
                else:
                    raise RefusedError(404)
            except RefusedError as error:
                told = {"X-Error-Code": error.code, "X-Error-Message": error.message}
                self._send(error.status, b"{}", {name: text for name, text in told.items() if text})
                return
            self._send(status, json.dumps(value).encode(), {})

        def _send_file(self, name: str, revision: str, path: str, user: str | None) -> None:
            found = hub.repository(name, user)
            commit = found.at(revision)
            if commit is None or path not in found.commits[commit]:
                raise RefusedError(404, "EntryNotFound")
            if found.gated and not _owns(user, name):
                raise RefusedError(403, "GatedRepo")
            content = found.commits[commit][path]
            self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{_identity(content)}"'})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
