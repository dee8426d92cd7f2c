"""The targets of an exact oracle and of those beside it as heat maps: tokens down, positions of the hypothesis across."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softbellman.core.files import replacing
from softbellman.oracle.report import OracleReport

MOST_TOKENS = 22
_INK, _EDGE, _MARK = "#30343b", "#c8ccd2", "#c2453d"
_ANNOTATED_POSITIONS = 14


def draw_targets(report: OracleReport, png_path: str | Path, *, top: int = 5) -> Path:
    """Draws one heat map a party, side by side, with the same tokens; the token the hypothesis takes is framed.

    Args:
        top: a token is shown where it is among so many likeliest at some position (at most 22 tokens).

    Returns:
        `png_path`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tokens = shown_tokens(report, top)
    positions, parties = len(report.actions), len(report.beliefs)
    width = min(26.0, parties * (1.6 + 0.62 * positions) + 1.2)
    figure = Figure(figsize=(width, 1.6 + 0.36 * len(tokens)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, parties, sharey=True, squeeze=False)[0]
    tables = [belief.probabilities[:, tokens].T for belief in report.beliefs]  # (tokens, P) each
    highest = max(float(table.max()) for table in tables)
    images = [
        _draw_panel(panel, report, belief.title, table.tolist(), tokens, highest)
        for panel, belief, table in zip(panels, report.beliefs, tables, strict=True)
    ]
    panels[0].set_yticks(
        range(len(tokens)), [_literal(report.labels[token]) for token in tokens], fontsize=10
    )
    figure.supxlabel("token of the hypothesis at the position", fontsize=10, color=_INK)
    bar = figure.colorbar(images[0], ax=list(panels), shrink=0.8, pad=0.015)
    bar.set_label("probability", fontsize=10, color=_INK)
    bar.outline.set_visible(False)
    words = " ".join(report.labels[token] for token in report.reference)
    figure.suptitle(_literal(f"reference: {words}"), fontsize=11, color=_INK)
    path = Path(png_path)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def shown_tokens(report: OracleReport, top: int) -> list[int]:
    """Ids of the rows: the reference's tokens in their order, then the other likely ones, the end last."""
    reference = [token for token in dict.fromkeys(report.reference)]
    likeliest: dict[int, float] = {}
    for belief in report.beliefs:
        probabilities = belief.probabilities[:, : len(report.labels)]
        best = probabilities.topk(min(top, probabilities.shape[-1]), dim=-1)
        for token, probability in zip(
            best.indices.flatten().tolist(), best.values.flatten().tolist(), strict=True
        ):
            if probability > 0:
                likeliest[token] = max(likeliest.get(token, 0.0), probability)
    taken = [token for token in dict.fromkeys(report.hypothesis) if token not in reference]
    others = [token for token in likeliest if token not in {*reference, *taken, report.eos_id}]
    others.sort(key=lambda token: -likeliest[token])
    return [*[*reference, *taken, *others][: MOST_TOKENS - 1], report.eos_id]


def _draw_panel(
    panel: Any, report: OracleReport, title: str, table: list[list[float]], tokens: list[int], highest: float
) -> Any:
    """One party; `table` holds a row a token. A large vocabulary leaves small probabilities: `highest` is the darkest."""
    from matplotlib.patches import Rectangle

    image = panel.imshow(table, cmap="Blues", vmin=0.0, vmax=highest, aspect="auto")
    labels = [_literal(report.labels[action]) for action in report.actions]
    turned = max(map(len, labels)) > 6
    panel.set_xticks(
        range(len(labels)),
        labels,
        fontsize=10,
        rotation=40 if turned else 0,
        ha="right" if turned else "center",
    )
    panel.set_title(title, fontsize=11, color=_INK, fontweight="bold")
    panel.tick_params(length=0, labelcolor=_INK)
    for side in panel.spines.values():
        side.set_color(_EDGE)
    if len(labels) <= _ANNOTATED_POSITIONS:
        for y, row in enumerate(table):
            for x, probability in enumerate(row):
                if probability >= 0.005:
                    panel.text(
                        x, y, f"{probability:.2f}".removeprefix("0"), ha="center", va="center", fontsize=9,
                        color="white" if probability > 0.55 * highest else _INK,
                    )  # fmt: skip
    for x, action in enumerate(report.actions):
        if action in tokens:
            corner = (x - 0.46, tokens.index(action) - 0.44)
            panel.add_patch(Rectangle(corner, 0.92, 0.88, fill=False, edgecolor=_MARK, linewidth=1.3))
    return image


def _literal(text: str) -> str:
    """The text as it is: a dollar sign would start a formula."""
    return text.replace("$", r"\$")
