#!/bin/sh
# Finds a Python that is new enough and hands over to bootstrap.py. Nothing else may be assumed to be installed.
# PYTHON, when set, is the only one that is tried. Else the system's own comes first, if it can make virtual
# environments: distributions build theirs with profile-guided optimisation, and pyenv by itself does not.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

# The second round is for who has a Python and lacks a part of it: bootstrap.py says which.
for needs in "import sys, venv, ensurepip" "import sys"; do
    for candidate in ${PYTHON:-/usr/bin/python3 python3.14 python3.13 python3.12 python3.11 python3}; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c "$needs; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then
            exec "$candidate" "$here/bootstrap.py" "$@"
        fi
    done
done

echo "Chappe needs Python 3.11 or newer, and none was found (looked for: ${PYTHON:-python3.11 … python3.14, python3})." >&2
echo "On Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2
exit 1
