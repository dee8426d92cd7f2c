"""oneDNN's float32 products: as accurate as float32, only where they are, and only for as long as asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from softbellman.training import products
from softbellman.training.products import onednn_products, product_error
from softbellman.training.run import run
from softbellman.training.stages import ActorStage

SWITCH = torch.backends.mkldnn.matmul
POSSIBLE = products._may_stay_float32()


@pytest.fixture(autouse=True)
def forget_the_trial():
    products._trial_is_accurate.cache_clear()
    yield
    products._trial_is_accurate.cache_clear()


def test_products_are_float32_within_the_block_and_the_switch_is_put_back() -> None:
    before, cuda = SWITCH.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    with onednn_products() as switched:
        assert switched == POSSIBLE
        assert SWITCH.fp32_precision == ("bf16" if switched else before)
        assert torch.backends.cuda.matmul.fp32_precision == cuda
        assert product_error() < 2e-6  # 8 units of float32; rounded factors would err by 1e-3
    assert SWITCH.fp32_precision == before
    torch.get_float32_matmul_precision()  # raises while the two interfaces are mixed


def test_rounded_factors_would_be_noticed() -> None:
    left, right = torch.randn(2, 64, 256)
    rounded = (left.bfloat16().double() @ right.t().bfloat16().double()) - left.double() @ right.t().double()
    assert float(rounded.abs().max() / (left @ right.t()).abs().max()) > 10 * products._TOLERANCE


@pytest.mark.parametrize(
    "obstacle",
    [
        (torch.cpu, "_is_amx_tile_supported", lambda: True),
        (products.platform, "machine", lambda: "aarch64"),
        (products, "product_error", lambda: 1e-3),
    ],
    ids=["tiles", "another processor", "not accurate"],
)
def test_elsewhere_nothing_changes(monkeypatch, obstacle) -> None:
    monkeypatch.setattr(*obstacle)
    before = SWITCH.fp32_precision
    with onednn_products() as switched:
        assert not switched
        assert SWITCH.fp32_precision == before
    assert SWITCH.fp32_precision == before


def test_an_error_within_the_block_puts_the_switch_back() -> None:
    before = SWITCH.fp32_precision
    with pytest.raises(KeyError), onednn_products():
        raise KeyError
    assert SWITCH.fp32_precision == before


@pytest.mark.parametrize("asked", [True, False])
def test_a_run_has_them_where_asked_for(tiny_settings, monkeypatch, asked) -> None:
    seen = []

    def stop(*_arguments, **_options):
        seen.append(SWITCH.fp32_precision)
        raise KeyboardInterrupt

    before = SWITCH.fp32_precision
    monkeypatch.setattr(ActorStage, "update", stop)
    with pytest.raises(KeyboardInterrupt):
        run(replace(tiny_settings, onednn_products=asked), quiet=True)
    assert seen == ["bf16" if asked and POSSIBLE else before]
