#!/usr/bin/env bash
# huggingface_hub's create_repo(private=True, exist_ok=True) leaves a public repository public and says nothing.
# Versions: huggingface_hub 2.4.0, against a server on this machine that answers as the hub does
# Seen: of a repository that is there, the hub answers 409; the call returns its address as if all were done. Neither the answer nor
# a second request tells, or changes, who may read it: the one request is the one that asks for a private one.
# It matters: what is uploaded next, by a program that asked for a private place, is there for everybody. repo_info tells who may
# read a repository; update_repo_settings changes it.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
cd "$place"
HF_HOME="$place/home" "$place/venv/bin/python" - <<'PYTHON'
import json
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []


class Hub(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        asked.append(("POST", self.path, body.get("private"), body.get("visibility")))
        self.answer(409, {"error": "You already created this model repo", "url": f"{address}/me/mine"})

    def do_GET(self) -> None:
        asked.append(("GET", self.path, None, None))
        self.answer(200, {"id": "me/mine", "private": False, "siblings": [], "tags": []})

    def answer(self, status: int, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *message: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
address = f"http://127.0.0.1:{server.server_address[1]}"
threading.Thread(target=server.serve_forever, daemon=True).start()

from huggingface_hub import HfApi  # noqa: E402

api = HfApi(endpoint=address, token="hf_a_token_of_nobody")
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    made = api.create_repo("me/mine", private=True, exist_ok=True)
requests = list(asked)
print("returned", made.repo_id, "after", requests)
print("private:", api.repo_info("me/mine").private)
assert made.repo_id == "me/mine"
assert [each[0] for each in requests] == ["POST"], "it asks more than once now"
assert requests[0][2] is True or requests[0][3] == "private"
assert api.repo_info("me/mine").private is False
assert not [each for each in warned if "private" in str(each.message).lower() or "visib" in str(each.message).lower()]
PYTHON
