"""`softbellman COMMAND ...`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from softbellman.cli.common import UserError, run_command
from softbellman.config import nearest

COMMANDS = {
    "train": "train a translator or a captioner; the same as softbellman-train",
    "translate": "translate standard input with the model of a run folder",
    "caption": "caption images, or their features, with the model of a run folder",
    "export": "write the tuned model of a run, of kind hf, as transformers reads it",
    "average": "the mean of a run's last checkpoints as a file of weights",
    "captions": "features from pixels (captions extract), example scenes (scenes), pictures of captions (sheet)",
    "show": "what a run was made of, how far it is, what happened to it",
    "data": "public corpora (data fetch, data list) and generated ones as files (data export)",
    "table": "the results of finished runs as a table: means over seeds, differences",
    "experiment": "train the runs of a comparison, such as the tables of the paper, and report on them",
    "sweep": "train a settings file over seeds and values of settings, and report on the runs",
    "plot": "learning curves of runs with bands over their seeds, as PNG or PDF",
    "report": "what many runs say together: a page with intervals, verdicts and figures",
    "score": "BLEU, CIDEr-D, ROUGE-L, chrF and TER of the hypotheses on standard input",
    "oracle": "what an exact oracle wants at every position of a hypothesis, and a learnt one",
    "credit": "reward, Q, advantage, entropy and oracle target of every token, as a page and pictures",
    "info": "what was built, and what devices are seen",
}

HELP = """usage: softbellman COMMAND [OPTION ...]

Entropy-regularised actor-critic training of sequence-to-sequence models.

commands:
{commands}

options:
  --version    print the version
  --debug      show the full trace of an error (also SOFTBELLMAN_DEBUG=1)
  -h, --help   this text; softbellman COMMAND --help explains a command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    return run_command(_dispatch, arguments)


def _dispatch(arguments: Sequence[str]) -> int:
    rest = list(arguments)
    while rest and rest[0] == "--debug":
        rest = [*rest[1:], "--debug"] if any(word != "--debug" for word in rest) else []
    if not rest or rest[0] in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {name:<12} {text}" for name, text in COMMANDS.items())))
        return 0
    command = rest.pop(0)
    if command == "--version":
        import softbellman

        print(f"softbellman {softbellman.__version__}")
        return 0
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}; nearest: {nearest(command, COMMANDS)!r}")
    module = importlib.import_module(f"softbellman.cli.{command}")
    return int(module.command(rest))
