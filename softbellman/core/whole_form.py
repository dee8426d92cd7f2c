"""The whole form of an operator on rows: it reads stored rows `[..., V]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from softbellman.core.launch import new_gradient, per_row
from softbellman.core.operator import register, register_backward

if TYPE_CHECKING:
    from softbellman.core.row_operator import RowOperator


def plain_name(name: str) -> str:
    return name.removesuffix("?")


def split_saved(inputs: Sequence[Any]) -> tuple[list[Any], list[Tensor | None]]:
    """What a backward pass needs as it is, and what autograd keeps; None in the one where it is in the other.

    Autograd refuses tensors made under `torch.inference_mode`, such as a teacher's: constants, kept as they are.
    """

    def is_kept(one: object) -> bool:
        return isinstance(one, Tensor) and not one.is_inference()

    return [None if is_kept(one) else one for one in inputs], [
        one if is_kept(one) else None for one in inputs
    ]


class WholeForm:
    """The operator on stored rows `[..., V]`."""

    def __init__(self, operator: RowOperator) -> None:
        self.of = operator
        self.places = operator.differentiable_places
        optional = {name: "Tensor? " if name.endswith("?") else "Tensor " for name in operator.rows}
        rows = ", ".join(kind + plain_name(name) for name, kind in optional.items())
        inputs = "".join(f", {one}" for one in operator.inputs)
        arriving = "".join(f"Tensor? grad_{name}, " for name in operator.results[: operator.outputs])
        saved = "".join(f", Tensor {name}" for name in operator.saved)
        wanted = "".join(f", bool want_{name}" for name in operator.differentiable)
        gradients = ", ".join(f"Tensor grad_{name}" for name in operator.differentiable)
        results = ", ".join(f"Tensor {name}" for name in operator.results)
        self.gradient = register_backward(
            f"{operator.name}_backward",
            f"({arriving}{rows}{inputs}, Tensor? mask{saved}{wanted}) -> ({gradients})",
            kernel=self.backward,
            fake=lambda *arguments: self.backward(*arguments, write=False),
        )
        self.operator = register(
            operator.name,
            f"({rows}{inputs}, Tensor? mask) -> ({results})",
            kernel=operator.forward,
            fake=self.fake,
            backward=self.autograd,
            setup_context=self.setup_context,
        )

    def fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        like = per_row(arguments[0])
        sizes = self.of.sizes(arguments[len(self.of.rows) :])
        return tuple(like.new_empty((*like.shape, *size)) for size in sizes)

    def backward(self, *arguments: Any, write: bool = True) -> Any:
        count = len(self.places)
        passed, wanted = arguments[:-count], arguments[-count:]
        rows = passed[self.of.outputs : self.of.outputs + len(self.of.rows)]
        gradients = [
            None
            if not want
            else new_gradient(rows[place])
            if write
            else rows[place].new_empty(rows[place].shape)
            for place, want in zip(self.places, wanted, strict=True)
        ]
        if write:
            self.of.backward(*passed, *gradients)
        absent = passed[self.of.outputs].new_empty
        given = tuple(absent(0) if gradient is None else gradient for gradient in gradients)
        return given[0] if count == 1 else given

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        of = self.of
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[of.outputs :])
        ctx.plain, tensors = split_saved(inputs)
        saved = [result for name, result in zip(of.results, output, strict=True) if name in of.saved]
        ctx.save_for_backward(*tensors, *saved)

    def autograd(self, ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
        of, count = self.of, len(ctx.plain)
        gradients: list[Tensor | None] = [None] * count
        upstream = arriving[: of.outputs]
        wanted = [bool(ctx.needs_input_grad[place]) for place in self.places]
        if any(gradient is not None for gradient in upstream) and any(wanted):
            kept = ctx.saved_tensors  # read once: checkpoints give it once
            tensors, saved = kept[:count], kept[count:]
            inputs = [
                tensor if plain is None else plain for tensor, plain in zip(tensors, ctx.plain, strict=True)
            ]
            computed = self.gradient(*upstream, *inputs, *saved, *wanted)
            computed = (computed,) if len(wanted) == 1 else computed
            for place, want, gradient in zip(self.places, wanted, computed, strict=True):
                gradients[place] = gradient if want else None
        return tuple(gradients)
