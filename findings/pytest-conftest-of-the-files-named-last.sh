#!/usr/bin/env bash
# In pytest 9.1, files of a directory that are named on both sides of a file above it lose the fixtures of their conftest.py.
# Versions: pytest 9.1.1, and 8.3.5 before
# Seen: sub/conftest.py has a fixture that sub/test_one.py and sub/test_two.py take, and test_other.py lies above them. Named in the order
# sub, sub, above, all three pass; in the order sub, above, sub the fixture is "not found" in the last file, whose test ends as an error,
# as if it was broken. With 8.3.5 every order passes.
# It matters where tests are chosen by a list of files, such as the changed ones in the order of something else.
# Naming directories, or keeping a fixture that several directories take in the conftest.py above them, avoids it.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir -p "$place/tests/sub"
cd "$place/tests"
touch conftest.py
cat > sub/conftest.py <<'PYTHON'
import pytest


@pytest.fixture
def number():
    return 1
PYTHON
for name in one two; do
  printf 'def test_%s(number):\n    assert number == 1\n' "$name" > "sub/test_$name.py"
done
printf 'def test_other():\n    pass\n' > test_other.py

outcome() { # VERSION FILES: the last line
  "$place/$1/bin/python" -m pytest -q -p no:cacheprovider "${@:2}" 2>&1 | tail -n 1 || true
}
for version in 9.1.1 8.3.5; do
  python3 -m venv "$place/$version"
  "$place/$version/bin/pip" install -q --disable-pip-version-check "pytest==$version" 2> /dev/null
  together=$(outcome "$version" sub/test_one.py sub/test_two.py test_other.py)
  apart=$(outcome "$version" sub/test_one.py test_other.py sub/test_two.py)
  echo "pytest $version: together: $together; apart: $apart"
  case "$version" in
    9.1.1) [[ $together == "3 passed"* && $apart == "2 passed, 1 error"* ]] ;;
    8.3.5) [[ $together == "3 passed"* && $apart == "3 passed"* ]] ;;
  esac || { echo "pytest $version behaves otherwise now"; exit 1; }
done
