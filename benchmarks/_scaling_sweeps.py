"""The sweeps of `benchmarks.scaling`: an operator, what grows, what stays, and who computes it at each size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import bleu, edit_distance, edits
from benchmarks._bench import Bench, Line
from benchmarks._memory import peak_bytes
from benchmarks._passes import make_call, require_gradients
from benchmarks.contenders import OPERATORS, Inputs, Operator
from benchmarks.linear_contenders import CASES, contenders, errors, fresh, make_heads, run_case
from softbellman.payoffs import prefix_bleu, prefix_edit_distance, sample_edits

# Computes once, on the copy of its input that the turn picks.
Call = Callable[[int], object]

CALLS = 10  # of an operator that takes microseconds, timed together
BATCHES = 4


class Scale(NamedTuple):
    """How large the sweeps are."""

    vocabularies: Sequence[int]
    elements: int  # of each matrix while V grows
    vocabulary: int  # while something else grows
    rows: Sequence[int]
    sequences: int  # of the residual while T grows
    steps: Sequence[int]
    sources: int
    lengths: Sequence[int]
    length: int  # while K grows
    samples: Sequence[int]
    linear_rows: int
    hidden: int


FULL = Scale(
    vocabularies=(1024, 4096, 16384, 65536, 262144),
    elements=1 << 22,
    vocabulary=4096,
    rows=(64, 256, 1024, 4096),
    sequences=8,
    steps=(8, 16, 32, 64, 128),
    sources=50,
    lengths=(16, 32, 64, 128, 256),
    length=50,
    samples=(1, 2, 4, 8, 16),
    linear_rows=1280,
    hidden=64,
)
QUICK = Scale(
    vocabularies=(64, 128, 256),
    elements=2048,
    vocabulary=64,
    rows=(4, 8, 16),
    sequences=2,
    steps=(4, 8, 16),
    sources=2,
    lengths=(8, 12, 16),
    length=8,
    samples=(1, 2, 4),
    linear_rows=96,
    hidden=8,
)


@dataclass(frozen=True)
class Sweep:
    """`contenders` hold one call a size; the first of them is ours. Times and peaks are divided by the `units` of a
    call.

    `streams` read and copy one matrix in the same rounds. `wall` asks for the wall's clock (several threads). With
    `again` an untimed call of the same goes before every timed one: behind the largest size of another contender a
    small one would be timed with cold caches and a heap that was given back.
    `peaks` are bytes by contender, a number a size; `facts` are further entries of the record.
    """

    operator: str
    axis: str
    fixed: str
    sizes: Sequence[int]
    contenders: Mapping[str, Sequence[Call]]
    unit: str = "call"
    units: Sequence[int] = ()
    streams: Mapping[str, Call] = field(default_factory=dict)
    peaks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    wall: bool = False
    again: bool = True
    rounds_share: float = 1.0
    warmup: int = 1


class Options(NamedTuple):
    scale: Scale
    compiled: bool
    rotated: bool
    thread_counts: Sequence[int]


def _matrices(
    name: str,
    which: str,
    options: Options,
    *,
    axis: str,
    fixed: str,
    shapes: Mapping[int, tuple[int, int]],
    steps: bool = False,
    unit: str = "call",
) -> Sweep:
    """An operator on matrices [N, V], `shapes` by size; with `steps` a size is T of its sequences."""
    operator = OPERATORS[name]
    torch._dynamo.reset()
    calls: dict[str, list[Call]] = {}
    peaks: dict[str, list[int]] = {}
    streams: dict[str, Call] = {}
    lines = {size: Line(*shape, torch.float32) for size, shape in shapes.items()}
    for size, line in lines.items():
        bench = Bench(line, device="cpu", repetitions=2, compiled=options.compiled, rotated=options.rotated)
        if steps:
            bench.inputs = [data._replace(steps=size) for data in bench.inputs]
        found = bench.contenders(operator, which)
        for contender, call in found.calls.items():
            calls.setdefault(contender, []).append(_turns(call, bench.inputs))
            peaks.setdefault(contender, []).append(found.memory[contender])
        streams = {stream: _turns(call, bench.inputs) for stream, call in bench.streams.items()}
    reads, writes = operator.traffic(which)
    sizes = list(shapes)
    return Sweep(
        operator=f"{name}, {'with gradient' if which == 'both' else which}",
        axis=axis,
        fixed=fixed,
        sizes=sizes,
        contenders=calls,
        unit=unit,
        units=[lines[size].rows if unit == "row" else 1 for size in sizes],
        streams=streams if unit == "row" else {},  # all of one size
        peaks=peaks,
        again=unit != "row",  # every call moves as much
        facts={
            "matrices_read": reads,
            "matrices_written": writes,
            "matrix_bytes": [lines[size].matrix_bytes for size in sizes],
            "stream_bytes": lines[sizes[-1]].matrix_bytes,
        },
    )


def _turns(call: Callable[[Any], object], inputs: Sequence[Any]) -> Call:
    return lambda turn: call(inputs[turn % len(inputs)])


def vocabulary(name: str, which: str, options: Options) -> Sweep:
    scale = options.scale
    shapes = {size: (scale.elements // size, size) for size in scale.vocabularies}
    fixed = f"N x V = {scale.elements:,}"
    return _matrices(name, which, options, axis="V", fixed=fixed, shapes=shapes, unit="row")


def rows(name: str, which: str, options: Options) -> Sweep:
    scale = options.scale
    shapes = {size: (size, scale.vocabulary) for size in scale.rows}
    return _matrices(name, which, options, axis="N", fixed=f"V = {scale.vocabulary:,}", shapes=shapes)


def residual(options: Options) -> Sweep:
    scale = options.scale
    shapes = {size: (scale.sequences * size, scale.vocabulary) for size in scale.steps}
    fixed = f"B = {scale.sequences}, V = {scale.vocabulary:,}"
    name = "soft_bellman_residual"
    return _matrices(name, "both", options, axis="T", fixed=fixed, shapes=shapes, steps=True)


def linear(name: str, options: Options) -> Sweep:
    """Hidden states to loss and gradients: the logits of a chunk at a time (sum, rows), or whole logits."""
    scale, case = options.scale, CASES[name]
    calls: dict[str, list[Call]] = {}
    peaks: dict[str, list[int]] = {}
    for size in scale.vocabularies:
        heads = make_heads(scale.linear_rows, scale.hidden, size, torch.float32, "cpu")
        functions = contenders(case, compiled=False)
        errors(case, functions, heads)
        for contender, function in functions.items():
            call = partial(_run_heads, case, function, heads)
            calls.setdefault(contender, []).append(call)
            peaks.setdefault(contender, []).append(peak_bytes(partial(call, 0), "cpu"))
    return Sweep(
        operator=f"head: {name}, with gradient",
        axis="V",
        fixed=f"N = {scale.linear_rows:,}, H = {scale.hidden}",
        sizes=scale.vocabularies,
        contenders=calls,
        peaks=peaks,
        facts={
            "logits_bytes": [len(case.reads) * scale.linear_rows * size * 4 for size in scale.vocabularies]
        },
        rounds_share=0.15,  # a call at the largest V takes seconds
        again=False,
        warmup=0,  # the peaks have run everything
    )


def _run_heads(
    case: Operator, function: Callable[[Inputs], tuple[Tensor, ...]], heads: Inputs, _turn: int
) -> object:
    return run_case(case, function, fresh(heads))


def _bleu(axis: str, fixed: str, options: Options, shapes: Mapping[int, tuple[int, int]]) -> Sweep:
    """Prefix BLEU of B x K hypotheses of T tokens, (K, T) by size, one reference."""
    calls: dict[str, list[Call]] = {"ours": [], "dense": []}
    for samples, length in shapes.values():
        batches = [
            bleu.make_batch(options.scale.sources, samples, 1, seed, length) for seed in range(BATCHES)
        ]
        bleu.check_agreement(batches[0])
        calls["ours"].append(_turns(lambda batch: prefix_bleu(batch.hypotheses, batch.references), batches))
        calls["dense"].append(_turns(bleu.dense_prefix_bleu, batches))
    return Sweep("prefix_bleu", axis, fixed, list(shapes), calls)


def bleu_lengths(options: Options) -> Sweep:
    shapes = {size: (1, size) for size in options.scale.lengths}
    return _bleu("T", f"B = {options.scale.sources}, K = 1", options, shapes)


def bleu_samples(options: Options) -> Sweep:
    shapes = {size: (size, options.scale.length) for size in options.scale.samples}
    return _bleu("K", f"B = {options.scale.sources}, T = {options.scale.length}", options, shapes)


def distance_lengths(options: Options) -> Sweep:
    """Prefix edit distances against the rows of the distance in plain tensor operations."""
    calls: dict[str, list[Call]] = {"ours": [], "eager": []}
    for size in options.scale.lengths:
        batches = [
            edit_distance.make_batch(
                options.scale.sources, 1, size, edits.VOCABULARY, seed, torch.device("cpu")
            )
            for seed in range(BATCHES)
        ]
        found = prefix_edit_distance(batches[0].hypotheses, batches[0].references)
        expected = edit_distance.plain_rows(batches[0])[..., -1]  # before every token, not behind it
        if not torch.equal(found[..., :-1], expected[..., 1:]):
            raise RuntimeError(f"prefix_edit_distance: other distances than the plain method's at T = {size}")
        calls["ours"].append(
            _turns(lambda batch: prefix_edit_distance(batch.hypotheses, batch.references), batches)
        )
        calls["eager"].append(_turns(edit_distance.plain_rows, batches))
    fixed = f"B = {options.scale.sources}, K = 1"
    return Sweep("prefix_edit_distance", "T", fixed, options.scale.lengths, calls)


def _edits(
    operator: Callable[..., Any],
    proposal: str,
    axis: str,
    fixed: str,
    shapes: Mapping[int, edits.Size],
    **settings: Any,
) -> Sweep:
    """Edits of B references, K of each, L tokens, by size: CALLS calls together."""
    calls: list[Call] = []
    for shape in shapes.values():
        batches = [edits.make_batch(shape, seed) for seed in range(BATCHES)]
        every = settings | edits.options(shape, proposal)
        calls.append(_turns(partial(edits.repeat, operator, CALLS, **every), batches))
    name = f"{operator.__name__}, {proposal}"
    sizes = list(shapes)
    return Sweep(name, axis, fixed, sizes, {"ours": calls}, units=[CALLS] * len(sizes))


def edits_lengths(proposal: str, options: Options) -> Sweep:
    shapes = {size: edits.Size(options.scale.sources, 4, size) for size in options.scale.lengths}
    return _edits(sample_edits, proposal, "T", f"B = {options.scale.sources}, K = 4", shapes)


def edits_samples(proposal: str, options: Options) -> Sweep:
    scale = options.scale
    shapes = {size: edits.Size(scale.sources, size, scale.length) for size in scale.samples}
    fixed = f"B = {scale.sources}, T = {scale.length}"
    return _edits(edits.weighted_batch, proposal, "K", fixed, shapes, tau=edits.TAU)


def vocabulary_threads(options: Options) -> Sweep:
    """policy_value with gradient: the same bits at every number of threads."""
    scale, operator = options.scale, OPERATORS["policy_value"]
    line = Line(max(scale.rows), scale.vocabulary, torch.float32)
    bench = Bench(line, device="cpu", repetitions=2, compiled=False, rotated=False)
    require_gradients(bench.inputs, operator, "both")
    _, call = make_call(operator, "both", operator.ours)
    fixed = f"N = {line.rows:,}, V = {line.vocabulary:,}"

    def results(turn: int) -> Sequence[Tensor]:
        data = bench.inputs[turn % len(bench.inputs)]
        gradients: Any = call(data)
        return (*(value.detach() for value in operator.ours(data)), *gradients)

    return _threads("policy_value, with gradient", fixed, options, _turns(call, bench.inputs), results)


def bleu_threads(options: Options) -> Sweep:
    """Prefix BLEU: the same bits at every number of threads."""
    scale = options.scale
    samples = max(scale.samples)
    batches = [bleu.make_batch(scale.sources, samples, 1, seed, scale.length) for seed in range(BATCHES)]
    call = _turns(lambda batch: prefix_bleu(batch.hypotheses, batch.references), batches)
    fixed = f"B = {scale.sources}, K = {samples}, T = {scale.length}"

    def results(turn: int) -> Sequence[Tensor]:
        batch = batches[turn % BATCHES]
        return (prefix_bleu(batch.hypotheses, batch.references),)

    return _threads("prefix_bleu", fixed, options, call, results)


def _threads(
    operator: str, fixed: str, options: Options, call: Call, results: Callable[[int], Sequence[Tensor]]
) -> Sweep:
    counts = options.thread_counts
    check_bits(operator, counts, results)

    def with_threads(count: int, turn: int) -> None:
        torch.set_num_threads(count)
        call(turn)

    calls = {"ours": [partial(with_threads, count) for count in counts]}
    return Sweep(operator, "threads", fixed, counts, calls, wall=True, facts={"same_bits": True})


def check_bits(operator: str, counts: Sequence[int], results: Callable[[int], Sequence[Tensor]]) -> None:
    """RuntimeError where another number of threads gives other bits."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(counts[0])
        expected = results(0)
        for count in counts[1:]:
            torch.set_num_threads(count)
            if not all(torch.equal(*pair) for pair in zip(results(0), expected, strict=True)):
                raise RuntimeError(f"{operator}: {count} threads give other bits than {counts[0]}")
    finally:
        torch.set_num_threads(threads)


# By axis, in the order of the tables.
SWEEPS: dict[str, tuple[Callable[[Options], Sweep], ...]] = {
    "V": (
        partial(vocabulary, "soft_value", "both"),
        partial(vocabulary, "policy_value", "both"),
        partial(vocabulary, "sample_tokens", "forward"),
        partial(linear, "token_cross_entropy"),
    ),
    "N": (partial(rows, "policy_value", "both"),),
    "T": (
        residual,
        bleu_lengths,
        distance_lengths,
        partial(edits_lengths, "ngram"),
        partial(edits_lengths, "edit"),
    ),
    "K": (bleu_samples, partial(edits_samples, "ngram")),
    "threads": (vocabulary_threads, bleu_threads),
}
