"""The public face: the same names and arguments in ops, reference and the package; examples that are true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch

import softbellman
import softbellman as ops
from softbellman import losses, payoffs, reference

OPERATORS = sorted({*losses.__all__, *payoffs.__all__})
FORMS = {"Head", "BleuCompletions", "bleu_completions"}
"""Other forms of what the reference has: of logits, and of completion values."""
FUNCTIONS = sorted(name for name in {*OPERATORS} - FORMS if inspect.isfunction(getattr(ops, name)))
MODULES = sorted(
    f"{package.__name__}.{module.name}"
    for package in (losses, payoffs)
    for module in pkgutil.iter_modules(package.__path__)
    if ">>>" in Path(package.__path__[0], f"{module.name}.py").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operator_and_reference_take_the_same_arguments(name: str) -> None:
    def shape(function: object) -> list[tuple[str, object, object]]:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]

    assert shape(getattr(ops, name)) == shape(getattr(reference, name))


def test_ops_and_reference_export_the_same_names() -> None:
    assert set(OPERATORS) - FORMS == set(reference.__all__)


def test_the_package_offers_every_operator() -> None:
    for name in losses.__all__:
        assert getattr(softbellman, name) is getattr(losses, name)
    for name in payoffs.__all__:
        assert getattr(softbellman, name) is getattr(payoffs, name)


def test_a_star_import_takes_the_operators() -> None:
    names: dict[str, object] = {}
    exec("from softbellman import *", names)
    assert {*OPERATORS, "build_info"} <= names.keys()


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_are_true(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.attempted > 0 and result.failed == 0
