#!/usr/bin/env bash
# Install the pinned torch as a CPU wheel: from where pip already finds one, else from PyTorch's own index.
# For a GPU machine, install the CUDA wheel of the same version yourself first (docs/operations.md).
set -euo pipefail
python=$1
here=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -nE 's/^torch==([0-9.]+)$/\1/p' "$here/requirements-site.txt")
if "$python" -c "import importlib.metadata as m; raise SystemExit(m.version('torch').split('+')[0] != '$version')" 2>/dev/null; then
  exit 0
fi
"$python" -m pip install --quiet --no-deps "torch==$version+cpu" 2>/dev/null ||
  "$python" -m pip install --quiet --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$version+cpu" 2>/dev/null ||
  "$python" -m pip install --quiet --no-deps "torch==$version"
