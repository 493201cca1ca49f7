#!/bin/sh
# Finds a Python that is new enough and hands over to bootstrap.py. Nothing else may be assumed to be installed.
# PYTHON, when set, is the only one that is tried.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3}; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        exec "$candidate" "$here/bootstrap.py" "$@"
    fi
done

echo "Chappe needs Python 3.11 or newer, and none was found (looked for: ${PYTHON:-python3.11 … python3.14, python3})." >&2
echo "On Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2
exit 1
