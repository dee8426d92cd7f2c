"""The table of `benchmarks.training` in docs/performance.md that sets the algorithms side by side, from what it recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks._harness import Timing, format_seconds, format_table

START, END = "<!-- tables: python -m benchmarks.training --table -->", "<!-- end of the tables -->"
BASELINE = "raml"
_HEADER = (
    "stage", "sources x sequences", "an update", f"of {BASELINE}'s", "reference tokens/s", "peak MB, longest batch"
)  # fmt: skip


def table(record: Mapping[str, Any]) -> str:
    """Our side of every stage, the dearest update last, and the line that says how it was measured.

    Raises:
        ValueError: the record lacks the stage that the others are compared with.
    """
    rows = sorted(record["rows"], key=lambda row: row["ours"]["median"])
    medians = {row["stage"]: row["ours"]["median"] for row in rows}
    if BASELINE not in medians:
        raise ValueError(f"the record has no {BASELINE}, which the others are compared with")
    cells = [
        (
            f"`{row['stage']}`",
            f"{row['sources']} x {row['sequences_per_source']}",
            format_seconds(Timing(**row["ours"])),
            f"{row['ours']['median'] / medians[BASELINE]:.2f}",
            f"{row['reference_tokens_per_second']['ours']:,.0f}",
            f"{row['peak_bytes_longest_batch']['ours'] / 1e6:,.0f}",
        )
        for row in rows
    ]
    run, clock = record["environment"], rows[0]["clock"]
    changed = " with uncommitted changes" if run["uncommitted_changes"] else ""
    return (
        f"{format_table(_HEADER, cells)}\n\n`{run['command']}`: commit {run['commit'][:7]}{changed}, {run['date'][:10]}, "
        f"{run['cpu']}, {run['cores']} cores, torch {run['torch']}, load {run['load_average'][0]:.1f}. It is {clock} time, "
        f"medians and quartiles of {rows[0]['ours']['repetitions']} updates. Corpus: {rows[0]['corpus']}."
    )
