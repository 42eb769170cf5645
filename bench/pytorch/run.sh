#!/bin/sh
# Runs the PyTorch baseline if PyTorch is installed, else says how to get it.
# PYTHON names the interpreter; without it, venv/ beside this file, then python3.
# Arguments go to chunk.py.
set -eu
here=$(dirname "$0")
python=${PYTHON:-$here/venv/bin/python}
if [ -z "${PYTHON:-}" ] && [ ! -x "$python" ]; then python=python3; fi
if ! "$python" -c "import torch, transformers, tokenizers, safetensors" 2>/dev/null; then
    echo "no PyTorch baseline: python3 -m venv $here/venv && $here/venv/bin/pip install -r $here/requirements.txt" >&2
    exit 0
fi
exec "$python" "$here/chunk.py" "$@"
