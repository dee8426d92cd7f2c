"""How operators call a kernel by field name: copies of strided vectors, what is refused before anything runs."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.launch import launch, row_matrix


def soft_value(q: Tensor, mask: Tensor | None = None, value: Tensor | None = None) -> Tensor:
    value, correction = torch.zeros(q.shape[:-1]) if value is None else value, torch.zeros(q.shape[:-1])
    launch("soft_value_forward", q, q=row_matrix(q), tau=1.0, mask=mask, value=value, correction=correction)
    return value


def test_a_strided_vector_is_read_from_a_copy() -> None:
    q, mask = torch.randn(3, 4), torch.tensor([True, False, False, False, True, False])[::2]
    assert not mask.is_contiguous()
    expected = q.logsumexp(-1) * mask
    torch.testing.assert_close(soft_value(q, mask), expected)


def test_a_strided_result_is_refused() -> None:
    """It would be written into a copy that nobody sees."""
    with pytest.raises(ValueError, match="value is written and must be contiguous"):
        soft_value(torch.randn(3, 4), value=torch.zeros(6)[::2])


def test_rows_shared_by_stride_0_are_read() -> None:
    q = torch.randn(4)
    torch.testing.assert_close(soft_value(q.expand(3, 4)), q.logsumexp(0).expand(3))


def test_nothing_runs_without_elements() -> None:
    launch("no such kernel", torch.empty(0, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.cuda
def test_tensors_of_another_device_are_refused() -> None:
    q = torch.randn(3, 4)
    with pytest.raises(ValueError, match="mask must be on cpu like the rows, got cuda:0"):
        soft_value(q, torch.ones(3, dtype=torch.bool, device="cuda"))
    with pytest.raises(ValueError, match="mask must be on cuda:0 like the rows, got cpu"):
        soft_value(q.cuda(), torch.ones(3, dtype=torch.bool))


def test_fields_live_until_the_kernel_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that nobody else holds: copies of strided vectors and of rows, and what the caller made for the call."""
    held: list[weakref.ref[Tensor]] = []

    def made(tensor: Tensor) -> Tensor:
        held.append(weakref.ref(tensor))
        return tensor

    def probe(**fields: object) -> None:
        assert len(held) == 2 and all(reference() is not None for reference in held)

    monkeypatch.setattr(native.cpu, "probe", probe, raising=False)
    rows = torch.randn(3, 4)
    launch("probe", rows, q=row_matrix(made(rows.clone())), mask=made(torch.ones(3, dtype=torch.bool)))


def test_a_type_that_no_kernel_takes_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="mask must"):
        soft_value(torch.randn(3, 4), torch.ones(3, dtype=torch.int16))


def test_a_tensor_without_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="mask must not be a null pointer"):
        soft_value(torch.randn(3, 4), torch.ones(3, dtype=torch.bool, device="meta"))
