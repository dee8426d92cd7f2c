#!/usr/bin/env bash
# Build the core with GCC's address and undefined-behaviour sanitizers and run the operators' tests on it, in a few minutes.
#
#     scripts/check_sanitizers.sh [arguments of pytest, in place of the chosen tests]
#
# Needs pip, g++ and the extra `test`; PIP_ARGS=--no-build-isolation builds without network. Builds into build/sanitized; an
# installed softbellman stays as it is. Left out are tests that measure rounding: -O1 contracts other products than -O3.
set -euo pipefail
cd "$(dirname "$0")/.."

site=$PWD/build/sanitized reports=$PWD/build/sanitized.log
rm -rf "$site"
CMAKE_ARGS="${CMAKE_ARGS:-} -DSOFTBELLMAN_SANITIZE=ON" SOFTBELLMAN_CUDA=OFF SOFTBELLMAN_BUILD_FOLDER=build/cmake-sanitized \
    python -m pip install --quiet --no-deps --target "$site" ${PIP_ARGS:-} .

if [ $# -eq 0 ]; then
    losses=$(printf 'tests/losses/test_%s.py ' against_reference critic divergence erac prior sampling soft_bellman)
    payoffs=$(printf 'tests/payoffs/test_%s.py ' bleu bleu_completion boundary edit_distance edits frequencies payoffs)
    set -- -k "not opcheck and not compiled" tests/fuzz $losses $payoffs tests/core/test_launch.py
fi

# The sanitizer's library has to be the first of the process, with libstdc++ there when it looks for __cxa_throw. Python and
# torch leave memory to the end of the process, so leaks say nothing. Without the folder that Python starts in, where it would
# find the sources and with them another module.
preload=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libstdc++.so.6)
status=0
PYTHONPATH=$site PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 LD_PRELOAD=$preload python -c "
import sys
sys.path.pop(0)
import pytest, softbellman
print(softbellman.build_info()['path'])
sys.exit(pytest.main(['--capture=sys', '-p', 'no:cacheprovider', *sys.argv[1:]]))" "$@" 2>"$reports" || status=$?
if [ $status -ne 0 ]; then
    grep -v USDT "$reports" | head -n 80 # lines of torch's profiler
fi
exit $status
