#!/usr/bin/env bash
# The table and the figure of README.md and docs/results.md: the default run with three seeds, at one commit.
#
#     scripts/readme_figures.sh OUT [TRAINING OPTION ...]
#
# Trains into OUT/seed-1 to OUT/seed-3, writes docs/images/learning_curve.png from seed 1 and the tables between the marks of both
# pages, and prints them. Options go to softbellman-train, such as --threads 1. A run that is there already is continued.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "$0")/.."
out=$1
shift
columns="--format markdown --metrics dev_bleu bleu"

for seed in 1 2 3; do
    if [ -e "$out/seed-$seed" ]; then
        softbellman-train --resume "$out/seed-$seed"
    else
        softbellman-train --seed "$seed" --output "$out/seed-$seed" "$@"
    fi
done

cp "$out/seed-1/curve.png" docs/images/learning_curve.png
softbellman table "$out"/seed-* $columns >"$out/means.md"
softbellman table "$out"/seed-* $columns --baseline mle --per-seed >"$out/seeds.md"
python - "$out" <<'PYTHON'
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

START, END = "<!-- figures: scripts/readme_figures.sh -->", "<!-- end of the figures -->"
FIGURE = "![BLEU on the validation set, seed 1: maximum likelihood, then joint training](%simages/learning_curve.png)"
out = Path(sys.argv[1])
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
machine = f"Commit {commit}, {time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, PyTorch {torch.__version__}."
means = "\n".join(line for line in (out / "means.md").read_text().splitlines() if line.startswith("|"))
seeds = (out / "seeds.md").read_text().strip()
for page, text in (
    ("README.md", f"{means}\n\n{FIGURE % 'docs/'}"),
    ("docs/results.md", f"{seeds}\n\n{machine}\n\n{FIGURE % ''}"),
):
    before, rest = Path(page).read_text(encoding="utf-8").split(START)
    Path(page).write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    print(f"{page}:\n\n{text}\n")
PYTHON
