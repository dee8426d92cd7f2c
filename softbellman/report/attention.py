"""Attention as a heat map: tokens of the hypothesis down, positions of the source across."""

from __future__ import annotations

from pathlib import Path

from softbellman.core.files import replacing
from softbellman.training.translation import Hypothesis

_INK = "#30343b"
_MOST = 60  # tokens or positions that get a label


def draw_attention(hypothesis: Hypothesis, path: str | Path) -> Path:
    """Draw how much each source position was attended to before each token.

    Args:
        hypothesis: one with its attention.
        path: the PNG file.

    Returns:
        The path.

    Raises:
        ValueError: the hypothesis was decoded without `attention=True`.
    """
    if hypothesis.attention is None:
        raise ValueError("the hypothesis has no attention: decode with attention=True")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tokens, positions = hypothesis.attention.shape
    across = list(hypothesis.source) or [str(number) for number in range(1, positions + 1)]
    size = (min(26.0, 2.2 + 0.42 * min(positions, _MOST)), min(26.0, 1.6 + 0.34 * min(tokens, _MOST)))
    figure = Figure(figsize=size, dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(
        hypothesis.attention.float().tolist(),
        cmap="Blues",
        vmin=0.0,
        vmax=1.0,
        aspect="auto",
        interpolation="nearest",
    )
    if positions <= _MOST:
        axes.set_xticks(
            range(positions), [_literal(word) for word in across], rotation=60, ha="left", fontsize=9
        )
    if tokens <= _MOST:
        axes.set_yticks(range(tokens), [_literal(word) for word in hypothesis.tokens], fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(colors=_INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("attention", fontsize=9, color=_INK)
    bar.outline.set_visible(False)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return Path(path)


def _literal(text: str) -> str:
    """Matplotlib reads dollar signs as mathematics."""
    return text.replace("$", r"\$")
