"""The options of decoding that `softbellman translate` and `softbellman caption` share, and what they write."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softbellman.cli.common import Parser, UserError, counted, finite, positive

if TYPE_CHECKING:
    from softbellman.decoding import Decoding
    from softbellman.training import TrainedActor
    from softbellman.training.translation import Hypothesis


def add_decoding_options(parser: Parser, *, unit: str, text: bool) -> None:
    """Options of search and of sampling.

    Args:
        parser: of the command.
        unit: what is decoded, such as `line`.
        text: sources are text, whose words can stand in the place of unknown ones.
    """
    parser.add_argument(
        "--checkpoint", metavar="NAME", default="best",
        help="best or last of the final stage, a stage (actor, joint, actor-last, ...), or a file of weights",
    )  # fmt: skip
    parser.add_argument(
        "--ensemble", metavar="RUN", nargs="+", type=Path,
        help="runs of the same vocabularies; probabilities are averaged",
    )  # fmt: skip
    parser.add_argument(
        "--beam", metavar="N", type=positive, help="beam size (default: the run's); 1 is greedy"
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=positive, help=f"{unit}s decoded together (default: the run's)"
    )
    parser.add_argument(
        "--max-length", metavar="N", type=positive, help="longest hypothesis in tokens (default: the run's)"
    )
    search = parser.add_argument_group("search")
    search.add_argument(
        "--nbest", metavar="N", type=positive, help=f"hypotheses of each {unit}, with their scores"
    )
    search.add_argument(
        "--length-penalty", metavar="X", type=finite,
        help="exponent of length normalisation, -20 to 20 (default: the run's)",
    )  # fmt: skip
    search.add_argument(
        "--coverage-penalty", metavar="X", type=finite,
        help="weight of what got no attention in the source (default: 0)",
    )  # fmt: skip
    drawing = parser.add_argument_group("sampling, in place of the search")
    drawing.add_argument("--samples", metavar="N", type=positive, help=f"sequences drawn for each {unit}")
    drawing.add_argument("--temperature", metavar="X", type=finite, help="divides the logits (default: 1)")
    drawing.add_argument("--top-k", metavar="N", type=positive, help="draw among the N likeliest tokens")
    drawing.add_argument(
        "--top-p", metavar="X", type=finite, help="draw among the likeliest tokens of probability X together"
    )
    drawing.add_argument("--seed", metavar="N", type=counted, help="of the draws (default: 1)")
    rules = parser.add_argument_group("rules for both")
    rules.add_argument(
        "--block-ngrams", metavar="N", type=positive, help="no sequence of N tokens comes twice"
    )
    rules.add_argument(
        "--repetition-penalty", metavar="X", type=finite,
        help="multiplies log-probabilities of produced tokens; 1 or more",
    )  # fmt: skip
    if text:
        rules.add_argument(
            "--replace-unknown", action="store_true",
            help="let <unk> be produced, and put the most attended source token in its place",
        )  # fmt: skip
    parser.add_argument(
        "--attention", metavar="FILE",
        type=Path, help=f"pictures of each {unit}'s attention: FILE, then STEM-2.png, ...",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")


def open_actor(options: argparse.Namespace) -> TrainedActor:
    """The actor that is asked for, with those that decode with it."""
    from softbellman.training import load_run

    more: dict[str, Any] = {"ensemble": options.ensemble} if options.ensemble else {}
    return load_run(options.run, checkpoint=options.checkpoint, device=options.device, **more)


def chosen_decoding(actor: TrainedActor, options: argparse.Namespace) -> Decoding:
    """The decoding that the options describe, over the run's own; UserError names the option that is out of its range."""
    from softbellman.decoding import Decoding
    from softbellman.training.translation import decoding_of

    names = [field.name for field in fields(Decoding) if field.name != "attention"]
    given = {name: getattr(options, name, None) for name in names}
    try:
        return decoding_of(actor.settings.evaluation, **given, attention=options.attention is not None)
    except ValueError as error:
        pattern = rf"\b({'|'.join(sorted(names, key=len, reverse=True))})\b"
        text = re.sub(pattern, lambda found: f"--{found[1].replace('_', '-')}", str(error))
        raise UserError(text) from None


class Writer:
    """Hypotheses as lines, and pictures of their attention.

    One hypothesis of a source is a line. Several are a line each: the source's name or number, score and text between tabs.

    Args:
        how: what was done.
        picture: file of the pictures; None: none.
    """

    def __init__(self, how: Decoding, picture: Path | None) -> None:
        self._several, self._picture = how.several, picture
        self._pictures = 0

    def lines(self, name: str, group: Sequence[Hypothesis], *, named: bool) -> str:
        """The lines of one source, with its name before a single hypothesis where `named`."""
        self._draw(group)
        if self._several:
            return "".join(f"{name}\t{one.score:.4f}\t{one.text}\n" for one in group)
        text = group[0].text if group else ""
        return f"{name}\t{text}\n" if named else f"{text}\n"

    def _draw(self, group: Sequence[Hypothesis]) -> None:
        """The attention of a source's first hypothesis."""
        if self._picture is None or not group:
            return
        from softbellman.report.attention import draw_attention

        self._pictures += 1
        path = self._picture
        if self._pictures > 1:
            path = path.with_name(f"{path.stem}-{self._pictures}{path.suffix}")
        draw_attention(group[0], path)
