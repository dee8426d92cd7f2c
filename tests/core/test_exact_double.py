"""The logarithm and exponential that densities are made of, against the C library and 40 digits."""

from __future__ import annotations

import math
import random
from decimal import Decimal, localcontext

import pytest

from softbellman.core import native

exact_log, exact_exp = native.cpu.exact_log, native.cpu.exact_exp


def error_in_last_places(value: float, exact: Decimal) -> float:
    return float(abs(Decimal(value) - exact) / Decimal(math.ulp(float(exact))))


def test_within_one_unit_in_the_last_place() -> None:
    generator = random.Random(0)
    with localcontext() as context:
        context.prec = 40
        for _ in range(2000):
            x = math.ldexp(
                1 + generator.random(), generator.choice((0, -1, 1, generator.randint(-1074, 1023)))
            )
            if x != 1.0:
                assert error_in_last_places(exact_log(x), Decimal(x).ln()) < 1.0
            y = generator.uniform(-708, 709) * generator.choice((1, 1e-3, 1e-9))
            assert error_in_last_places(exact_exp(y), Decimal(y).exp()) < 1.0


def test_near_the_library() -> None:
    generator = random.Random(1)
    for _ in range(50_000):
        x = math.ldexp(1 + generator.random(), generator.randint(-1074, 1023))
        assert abs(exact_log(x) - math.log(x)) <= 1.5 * math.ulp(math.log(x))
        y = generator.uniform(-745, 709)
        assert abs(exact_exp(y) - math.exp(y)) <= 1.5 * math.ulp(math.exp(y))


def test_ends_of_the_range() -> None:
    assert exact_log(1.0) == 0.0 and exact_exp(0.0) == 1.0 and exact_exp(-0.0) == 1.0
    assert exact_log(0.0) == -math.inf and exact_log(math.inf) == math.inf
    assert math.isnan(exact_log(-1.0)) and math.isnan(exact_log(math.nan)) and math.isnan(exact_exp(math.nan))
    assert exact_exp(-math.inf) == 0.0 == exact_exp(-1e9) and exact_exp(math.inf) == math.inf == exact_exp(
        710.0
    )
    assert exact_log(5e-324) == pytest.approx(math.log(5e-324), rel=1e-16)
    assert exact_exp(-744.0) == math.exp(-744.0) > 0.0
    assert exact_exp(709.78) == pytest.approx(math.exp(709.78), rel=3e-16)
