"""Target tokens of rows, and which rows have one."""

from __future__ import annotations

from torch import Tensor

from softbellman.core.checks import check_ids, check_integer
from softbellman.core.head import Rows


def real_targets(
    targets: Tensor, mask: Tensor | None, ignore_index: int | None, rows_name: str, rows: Rows
) -> tuple[Tensor, Tensor | None]:
    """The targets, checked, and the mask without the rows whose target is `ignore_index`."""
    check_ids("targets", targets, rows_name, rows)
    if ignore_index is None:
        return targets, mask
    check_integer("ignore_index", ignore_index, -(2**63), 2**63 - 1, kind="be an int or None")
    real = targets != ignore_index
    return targets, real if mask is None else real & mask
