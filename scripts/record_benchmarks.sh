#!/usr/bin/env bash
# Record the benchmarks that docs/performance.md shows, on an idle machine.
#
#     scripts/record_benchmarks.sh RESULTS DATA [NAME ...]
#
# RESULTS is the folder for NAME-cpu.json, benchmarks/results to replace the published ones; DATA holds Multi30k. Without a NAME
# all are run, in about an hour. PYTHON is the interpreter; CHECKOUT another checkout of the project, with its own benchmarks:
#
#     CHECKOUT=../before PYTHON=../before/venv/bin/python scripts/record_benchmarks.sh /tmp/before DATA kernels bleu
#     scripts/record_benchmarks.sh /tmp/after DATA kernels bleu
#     python -m benchmarks.compare /tmp/before /tmp/after
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
results=$(realpath "$1")
data=$(realpath "$2")
shift 2
[ $# -gt 0 ] || set -- kernels kernels-keep-memory linear linear-32000 bleu bleu_completion edit_distance edits overhead training training-bfloat16 \
    training-memory training-memory-50000 training-memory-150000 scaling scaling-keep-memory
cd "${CHECKOUT:-$(dirname "$0")/..}"

processor="--threads 1 --cpu-time"
kernels="--threads 2 --repetitions 20 --shapes 2048x8192 512x131072 --dtypes float32"
record() { # NAME MODULE OPTION ...
    echo "$1: $(date '+%H:%M:%S')"
    "${PYTHON:-python}" -m "benchmarks.$2" "${@:3}" --json "$results/$1-cpu.json" >"$results/$1.log" 2>&1
}

for name in "$@"; do
    case "$name" in
        kernels) record "$name" kernels $kernels ;;
        kernels-keep-memory) record "$name" kernels $kernels --passes backward both --keep-memory ;;
        linear) record "$name" linear $processor --no-compile --shapes 2048x256x4568 ;;
        linear-32000) record "$name" linear $processor --no-compile --operators token_cross_entropy \
            --shapes 2048x256x32000 --repetitions 5 ;;
        bleu | bleu_completion | edit_distance) record "$name" "$name" $processor ;;
        edits) record "$name" edits --batches 42x4x30 128x5x50 $processor ;;
        overhead) record "$name" overhead --cpu-time --repetitions 30 ;;
        training) record "$name" training --data "$data" $processor --repetitions 20 --profile ;;
        training-bfloat16) record "$name" training --data "$data" $processor --repetitions 20 --profile --bfloat16 all ;;
        training-memory) record "$name" training_memory --data "$data" $processor --repetitions 12 --warm-up 150 ;;
        training-memory-50000) record "$name" training_memory --data "$data" --vocabulary 50000 --stages mle,critic,joint \
            $processor --repetitions 5 --warm-up 10 ;;
        training-memory-150000) record "$name" training_memory --data "$data" --threads 1 --vocabulary 150000 --peaks-only \
            --warm-up 10 ;;
        scaling) record "$name" scaling $processor --compile ;;
        scaling-keep-memory) record "$name" scaling $processor --axes V N --keep-memory ;;
        *) echo "no benchmark is named $name" >&2; exit 2 ;;
    esac
done
rm -f "$results"/*.log
