#!/usr/bin/env bash
# What a GPU has to show, in one go: build, tests, sanitizer, benchmarks. Logs and figures go into a folder, a summary to the terminal.
#
#     scripts/check_gpu.sh OUT [SECONDS]
#
# SECONDS is the limit of each step (default 150). Uses the Python on the path, which needs torch with CUDA and the packages of
# pyproject.toml; builds beside the sources. Ends with 1 where a step failed; a step whose tool is absent is left out.
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 2
limit=${2:-150}
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD
summary=$out/summary.txt
: >"$summary"
failed=0

step() {  # NAME COMMAND...: with a log of its own
    local name=$1 started=$SECONDS
    shift
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    local code=$?
    [ $code -eq 0 ] || failed=1
    printf '%-24s exit %-3s %4s s  %s\n' "$name" $code $((SECONDS - started)) "$(tail -n 1 "$out/$name.log" | cut -c1-120)" |
        tee -a "$summary"
}

python - <<'PYTHON' || exit 2
import sys
import torch

if not torch.cuda.is_available():
    sys.exit("torch sees no GPU here; scripts/check_cuda_build.py is what can be checked without one")
print(torch.cuda.get_device_name(), "torch", torch.__version__, "CUDA", torch.version.cuda)
PYTHON

step build env SOFTBELLMAN_CUDA=ON python setup.py build_ext --inplace
step tests python -m pytest -m cuda -q --maxfail=40
if command -v compute-sanitizer >/dev/null; then
    few="tokens_are_those or captur or draw"
    step memcheck compute-sanitizer --tool memcheck --error-exitcode 9 python -m pytest -m cuda -q -x -k "$few"
    step racecheck compute-sanitizer --tool racecheck --error-exitcode 9 python -m pytest -m cuda -q -x -k "$few"
fi
step kernels python -m benchmarks.kernels --device cuda --json "$out/kernels-cuda.json"
step linear python -m benchmarks.linear --device cuda --json "$out/linear-cuda.json"
step bleu python -m benchmarks.bleu --device cuda --json "$out/bleu-cuda.json"
step edits python -m benchmarks.edits --device cuda --json "$out/edits-cuda.json"
step overhead python -m benchmarks.overhead --device cuda --json "$out/overhead-cuda.json"
step training python -m benchmarks.training --device cuda --json "$out/training-cuda.json"
step training-graphs python -m benchmarks.training --device cuda --cuda-graphs --json "$out/training-graphs-cuda.json"
exit $failed
