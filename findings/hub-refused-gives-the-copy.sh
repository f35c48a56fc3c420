#!/usr/bin/env bash
# huggingface_hub's snapshot_download gives its earlier copy where the hub refuses access, as if it had been downloaded.
# Versions: huggingface_hub 2.4.0, against a server on this machine that answers as the hub does
# Seen: a repository is downloaded, then becomes gated, and then unknown to the reader; each time the call returns the directory of
# the first download, of the branch's commit of that day, without an error or a warning. Without an earlier copy it raises
# GatedRepoError and RepositoryNotFoundError.
# It matters: weights that were withdrawn or replaced go on being used, and that access ended is told on other machines alone.
# repo_info, asked first, raises.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
cd "$place"
HF_HUB_DISABLE_XET=1 HF_HOME="$place/home" "$place/venv/bin/python" - <<'PYTHON'
import json
import logging
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT, CONTENT = "1" * 40, b'{"weights": "of the first day"}'
refusal: list[str] = []


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if refusal:
            self.answer(403 if refusal[0] == "GatedRepo" else 404, b"{}", {"X-Error-Code": refusal[0]})
        elif "/tree/" in self.path:
            told = [{"type": "file", "path": "config.json", "size": len(CONTENT), "oid": "2" * 40}]
            self.answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith("/api/"):
            told = {"id": "owner/name", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}], "tags": []}
            self.answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
        else:
            self.answer(200, CONTENT, {"ETag": '"etag"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *message: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
address = f"http://127.0.0.1:{server.server_address[1]}"
threading.Thread(target=server.serve_forever, daemon=True).start()

from huggingface_hub import HfApi, snapshot_download  # noqa: E402
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError  # noqa: E402

said: list[str] = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("huggingface_hub").addHandler(handler)


def download(cache: str) -> str:
    return snapshot_download("owner/name", endpoint=address, cache_dir=cache)


first = download("with-a-copy")
assert Path(first, "config.json").read_bytes() == CONTENT
for code, error in (("GatedRepo", GatedRepoError), ("RepoNotFound", RepositoryNotFoundError)):
    refusal[:] = [code]
    said.clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        again = download("with-a-copy")
    print(code, "with an earlier copy: returned", Path(again).name[:6], "warnings:", len(warned), "logged:", said)
    assert again == first, "it is told now"
    assert not warned
    for call in (lambda: download("without"), lambda: HfApi(endpoint=address).repo_info("owner/name")):
        try:
            call()
        except Exception as caught:
            print(code, "without a copy, or repo_info:", type(caught).__name__, type(caught.__cause__).__name__)
            assert isinstance(caught, error) or isinstance(caught.__cause__, error)
        else:
            raise AssertionError("it is not refused")
PYTHON
