"""The tables of `benchmarks.language_models` in docs/performance.md, from what it recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks._harness import format_table

START, END = "<!-- tables: python -m benchmarks.language_models --table -->", "<!-- end of the tables -->"
OPERATORS = {
    "cross_entropy": "`token_cross_entropy`",
    "log_prob_entropy": "`token_objective`, `token_statistics`",
    "forward_kl": "`divergence`, forward KL",
    "reverse_kl": "`divergence`, reverse KL",
    "jsd": "`divergence`, JSD",
    "sparse": "`sparse_divergence`",
}
OURS = ("sum", "rows", "narrow")
SHOWN = (*OURS, "eager", "trl")  # in the last column
TIMES = ("reduced", "row by row", "reduced, 16-bit sums", "checkpointed", "TRL")
HELD = "reduced, row by row, 16-bit sums, eager, TRL"


def tables(record: Mapping[str, Any]) -> str:
    """The table of a record and the line that says how it was made."""
    rows: Sequence[Mapping[str, Any]] = record["rows"]
    if record["benchmark"] == "language_models":
        header = ("loss", "rows x H x V", "dtype", *TIMES, f"held, % of logits: {HELD}")
        table = format_table(header, [_times(row) for row in rows])
    else:
        table = memory_table(rows)
    machine = record["environment"]
    changed = " with uncommitted changes" if machine["uncommitted_changes"] else ""
    return (
        f"{table}\n\ncommit {machine['commit'][:7]}{changed}, {machine['date'][:10]}: {machine['cpu']}, "
        f"{machine['cores']} cores, load {machine['load_average'][0]:.1f}, torch {machine['torch']}, "
        f"one thread."
    )


def memory_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What losses hold at the sizes of models, in MB."""
    header = ("model", "H, V", "loss", "logits", "gradients", f"held beside them: {HELD}")
    return format_table(header, [_memory(row) for row in rows])


def _times(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        OPERATORS[row["loss"]],
        f"{row['rows']:,} x {row['hidden']:,} x {row['vocabulary']:,}",
        row["dtype"],
        *(_quartiles(row["ratios"].get(f"{one}/eager")) for one in OURS),
        *(_of_medians(row["times"], peer) for peer in ("checkpointed", "trl")),
        _listed(
            f"{100 * row['share_of_logits'][one]:.0f}" if one in row["share_of_logits"] else None
            for one in SHOWN
        ),
    )


def _memory(row: Mapping[str, Any]) -> tuple[str, ...]:
    held = row["held_bytes"]
    return (
        row["model"],
        f"{row['hidden']:,}, {row['vocabulary']:,}",
        OPERATORS[row["loss"]],
        f"{row['logits_bytes'] / 1e6:,.0f}",
        f"{row['results_bytes'] / 1e6:,.0f}",
        _listed(f"{held[one] / 1e6:,.0f}" if one in held else None for one in SHOWN),
    )


def _quartiles(ratio: Mapping[str, float] | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio['median']:.2f} ({ratio['lower_quartile']:.2f}-{ratio['upper_quartile']:.2f})"


def _of_medians(times: Mapping[str, Mapping[str, float]], peer: str) -> str:
    return f"{times[peer]['median'] / times['eager']['median']:.2f}" if peer in times else "-"


def _listed(cells: Iterable[str | None]) -> str:
    return ", ".join("-" if cell is None else cell for cell in cells)
