#!/usr/bin/env bash
# What huggingface_hub raises without a connection hangs on the call.
# Versions: huggingface_hub 2.4.0, httpx2 2.16.2
# Seen: snapshot_download raises LocalEntryNotFoundError, an OSError; create_repo and upload_folder let httpx2.ConnectError
#   through, which is neither OSError nor ValueError.
# It matters: a program that catches OSError around its downloads ends in a traceback on its uploads.
# Fails when that is no longer so. The only address spoken to is a closed port of this machine.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0 httpx2==2.16.2
cd "$place"
mkdir folder && echo text > folder/file.txt
HF_ENDPOINT=http://127.0.0.1:9 HF_HOME="$place/home" "$place/venv/bin/python" - <<'PYTHON'
from huggingface_hub import HfApi, snapshot_download

api = HfApi(token="none")
calls = {
    "snapshot_download": (lambda: snapshot_download("owner/name"), True),
    "create_repo": (lambda: api.create_repo("name"), False),
    "upload_folder": (lambda: api.upload_folder(repo_id="owner/name", folder_path="folder"), False),
}
for name, (call, expected) in calls.items():
    try:
        call()
    except Exception as error:
        print(name, type(error).__module__, type(error).__name__, "OSError:", isinstance(error, OSError))
        assert isinstance(error, OSError) == expected, f"{name} raises otherwise now"
        assert not isinstance(error, ValueError)
    else:
        raise AssertionError(f"{name} went through")
PYTHON
