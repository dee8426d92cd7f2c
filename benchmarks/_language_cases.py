"""The losses of `benchmarks.language_models`: ours and what others compute them with, from hidden states to gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import softbellman
from softbellman import Head

ENTROPY_WEIGHT = 0.01
BETA = 0.5  # of the Jensen-Shannon divergence, where all libraries agree on what it weighs
KNOWN = 16  # tokens of a sparse teacher
CHECKPOINTED_ROWS = 64
TRL_COLUMNS = 32768  # of a tile, TRL's own choice
CHECKED_ROWS = 64
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}


class Data(NamedTuple):
    """Hidden states and output weights of a student and a teacher, and numbers of the rows."""

    hidden: Tensor  # [N, H]
    weight: Tensor  # [V, H]
    teacher_hidden: Tensor  # [N, H]
    teacher_weight: Tensor  # [V, H]
    targets: Tensor  # [N]
    numbers: Tensor  # [N], float32
    known: Tensor  # [N, K] ids
    known_log_probs: Tensor  # [N, K]

    def rows(self, count: int) -> Data:
        """The leading rows."""
        return Data(*(one if place in (1, 3) else one[:count] for place, one in enumerate(self)))

    def head(self, **how: Any) -> Head:
        return Head(self.hidden, self.weight, **how)

    def teacher(self) -> Head:
        return Head(self.teacher_hidden, self.teacher_weight)


Contender = Callable[[Data], Tensor]  # the summed loss
Plain = Callable[[Data, Tensor, Tensor | None], Tensor]  # of the student's and the teacher's logits


class Case(NamedTuple):
    """`two`: whether a teacher's logits are read, too."""

    two: bool
    plain: Plain
    ours: dict[str, Contender]
    others: dict[
        str, Callable[[], Contender]
    ]  # made where the library is there, else ImportError or AttributeError

    def contenders(self) -> tuple[dict[str, Contender], dict[str, str]]:
        """By name, and why some are missing."""
        found = {**self.ours, "eager": self._eager, "checkpointed": self._checkpointed}
        missing = {}
        for name, make in self.others.items():
            try:
                found[name] = make()
            except (ImportError, AttributeError) as error:
                missing[name] = f"{type(error).__name__}: {error}"
        return found, missing

    def _eager(self, data: Data) -> Tensor:
        teacher = F.linear(data.teacher_hidden, data.teacher_weight) if self.two else None
        return self.plain(data, F.linear(data.hidden, data.weight), teacher)

    def _checkpointed(self, data: Data) -> Tensor:
        """Eager in chunks whose logits are made again in the backward pass."""
        losses = []
        for start in range(0, len(data.hidden), CHECKPOINTED_ROWS):
            rows = slice(start, start + CHECKPOINTED_ROWS)
            part = Data(*(one if place in (1, 3) else one[rows] for place, one in enumerate(data)))
            losses.append(
                checkpoint(
                    lambda *_, part=part: self._eager(part), part.hidden, part.weight, use_reentrant=False
                )
            )
        return torch.stack(losses).sum()


def make_data(rows: int, hidden: int, vocabulary: int, dtype: torch.dtype, device: str) -> Data:
    """Logits of standard deviation about 2."""
    generator = torch.Generator().manual_seed(rows + vocabulary)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    scale = 2 / hidden**0.5
    targets = torch.randint(vocabulary, (rows,), generator=generator).to(device)
    known = (targets.unsqueeze(-1) + 7 * torch.arange(KNOWN, device=device)) % vocabulary
    return Data(
        normal(rows, hidden),
        normal(vocabulary, hidden) * scale,
        normal(rows, hidden),
        normal(vocabulary, hidden) * scale,
        targets,
        torch.randn(rows, generator=generator).to(device),
        known,
        torch.full(known.shape, -math.log(2 * KNOWN), device=device),
    )


def gradients(contender: Contender, data: Data) -> tuple[Tensor, Tensor]:
    """Forward and backward: what is timed."""
    hidden, weight = (one.detach().requires_grad_() for one in (data.hidden, data.weight))
    loss = contender(data._replace(hidden=hidden, weight=weight))
    return torch.autograd.grad(loss, (hidden, weight))  # type: ignore[return-value]


def errors(case: Case, contenders: dict[str, Contender], data: Data) -> dict[str, float]:
    """The largest error of a gradient over its largest entry, against float64; RuntimeError above the tolerance."""
    part = data.rows(CHECKED_ROWS)
    wide = Data(*(one.double() if one.is_floating_point() else one for one in part))
    exact = gradients(case._eager, wide)
    found = {}
    for name, contender in contenders.items():
        pairs = zip(gradients(contender, part), exact, strict=True)
        found[name] = max(
            float((one.double() - other).abs().max() / other.abs().max()) for one, other in pairs
        )
        if not found[name] <= TOLERANCE[data.hidden.dtype]:
            raise RuntimeError(f"{name}: error {found[name]:.3g}")
    return found


# ---- plain expressions, in the dtype of the logits ----


def _log_policy_statistics(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    log_policy = F.log_softmax(logits, -1)
    log_prob = log_policy.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return log_prob, -(log_policy.exp() * log_policy).sum(-1)


def _plain_cross_entropy(data: Data, logits: Tensor, _: Tensor | None) -> Tensor:
    return F.cross_entropy(logits, data.targets, reduction="sum")


def _plain_objective(data: Data, logits: Tensor, _: Tensor | None) -> Tensor:
    log_prob, entropy = _log_policy_statistics(logits, data.targets)
    return (data.numbers * log_prob).sum() + ENTROPY_WEIGHT * entropy.sum()


def _plain_forward_kl(_: Data, logits: Tensor, teacher: Tensor | None) -> Tensor:
    assert teacher is not None
    log_policy, log_teacher = F.log_softmax(logits, -1), F.log_softmax(teacher, -1)
    return F.kl_div(log_policy, log_teacher, reduction="sum", log_target=True)


def _plain_reverse_kl(_: Data, logits: Tensor, teacher: Tensor | None) -> Tensor:
    assert teacher is not None
    log_policy, log_teacher = F.log_softmax(logits, -1), F.log_softmax(teacher, -1)
    return F.kl_div(log_teacher, log_policy, reduction="sum", log_target=True)


def _plain_jsd(_: Data, logits: Tensor, teacher: Tensor | None) -> Tensor:
    assert teacher is not None
    log_policy, log_teacher = F.log_softmax(logits, -1), F.log_softmax(teacher, -1)
    mixture = torch.lerp(log_policy.exp(), log_teacher.exp(), BETA).log()
    of_teacher = F.kl_div(mixture, log_teacher, reduction="sum", log_target=True)
    return BETA * of_teacher + (1 - BETA) * F.kl_div(mixture, log_policy, reduction="sum", log_target=True)


def _plain_sparse(data: Data, logits: Tensor, _: Tensor | None) -> Tensor:
    log_policy = F.log_softmax(logits, -1).gather(-1, data.known)
    rest = torch.log1p(-log_policy.exp().sum(-1))
    known = data.known_log_probs
    return (known.exp() * (known - log_policy)).sum() + (0.5 * (math.log(0.5) - rest)).sum()


# ---- ours ----


def _our_cross_entropy(reduction: str, **how: Any) -> Contender:
    def loss(data: Data) -> Tensor:
        found = softbellman.token_cross_entropy(
            data.head(**how), data.targets, reduction=reduction, inplace_backward=reduction == "sum"
        )
        return found.sum()

    return loss


def _our_narrow_cross_entropy(data: Data) -> Tensor:
    return _our_cross_entropy("sum", accumulation_dtype=data.weight.dtype)(data)


def _our_objective(data: Data, **how: Any) -> Tensor:
    options = {"log_prob_weights": data.numbers, "entropy_weights": ENTROPY_WEIGHT, "inplace_backward": True}
    return softbellman.token_objective(data.head(**how), data.targets, **options).objective


def _our_narrow_objective(data: Data) -> Tensor:
    return _our_objective(data, accumulation_dtype=data.weight.dtype)


def _our_statistics(data: Data, **how: Any) -> Tensor:
    log_prob, entropy = softbellman.token_statistics(
        data.head(**how), data.targets, outputs=("log_prob", "entropy")
    )
    return (data.numbers * log_prob).sum() + ENTROPY_WEIGHT * entropy.sum()


def _our_divergence(kind: str, reduction: str, narrow: bool = False) -> Contender:
    def loss(data: Data) -> Tensor:
        how = {"accumulation_dtype": data.weight.dtype} if narrow else {}
        found = softbellman.divergence(
            data.head(**how),
            data.teacher(),
            kind=kind,
            beta=BETA,
            reduction=reduction,
            inplace_backward=reduction == "sum",
        )
        return found.sum()

    return loss


def _our_sparse(reduction: str) -> Contender:
    def loss(data: Data) -> Tensor:
        options = {"reduction": reduction, "inplace_backward": reduction == "sum"}
        found = softbellman.sparse_divergence(data.head(), data.known, data.known_log_probs, **options)
        return found.sum()

    return loss


# ---- other libraries, where they are installed ----


def _trl_log_probs(outputs: tuple[str, ...]) -> Callable[[], Contender]:
    def make() -> Contender:
        function = import_module("trl.kernels").ChunkedLogProbFunction

        def loss(data: Data) -> Tensor:
            parts = (data.hidden, data.weight, None, data.targets, 1.0, TRL_COLUMNS, None, 1.0, outputs)
            log_prob, entropy, *_ = function.apply(*parts)
            if not outputs:
                return -log_prob.sum()
            return (data.numbers * log_prob).sum() + ENTROPY_WEIGHT * entropy.sum()

        return loss

    return make


def _trl_divergence(beta: float) -> Callable[[], Contender]:
    def make() -> Contender:
        function = import_module("trl.kernels.chunked_divergence").ChunkedDivergenceFunction

        def loss(data: Data) -> Tensor:
            teacher = (data.teacher_hidden, data.teacher_weight, None)
            return function.apply(data.hidden, data.weight, None, *teacher, beta)[0].sum()

        return loss

    return make


def _torch_cross_entropy() -> Contender:
    function, options = F.linear_cross_entropy, torch.nn.LinearCrossEntropyOptions()
    return lambda data: function(data.hidden, data.weight, data.targets, reduction="sum", options=options)


def _liger_jsd() -> Contender:
    module = import_module("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss
    made = module(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=BETA, compiled=False)

    def loss(data: Data) -> Tensor:
        found = made(data.hidden, data.weight, data.teacher_hidden, data.teacher_weight, data.targets)
        found = found[0] if isinstance(found, tuple) else found
        return found * len(data.hidden)

    return loss


def _divergences(kind: str, plain: Plain, beta: float, **others: Callable[[], Contender]) -> Case:
    ours = {
        "sum": _our_divergence(kind, "sum"),
        "rows": _our_divergence(kind, "none"),
        "narrow": _our_divergence(kind, "sum", narrow=True),
    }
    return Case(True, plain, ours, {"trl": _trl_divergence(beta), **others})


CASES = {
    "cross_entropy": Case(
        False,
        _plain_cross_entropy,
        {
            "sum": _our_cross_entropy("sum"),
            "rows": _our_cross_entropy("none"),
            "narrow": _our_narrow_cross_entropy,
        },
        {"trl": _trl_log_probs(()), "torch": _torch_cross_entropy},
    ),
    "log_prob_entropy": Case(
        False,
        _plain_objective,
        {"sum": _our_objective, "rows": _our_statistics, "narrow": _our_narrow_objective},
        {"trl": _trl_log_probs(("entropy",))},
    ),
    "forward_kl": _divergences("forward_kl", _plain_forward_kl, 0.0),
    "reverse_kl": _divergences("reverse_kl", _plain_reverse_kl, 1.0),
    "jsd": _divergences("jsd", _plain_jsd, BETA, liger=_liger_jsd),
    "sparse": Case(False, _plain_sparse, {"sum": _our_sparse("sum"), "rows": _our_sparse("none")}, {}),
}
