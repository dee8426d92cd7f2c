"""`softbellman oracle --reference TEXT --hypothesis TEXT`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from softbellman.cli.common import Parser, UserError, finite, positive, typed_text
from softbellman.data.vocabulary import RESERVED, SpecialTokens

if TYPE_CHECKING:
    from softbellman.data import Codec
    from softbellman.oracle.report import Belief

DESCRIPTION = """\
Shows what the exact oracle of the edit distance wants at every position of a hypothesis: the
likeliest tokens under softmax(Q / tau). The value Q is the best payoff still to come, in tokens.
With --run it shows beside them what the oracle of that run says. How far the two are apart is given
as total variation and as the divergence KL(exact, learnt) in nats. The learnt oracle has the payoff
of its run (BLEU, CIDEr-D or ROUGE-L, times the reference's length) and its own temperature.

examples:
  softbellman oracle --reference "a b c" --hypothesis "a c c" --tau 0.5
  softbellman oracle --run runs/vaml --reference "two dogs run ." --hypothesis "dogs run ." \\
      --plot targets.png
"""

DEFAULT_TAU = 0.5


class Asked(NamedTuple):
    """Reference and hypothesis as ids, the names of the ids, and the other parties' answers."""

    reference: list[int]
    hypothesis: list[int]
    labels: tuple[str, ...]
    vocabulary: int
    tau: float
    others: list[Belief]
    learnt: str = ""
    """Payoff and temperature of the learnt oracle, in words."""
    special: SpecialTokens = RESERVED
    """The reserved ids."""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman oracle", description=DESCRIPTION)
    parser.add_argument(
        "--reference", metavar="TEXT", type=typed_text, required=True, help="the reference, tokenised"
    )
    parser.add_argument(
        "--hypothesis", metavar="TEXT", type=typed_text, required=True, help="the hypothesis, tokenised alike"
    )
    parser.add_argument(
        "--tau", metavar="X", type=finite,
        help=f"temperature of the exact oracle, in tokens; 0: uniform over the optimal tokens "
             f"(default: the learnt oracle's, or {DEFAULT_TAU})",
    )  # fmt: skip
    parser.add_argument("--top", metavar="N", type=positive, default=5, help="tokens shown a position")
    parser.add_argument(
        "--others", metavar="N", type=int, default=0,
        help="further tokens in the vocabulary, in neither text (default: 0; not with --run)",
    )  # fmt: skip
    parser.add_argument("--run", metavar="RUN", type=Path, help="run folder with a learnt oracle")
    parser.add_argument("--checkpoint", metavar="NAME", default="best", help="best or last, of the run")
    parser.add_argument(
        "--source", metavar="TEXT", type=typed_text,
        help="also show the run's actor, translating this source sentence",
    )  # fmt: skip
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, ... or auto, for the run's models"
    )
    parser.add_argument("--plot", metavar="FILE", type=Path, help="heat maps of the targets, a PNG file")
    parser.add_argument("--json", metavar="FILE", type=Path, help="everything shown, as JSON")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments, prints the table, writes the files."""
    options = build_parser().parse_args(arguments)
    from softbellman.oracle.report import report_along
    from softbellman.report import format_table

    if options.run is None and options.source is not None:
        raise UserError("--source is for the actor of a run; give --run, too")
    if options.others < 0 or (options.others and options.run is not None):
        raise UserError("--others expects a whole number of at least 0, and no --run")
    asked = ask_run(options) if options.run is not None else read_words(options)
    report = report_along(
        asked.reference, asked.hypothesis, labels=asked.labels, vocabulary=asked.vocabulary, eos_id=asked.special.eos,
        tau=asked.tau, special_ids=asked.special.never, others=asked.others,
    )  # fmt: skip
    print(f"reference:   {' '.join(asked.labels[token] for token in asked.reference)}")
    print(f"hypothesis:  {' '.join(asked.labels[token] for token in asked.hypothesis)}")
    print(
        f"exact oracle: edit distance, tau {asked.tau:g}, {asked.vocabulary - 1 - len(asked.special.never)} tokens and <eos>"
    )
    if asked.learnt:
        print(f"learnt oracle: {asked.learnt}")
    print()
    print(format_table(report.rows(options.top), digits=3))
    if options.json is not None:
        record = {"run": None if options.run is None else str(options.run), **report.as_record(options.top)}
        options.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.plot is not None:
        from softbellman.oracle.figure import draw_targets

        draw_targets(report, options.plot, top=options.top)
    return 0


def read_words(options: Any) -> Asked:
    """The words of both texts are the vocabulary, and as many nameless tokens as were asked for."""
    from softbellman.data import Codec, Vocabulary, WordTokenizer
    from softbellman.data.vocabulary import SPECIAL_TOKENS

    texts = [options.reference, options.hypothesis]
    words = dict.fromkeys(word for text in texts for word in text.split() if word not in SPECIAL_TOKENS)
    codec = Codec(Vocabulary(list(words), origin="--reference and --hypothesis"), WordTokenizer())
    tau = DEFAULT_TAU if options.tau is None else options.tau
    reference, hypothesis = map(codec.encode, texts)
    size = len(codec) + options.others
    return Asked(reference, hypothesis, codec.vocabulary.tokens, size, tau, [])


def ask_run(options: Any) -> Asked:
    """The texts in the run's vocabulary, and what its oracle (and, with a source, its actor) says."""
    import torch

    from softbellman.oracle.report import Belief
    from softbellman.payoffs.payoff import describe_payoff
    from softbellman.training import load_oracle, load_run

    oracle = load_oracle(options.run, options.checkpoint, device=options.device)
    codec: Codec = oracle.target_codec
    reference, hypothesis = codec.encode(options.reference), codec.encode(options.hypothesis)

    special = codec.special

    def read(model: torch.nn.Module, source: list[int]) -> torch.Tensor:
        device = next(model.parameters()).device
        with torch.inference_mode():
            rows: torch.Tensor = model(
                torch.tensor([source], device=device),
                torch.tensor([[special.bos, *hypothesis]], device=device),
            )
        return rows[0]  # (1, P, V) -> (P, V)

    special_ids = special.never
    q = read(oracle.model, [*reference, special.eos])
    others = [Belief.of_values("learnt oracle", q, oracle.tau, special_ids)]
    if options.source is not None:
        actor = load_run(options.run, options.checkpoint, device=options.device)
        if actor.source_codec is None:
            raise UserError(f"--source: {options.run} captions images, it reads no sentence")
        logits = read(actor.model, actor.source_codec.frame.around(actor.source_codec.encode(options.source)))
        others.append(Belief.of_logits("actor", logits, special_ids))
    tau = oracle.tau if options.tau is None else options.tau
    learnt = f"{describe_payoff(oracle.settings.payoff)}, tau {oracle.tau:g}"
    return Asked(reference, hypothesis, codec.vocabulary.tokens, len(codec), tau, others, learnt, special)
