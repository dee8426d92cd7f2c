"""How the operators give a CUDA kernel the memory in which blocks of one row meet; the device is played by a list."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from softbellman.core import launch as _rows

WORKSPACE = 4096


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A device whose kernels record their arguments: `calls`; `stream` and `capturing` can be set."""
    state = SimpleNamespace(calls=[], asked=[], stream=7, capturing=False, size=WORKSPACE)

    def row_workspace(*arguments: int) -> int:
        state.asked.append(arguments)
        return state.size

    core = SimpleNamespace(
        row_workspace=row_workspace, TICKETS=16, kernel=lambda **fields: state.calls.append(fields)
    )
    monkeypatch.setattr(_rows.native, "cuda", lambda: core)
    monkeypatch.setattr(_rows, "_TICKETS", {})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=state.stream))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: state.capturing)
    return state


class OnDevice:
    """A [3, 50] tensor that says it is on the first CUDA device; what is allocated for it is on the CPU."""

    is_cuda, shape, dtype = True, (3, 50), torch.float32

    class device:
        type, index = "cpu", 0

    def numel(self) -> int:
        return 150

    def get_device(self) -> int:
        return 0


def launch(
    state: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], list[torch.Tensor]]:
    made: list[torch.Tensor] = []
    for name in ("empty", "zeros"):
        plain = getattr(torch, name)

        def allocate(*size: int, plain: Any = plain, device: Any = None, **options: Any) -> torch.Tensor:
            made.append(plain(*size, **options))
            return made[-1]

        monkeypatch.setattr(torch, name, allocate)
    _rows.launch("kernel", OnDevice(), share_rows=True, tau=2.5, mask=None)  # type: ignore[arg-type]
    monkeypatch.undo()
    return state.calls[-1], made


def test_a_launch_is_given_what_it_asks_for(device: SimpleNamespace) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fields, made = launch(device, patch)
    partials, tickets = made
    assert device.asked == [(4, 50, 0, 0)], "rows and one more, vocabulary, type, device"
    given = {"tau": 2.5, "mask": None, "device": 0, "stream": 7}
    places = {"partials": (partials.data_ptr(), WORKSPACE, 7), "tickets": (tickets.data_ptr(), 16, 5)}
    assert fields == given | places
    assert partials.nbytes == WORKSPACE
    assert tickets.dtype == torch.int32 and tickets.tolist() == [0] * 16


def test_nothing_is_allocated_where_every_row_has_a_block(device: SimpleNamespace) -> None:
    device.size = 0
    with pytest.MonkeyPatch.context() as patch:
        fields, made = launch(device, patch)
    assert fields == {"tau": 2.5, "mask": None, "device": 0, "stream": 7, "partials": None, "tickets": None}
    assert made == []


def test_tickets_belong_to_a_stream_and_outlive_the_launch(device: SimpleNamespace) -> None:
    def tickets() -> int:
        with pytest.MonkeyPatch.context() as patch:
            address: int = launch(device, patch)[0]["tickets"][0]
            return address

    first, again = tickets(), tickets()
    device.stream = 8
    other = tickets()
    assert first == again != other
    device.stream = 7
    device.capturing = True  # a graph has tickets of its own, and fills them itself
    kept = dict(_rows._TICKETS)
    assert tickets() != first
    assert _rows._TICKETS.keys() == kept.keys()
    device.capturing = False
    assert tickets() == first
