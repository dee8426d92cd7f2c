"""What a call costs on the host: every operator on so few and short rows that hardly anything else is left.

    python -m benchmarks.overhead [--device cuda] [--shapes 1x2 16x500] [--operators soft_value ...]
        [--passes forward recorded both] [--threads 1] [--cpu-time] [--repetitions 20] [--calls 200] [--json FILE]

"ours" is the call as users make it, "eager" the plain expression of `contenders.py`. The passes: `forward` under
`no_grad`, `recorded` a forward pass that records a graph, `both` that and the backward pass. Times are per call, from
loops of many; on a GPU they end when the last call returns, not when its work is done."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import softbellman as ops
from benchmarks._harness import (
    Timing,
    as_record,
    compare,
    environment,
    format_ratio,
    format_seconds,
    print_table,
    save_json,
    scaled,
)
from benchmarks._options import add_options, parse_shapes, settle
from benchmarks.contenders import OPERATORS, SMOOTHNESS, TAU, Inputs, make_inputs

PASSES = ("forward", "recorded", "both")
HEADER = ("operator", "pass", "ours", "eager", "eager / ours")
Call = Callable[[], tuple[Tensor, ...]]


class Case(NamedTuple):
    """A call and the leaves that its results are differentiated by."""

    call: Call
    leaves: tuple[Tensor, ...] = ()


def row_cases(data: Inputs) -> dict[str, Case]:
    """The operators on logits; those along sequences take the rows as one."""
    logits, q, _, actions, numbers, *_ = data
    one = Inputs(*(tensor.detach().unsqueeze(0) for tensor in data[:-1]), steps=data.steps)
    sequence = one.q.requires_grad_()
    return {
        "soft_value": Case(lambda: (ops.soft_value(q, tau=TAU),), (q,)),
        "soft_bellman_residual": Case(
            lambda: (ops.soft_bellman_residual(sequence, one.actions, one.numbers, tau=TAU),), (sequence,)
        ),
        "policy_value": Case(lambda: ops.policy_value(logits, q, tau=TAU), (logits, q)),
        "critic_loss": Case(lambda: ops.critic_loss(q, actions, numbers, smoothness=SMOOTHNESS)[:1], (q,)),
        "erac_critic_loss": Case(
            lambda: ops.erac_critic_loss(
                one.logits, one.target_q, sequence, one.actions, one.numbers, tau=TAU, smoothness=SMOOTHNESS
            )[:1],
            (sequence,),
        ),
        "actor_loss": Case(lambda: ops.actor_loss(logits, q, tau=TAU)[:1], (logits,)),
        "soft_target_cross_entropy": Case(
            lambda: (ops.soft_target_cross_entropy(logits, q, tau=TAU),), (logits,)
        ),
        "token_cross_entropy": Case(lambda: (ops.token_cross_entropy(logits, actions),), (logits,)),
        "sample_tokens": Case(lambda: ops.sample_tokens(logits, seed=1)),
    }


def token_cases(rows: int, device: str) -> dict[str, Case]:
    """Operators on token ids, of rows of 30."""
    tokens = torch.randint(4, 4568, (rows, 30), device=device)
    edits: dict[str, Any] = {"samples": 4, "proposal": "corrupt", "vocabulary": 4568, "seed": 1}
    return {
        "sample_edits": Case(lambda: ops.sample_edits(tokens, special_ids=(0, 1, 2, 3), **edits)),
        "prefix_bleu": Case(lambda: (ops.prefix_bleu(tokens, tokens),)),
    }


def cases(shape: tuple[int, int], device: str) -> dict[str, dict[str, Case]]:
    """Every operator with its contenders."""
    data = make_inputs(*shape, torch.float32, device)
    for matrix in (data.logits, data.q):
        matrix.requires_grad_()
    found = {}
    for name, case in (row_cases(data) | token_cases(shape[0], device)).items():
        found[name] = {"ours": case}
        if name in OPERATORS:
            leaves = tuple(getattr(data, leaf) for leaf in OPERATORS[name].gradients)
            found[name]["eager"] = Case(partial(OPERATORS[name].plain, data), leaves)
    return found


def loop(case: Case, which: str, calls: int) -> Callable[[object], None]:
    """`calls` calls of one pass."""
    call, leaves = case
    upstream = [torch.ones_like(result) for result in call()] if which == "both" else []

    def run(_: object) -> None:
        with torch.set_grad_enabled(which != "forward"):
            for _ in range(calls):
                results = call()
                if which == "both":
                    torch.autograd.grad(results, leaves, upstream)

    return run


def measure(shape: tuple[int, int], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Times of a call and their ratios to ours. All operators take turns in a round: a busy moment hits every line."""
    on_device = arguments.device.startswith("cuda")
    clock = time.process_time if arguments.cpu_time else time.perf_counter

    def seconds(call: Callable[[], object]) -> float:
        if on_device:
            torch.cuda.synchronize()  # the launches of the last contender
        start = clock()
        call()
        return clock() - start

    found = cases(shape, arguments.device)
    lines = [
        (operator, which)
        for operator in arguments.operators
        for which in arguments.passes
        if which == "forward" or found[operator]["ours"].leaves
    ]
    loops = {
        f"{operator} {which} {name}": loop(case, which, arguments.calls)
        for operator, which in lines
        for name, case in found[operator].items()
    }
    comparison = compare(loops, [None], repetitions=arguments.repetitions, measure=seconds)
    records = []
    for operator, which in lines:
        line = f"{operator} {which}"
        times = {name: comparison.timings[f"{line} {name}"] for name in found[operator]}
        ratios = {
            name: comparison.ratio(f"{line} {name}", f"{line} ours") for name in times if name != "ours"
        }
        records.append(
            {
                "operator": operator,
                "pass": which,
                "rows": shape[0],
                "vocabulary": shape[1],
                "times": {
                    name: as_record(scaled(timing, 1 / arguments.calls)) for name, timing in times.items()
                },
                "ratios_to_ours": {name: as_record(ratio) for name, ratio in ratios.items()},
                "clock": "processor" if arguments.cpu_time else "wall",
            }
        )
    return records


def cells(record: dict[str, Any]) -> list[str]:
    def show(kind: str, name: str, text: Callable[[Timing], str]) -> str:
        return text(Timing(**record[kind][name])) if name in record[kind] else "-"

    return [
        record["operator"],
        record["pass"],
        *(show("times", name, format_seconds) for name in ("ours", "eager")),
        show("ratios_to_ours", "eager", format_ratio),
    ]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    names = list(cases((2, 2), "cpu"))
    add_options(parser, quick="one tiny shape, two calls: does it run, not how fast")
    parser.add_argument("--shapes", nargs="+", metavar="NxV", help="rows x vocabulary (default 1x2 16x500)")
    parser.add_argument("--operators", nargs="+", choices=names, default=names)
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES)
    parser.add_argument("--calls", type=int, help="calls in a round (default 200; 2 with --quick)")
    parser.set_defaults(threads=1)
    arguments = parser.parse_args(argv)
    settle(parser, arguments)
    arguments.calls = arguments.calls or (2 if arguments.quick else 200)
    default = ["2x3"] if arguments.quick else ["1x2", "16x500"]
    arguments.shapes = parse_shapes(parser, arguments.shapes or default, "ROWSxVOCABULARY", "16x500")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    clock = "processor" if arguments.cpu_time else "wall"
    print(
        f"{arguments.device}, threads: {arguments.threads}, {clock} time, medians of {arguments.repetitions}"
    )
    machine = environment()
    records: list[dict[str, Any]] = []
    for shape in arguments.shapes:
        found = measure(shape, arguments)
        print(f"\n{shape[0]}x{shape[1]}\n")
        print_table(HEADER, [cells(record) for record in found])
        records += found
        if arguments.json:
            save_json(arguments.json, "overhead", records, machine)


if __name__ == "__main__":
    main()
