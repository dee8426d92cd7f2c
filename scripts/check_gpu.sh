#!/usr/bin/env bash
# What a GPU has to show: build, tests, kernels, updates, sanitizer. `scripts/check_gpu.sh --help` says how.
exec "${PYTHON:-python3}" "$(dirname "$0")/check_gpu.py" "$@"
