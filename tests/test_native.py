"""The native module itself: what it says of itself, import order, empty and smallest shapes, refusals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import softbellman
from softbellman.core import native
from softbellman.core.digest import source_digest
from softbellman.core.launch import CODES, row_matrix

ROOT = Path(__file__).resolve().parent.parent
THREADS = 2
DTYPES = {0: torch.float32, 1: torch.float64, 2: torch.bfloat16, 3: torch.float16}


def run_python(code: str, **environment: str) -> str:
    """The output of a fresh interpreter started in the repository's root."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def native_fields(**fields: Any) -> dict[str, Any]:
    """Fields as the binding takes them: a [rows, V] tensor as a matrix, another by address, size and type."""
    passed = dict(fields)
    for name, value in fields.items():
        if isinstance(value, torch.Tensor) and value.dim() == 2:
            passed[name] = row_matrix(value)[1:]
        elif isinstance(value, torch.Tensor):
            passed[name] = (value.data_ptr(), value.numel(), CODES[value.dtype])
    return passed


class Kernels:
    """Every CPU kernel called through the binding on one small problem; outputs start as a sentinel."""

    def __init__(self, rows: int, vocabulary: int, code: int) -> None:
        dtype = DTYPES[code]
        self.statistic = torch.float64 if code == 1 else torch.float32
        self.shape = (rows, vocabulary)
        generator = torch.Generator().manual_seed(rows * 100 + vocabulary)
        self.logits = torch.randn(rows, vocabulary, generator=generator).to(dtype)
        self.q = torch.randn(rows, vocabulary, generator=generator).to(dtype)
        self.actions = torch.zeros(rows, dtype=torch.int64)
        self.ones = torch.ones(rows, dtype=self.statistic)

    def vectors(self, names: str) -> dict[str, torch.Tensor]:
        rows = self.shape[0]
        return {name: torch.full((rows,), -77.0, dtype=self.statistic) for name in names.split()}

    def matrix(self) -> torch.Tensor:
        return torch.full_like(self.q, -77.0)

    def call(self, kernel: str, **fields: Any) -> None:
        getattr(native.cpu, kernel)(**native_fields(**fields), threads=THREADS)

    def run(self) -> dict[str, torch.Tensor]:
        return (
            self.soft_value()
            | self.soft_bellman()
            | self.policy()
            | self.critic()
            | self.cross_entropy()
            | self.sample()
        )

    def soft_value(self) -> dict[str, torch.Tensor]:
        out, grad = self.vectors("value correction gathered"), self.matrix()
        row = {"q": self.q, "tau": 0.5, "actions": self.actions}
        self.call("soft_value_forward", **row, **out)
        saved = {"normalizer": out["value"], "correction": out["correction"]}
        self.call(
            "soft_value_backward", **row, **saved, grad_value=self.ones, grad_gathered=self.ones, grad_q=grad
        )
        return {"value": out["value"], "gathered": out["gathered"], "soft_value_grad": grad}

    def soft_bellman(self) -> dict[str, torch.Tensor]:
        out, grad = self.vectors("value correction residual"), self.matrix()
        row = {"q": self.q, "tau": 0.5, "actions": self.actions, "steps": max(self.shape[0], 1)}
        self.call("soft_bellman_forward", **row, rewards=self.ones, **out)
        saved = {name: out[name] for name in ("value", "correction")}
        self.call("soft_bellman_backward", **row, **saved, grad_residual=self.ones, grad_q=grad)
        return {"residual": out["residual"], "residual_grad": grad}

    def policy(self) -> dict[str, torch.Tensor]:
        out = self.vectors("value entropy log_normalizer correction value_low effective_tau")
        row, to_logits, to_q = {"logits": self.logits, "q": self.q}, self.matrix(), self.matrix()
        self.call("policy_forward", **row, tau=0.5, entropy_mode=1, **out)
        upstream = {"grad_value": self.ones, "grad_entropy": self.ones}
        self.call("policy_backward", **row, **out, **upstream, grad_logits=to_logits, grad_q=to_q)
        gradients = {"policy_grad": to_logits, "policy_grad_q": to_q}
        return {"policy_value": out["value"], "entropy": out["entropy"], **gradients}

    def critic(self) -> dict[str, torch.Tensor]:
        out, grad = self.vectors("loss td_error mean mean_low spread"), self.matrix()
        row = {"q": self.q, "actions": self.actions, "smoothness": 0.1}
        self.call("critic_forward", **row, targets=self.ones, **out)
        saved = {name: out[name] for name in ("td_error", "mean", "mean_low")}
        self.call("critic_backward", **row, **saved, grad_loss=self.ones, grad_q=grad)
        reported = {name: out[name] for name in ("td_error", "spread")}
        return {"critic_loss": out["loss"], **reported, "critic_grad": grad}

    def cross_entropy(self) -> dict[str, torch.Tensor]:
        saved = self.vectors("log_normalizer correction oracle_log_normalizer oracle_correction")
        loss, grad = self.vectors("loss")["loss"], self.matrix()
        row = {"logits": self.logits, "q": self.q, "tau": 0.5, "targets": self.actions}
        self.call("cross_entropy_forward", **row, loss=loss, **saved)
        self.call("cross_entropy_backward", **row, **saved, grad_loss=self.ones, grad_logits=grad)
        return {"cross_entropy_loss": loss, "cross_entropy_grad": grad}

    def sample(self) -> dict[str, torch.Tensor]:
        out, tokens = self.vectors("log_prob entropy"), torch.full((self.shape[0],), -77)
        noise = {"temperature": 1.0, "seed": 3, "offset": 4, "row_base": 0}
        self.call("sample_forward", logits=self.logits, **noise, tokens=tokens, **out)
        return {"tokens": tokens, "log_prob": out["log_prob"], "sample_entropy": out["entropy"]}


def test_build_info_describes_this_build() -> None:
    info = softbellman.build_info()
    assert info["version"] == softbellman.__version__
    assert re.fullmatch(r"[0-9a-f]{16}", info["source_digest"])
    assert info["simd_active"] in info["simd_targets"].split()
    assert info["threading"] in {"openmp", "none"} and info["products"] in {"native", "blas"}
    assert info["cuda"] == hasattr(native._C, "cuda") == bool(info["cuda_architectures"])
    assert Path(info["path"]).is_file()


def test_module_was_built_from_these_sources() -> None:
    """Every other test of a kernel would otherwise test another kernel."""
    assert softbellman.build_info()["source_digest"] == source_digest(ROOT / "csrc")


def test_digest_follows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text("one", encoding="utf-8")
    first = source_digest(tmp_path)
    (tmp_path / "note.txt").write_text("ignored", encoding="utf-8")
    assert source_digest(tmp_path) == first
    (tmp_path / "a.h").write_text("two", encoding="utf-8")
    second = source_digest(tmp_path)
    (tmp_path / "a.h").rename(tmp_path / "b.h")
    assert len({first, second, source_digest(tmp_path)}) == 3


@pytest.mark.parametrize(
    "order",
    ["import torch, softbellman.losses", "import softbellman.losses, torch", "import softbellman, torch"],
)
def test_import_order_does_not_matter(order: str) -> None:
    code = f"{order}\nimport torch, softbellman\nprint(float(softbellman.soft_value(torch.zeros(1, 8), tau=1.0)))"
    assert float(run_python(code)) == pytest.approx(2.0794415)


def test_one_openmp_library_in_the_process() -> None:
    if softbellman.build_info()["threading"] != "openmp":
        pytest.skip("built without OpenMP")
    code = (
        "import softbellman.losses\n"
        "names = {line.split()[-1] for line in open('/proc/self/maps') if 'gomp' in line or 'iomp' in line}\n"
        "print(len(names))"
    )
    assert run_python(code) == "1"


def test_package_import_loads_neither_torch_nor_the_module() -> None:
    assert run_python(
        "import sys, softbellman; print('torch' in sys.modules, softbellman.__version__)"
    ).startswith("False")


@pytest.mark.parametrize("code", DTYPES)
def test_no_rows_write_nothing(code: int) -> None:
    for name, result in Kernels(0, 5, code).run().items():
        assert result.shape[0] == 0, name


@pytest.mark.parametrize("code", DTYPES)
def test_one_token_vocabulary(code: int) -> None:
    kernels = Kernels(3, 1, code)
    result = kernels.run()
    q = kernels.q[:, 0].to(kernels.statistic)
    expected = {
        "value": q,
        "gathered": q,
        "soft_value_grad": torch.full_like(kernels.q, 2.0),
        "residual": q - 1 - torch.cat([q[1:], q.new_zeros(1)]),
        "residual_grad": torch.tensor(
            [[1.0], [0.0], [0.0]], dtype=kernels.q.dtype
        ),  # the value of the next is its q
        "policy_value": q,
        "entropy": torch.zeros_like(q),
        "policy_grad": torch.zeros_like(kernels.q),
        "policy_grad_q": torch.ones_like(kernels.q),
        "critic_loss": (q - 1) ** 2,
        "td_error": q - 1,
        "spread": torch.zeros_like(q),
        "critic_grad": (2 * (q - 1)).to(kernels.q.dtype)[:, None],
        "cross_entropy_loss": torch.zeros_like(q),
        "cross_entropy_grad": torch.zeros_like(kernels.q),
        "tokens": torch.zeros(3, dtype=torch.int64),
        "log_prob": torch.zeros_like(q),
        "sample_entropy": torch.zeros_like(q),
    }
    assert result.keys() == expected.keys()
    for name, wanted in expected.items():
        torch.testing.assert_close(
            result[name], wanted, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("code", DTYPES)
def test_threads_do_not_change_a_bit(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = Kernels(97, 2500, code)  # above the size from which threads are used, a multiple of nothing
    first = kernels.run()
    monkeypatch.setattr(sys.modules[__name__], "THREADS", 1)
    for name, result in kernels.run().items():
        assert torch.equal(result, first[name]), name


@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_draws_have_the_same_bits_for_every_instruction_set(level: str) -> None:
    code = (
        "import hashlib, torch, softbellman\n"
        "logits = torch.randn(40, 3001, generator=torch.Generator().manual_seed(5)) * 2\n"
        "results = [softbellman.sample_tokens(logits, seed=9, offset=2, temperature=0.7).tokens]\n"
        "references = torch.arange(40 * 70).view(40, 70)\n"
        "for proposal in ('corrupt', 'hamming'):\n"
        "    results += softbellman.sample_edits(\n"
        "        references, samples=3, proposal=proposal, vocabulary=3000, seed=2**60, offset=2**40, temperature=0.1)\n"
        "digest = hashlib.sha256(b''.join(result.numpy().tobytes() for result in results))\n"
        "print(softbellman.build_info()['simd_active'], digest.hexdigest())"
    )
    best, lowered = run_python(code).split(), run_python(code, SOFTBELLMAN_SIMD=level).split()
    targets = softbellman.build_info()["simd_targets"].split()
    if level in targets and targets.index(level) <= targets.index(best[0]):
        assert lowered[0] == level
    assert lowered[1] == best[1]


def soft_value_fields(**changes: Any) -> dict[str, Any]:
    """The fields of a soft value of two rows of five, with `changes`."""
    value, correction, gathered = torch.empty(3, 2)
    actions = changes.pop("actions", torch.zeros(2, dtype=torch.int64))
    fields = {"q": torch.randn(2, 5), "tau": 1.0, "actions": actions, "mask": None, "threads": 1}
    return native_fields(
        **fields | {"value": value, "correction": correction, "gathered": gathered} | changes
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": (8, 5, -1, 5, 0)}, "q must have rows, not fewer than 0, got -1"),
        ({"q": (8, 5, 2, 0, 0)}, "q must have a vocab of at least 1, got 0"),
        ({"q": (8, 5, 2, 5, 4)}, "q must have a dtype code from 0 to 3, got 4"),
        ({"q": (8, -5, 2, 5, 0)}, "q must have a row stride of at least 0, got -5"),
        ({"q": (0, 5, 2, 5, 0)}, "q must not be a null pointer"),
        ({"q": (8, 5, 2)}, r"q must be \(pointer, stride, rows, vocab, dtype\), got \(8, 5, 2\)"),
        ({"q": None}, "q must not be None"),
        ({"tau": 0.0}, "tau must be positive and finite, got 0.0"),
        ({"tau": float("nan")}, "tau must be positive and finite, got nan"),
        ({"tau": 1e-300}, "tau must have an inverse in float32, got 1e-300"),
        ({"tau": 1e300}, "tau must have an inverse in float32, got 1e"),
        ({"tau": "warm"}, "tau must be a number, got warm"),
        ({"threads": 0}, "threads must be from 1 to 1048576, got 0"),
        ({"threads": 1.5}, "threads must be an integer of 64 bits, got 1.5"),
        ({"value": torch.empty(1)}, "value must have 2 elements, got 1"),
        ({"value": torch.empty(2, dtype=torch.float64)}, "value must be float32, got float64"),
        ({"value": (0, 2, 0)}, "value must not be a null pointer"),
        ({"value": (8, 2, 0, True)}, "value is written and must be contiguous"),
        ({"mask": torch.ones(1, dtype=torch.bool)}, "mask must have 2 elements, got 1"),
        ({"mask": torch.ones(2)}, "mask must be bool, got float32"),
        ({"actions": torch.zeros(2, dtype=torch.int32)}, "actions must be int64, got int32"),
        ({"actions": torch.tensor([0, 5])}, r"actions must be ids in \[0, 5\), got 5 in row 1"),
        ({"actions": torch.tensor([0, -1])}, r"actions must be ids in \[0, 5\), got -1 in row 1"),
        ({"gathered": None}, "actions and gathered must be given together"),
        ({"reward": 1.0}, "reward is no field of this kernel; its fields are q, tau, .*, threads"),
    ],
)
def test_refusals_name_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native.cpu.soft_value_forward(**soft_value_fields(**changes))


@pytest.mark.parametrize("name", ["q", "tau", "value", "threads"])
def test_a_field_left_out_is_named(name: str) -> None:
    fields = soft_value_fields()
    del fields[name]
    with pytest.raises(ValueError, match=f"{name} is missing"):
        native.cpu.soft_value_forward(**fields)


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (torch.zeros(3, 5), "q must have 2 rows of 5, got 3 rows of 5"),
        (torch.zeros(2, 4), "q must have 2 rows of 5, got 2 rows of 4"),
        (torch.zeros(2, 5, dtype=torch.float64), "q must be float32, got float64"),
    ],
)
def test_matrices_must_be_alike(q: torch.Tensor, message: str) -> None:
    value, entropy = torch.empty(2, 2)
    fields = native_fields(
        logits=torch.zeros(2, 5), q=q, tau=1.0, entropy_mode=0, value=value, entropy=entropy
    )
    with pytest.raises(ValueError, match=message):
        native.cpu.policy_forward(**fields, threads=1)


def test_refusals_of_the_other_kinds() -> None:
    """Written matrices, choices, steps, counters and what several fields must fulfil together."""
    kernels = Kernels(4, 5, 0)
    rows, ones = {"logits": kernels.logits, "q": kernels.q}, kernels.ones
    terms = kernels.vectors("value entropy log_normalizer correction value_low effective_tau")
    overlapping = {"grad_q": (8, 4, 4, 5, 0)}
    with pytest.raises(ValueError, match="grad_q must have a row stride of at least 5, got 4"):
        kernels.call("policy_backward", **rows, **terms, **overlapping)
    with pytest.raises(ValueError, match="entropy_mode must be from 0 to 2, got 3"):
        kernels.call("policy_forward", **rows, **terms, tau=1.0, entropy_mode=3)
    with pytest.raises(ValueError, match="value_low and effective_tau must be given together"):
        kernels.call("policy_forward", **rows, **terms | {"value_low": None}, tau=1.0, entropy_mode=0)
    with pytest.raises(ValueError, match="smoothness must be finite and not negative, got -1"):
        out = kernels.vectors("loss td_error mean mean_low spread")
        kernels.call(
            "critic_forward", q=kernels.q, actions=kernels.actions, targets=ones, smoothness=-1, **out
        )
    with pytest.raises(ValueError, match="steps must divide rows, 4, got 3"):
        out = kernels.vectors("value correction residual")
        kernels.call(
            "soft_bellman_forward",
            q=kernels.q,
            tau=1.0,
            actions=kernels.actions,
            rewards=ones,
            steps=3,
            **out,
        )
    with pytest.raises(ValueError, match="targets must be given, unless q is and oracle_weight is not"):
        out = kernels.vectors("loss log_normalizer correction oracle_log_normalizer oracle_correction")
        kernels.call("cross_entropy_forward", logits=kernels.logits, tau=1.0, **out)
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to 2\*\*64 - 1, got -1"):
        out = kernels.vectors("log_prob entropy") | {"tokens": torch.zeros(4, dtype=torch.int64)}
        noise = {"temperature": 1.0, "seed": -1, "offset": 0, "row_base": 0}
        kernels.call("sample_forward", logits=kernels.logits, **noise, **out)
    with pytest.raises(ValueError, match="forbidden must have 5 elements, got 4"):
        forbidden = {"forbidden": torch.zeros(4, dtype=torch.bool)}
        kernels.call(
            "sample_forward", logits=kernels.logits, **noise | {"seed": 2**64 - 1}, **out, **forbidden
        )


def test_ids_of_masked_rows_are_not_looked_at() -> None:
    mask, q, actions = torch.tensor([True, False]), torch.randn(2, 5), torch.tensor([4, 999])
    value, correction, gathered = torch.empty(3, 2)  # held here: fields hold addresses alone
    results = {"value": value, "correction": correction, "gathered": gathered}
    native.cpu.soft_value_forward(**soft_value_fields(q=q, actions=actions, mask=mask, **results))
    assert gathered.tolist() == [q[0, 4].item(), 0.0] and value[1] == 0.0


def test_cuda_kernels_are_refused_with_a_sentence_when_absent() -> None:
    if softbellman.build_info()["cuda"]:
        pytest.skip("built with CUDA")
    with pytest.raises(RuntimeError, match="built without CUDA kernels"):
        native.cuda()


def test_unbuilt_sources_say_how_to_build(tmp_path: Path) -> None:
    package = tmp_path / "softbellman"
    (package / "core").mkdir(parents=True)
    for name in ("__init__.py", "core/__init__.py", "core/native.py", "core/digest.py"):
        (package / name).write_text(
            (ROOT / "softbellman" / name).read_text(encoding="utf-8"), encoding="utf-8"
        )
    # Neither the extended path nor the finder of an editable install may lead to a built module.
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
        "import softbellman; softbellman.__path__ = [p for p in softbellman.__path__ if p.startswith(sys.path[0])]\n"
        "try:\n    import softbellman.core.native\nexcept ImportError as error:\n    print(error)"
    )
    assert "native module is not built" in run_python(code)
