"""The native module itself: what it says of itself, import order, empty and smallest shapes, refusals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import softbellman
from softbellman.core import native
from softbellman.core.digest import source_digest

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


class Kernels:
    """Every CPU kernel called with raw pointers on one small problem; outputs start as a sentinel."""

    def __init__(self, rows: int, vocabulary: int, code: int) -> None:
        dtype = DTYPES[code]
        self.statistic = torch.float64 if code == 1 else torch.float32
        self.shape = (rows, vocabulary)
        self.code = code
        generator = torch.Generator().manual_seed(rows * 100 + vocabulary)
        self.logits = torch.randn(rows, vocabulary, generator=generator).to(dtype)
        self.q = torch.randn(rows, vocabulary, generator=generator).to(dtype)
        self.actions = torch.zeros(rows, dtype=torch.int64)
        self.ones = torch.ones(rows, dtype=self.statistic)

    def vectors(self, count: int) -> list[torch.Tensor]:
        return [torch.full((self.shape[0],), -77.0, dtype=self.statistic) for _ in range(count)]

    def matrix(self) -> torch.Tensor:
        return torch.full_like(self.q, -77.0)

    def run(self) -> dict[str, torch.Tensor]:
        rows, vocabulary = self.shape
        q, logits, actions, ones = (t.data_ptr() for t in (self.q, self.logits, self.actions, self.ones))
        size = (rows, vocabulary, self.code)
        cpu, results = native.cpu, {}

        value, correction, gathered = self.vectors(3)
        cpu.soft_value_forward(
            q, vocabulary, *size, 0.5, 0, 0, actions, 0, value.data_ptr(), correction.data_ptr(),
            gathered.data_ptr(), THREADS,
        )  # fmt: skip
        grad = self.matrix()
        cpu.soft_value_backward(
            q,
            vocabulary,
            *size,
            0.5,
            0,
            0,
            actions,
            0,
            value.data_ptr(),
            correction.data_ptr(),
            ones,
            ones,
            grad.data_ptr(),
            vocabulary,
            THREADS,
        )
        results |= {"value": value, "gathered": gathered, "soft_value_grad": grad}

        terms = self.vectors(6)
        pointers = [t.data_ptr() for t in terms]
        cpu.policy_forward(logits, vocabulary, q, vocabulary, *size, 0.5, 1, 0, *pointers, THREADS)
        to_logits, to_q = self.matrix(), self.matrix()
        cpu.policy_backward(
            logits, vocabulary, q, vocabulary, *size, 0, *pointers, ones, ones,
            to_logits.data_ptr(), vocabulary, to_q.data_ptr(), vocabulary, THREADS,
        )  # fmt: skip
        results |= {
            "policy_value": terms[0],
            "entropy": terms[1],
            "policy_grad": to_logits,
            "policy_grad_q": to_q,
        }

        residual, value, correction = self.vectors(3)
        steps = max(rows, 1)
        cpu.soft_bellman_forward(
            q, vocabulary, *size, 0.5, actions, ones, 0, steps, 0, residual.data_ptr(), value.data_ptr(),
            correction.data_ptr(), THREADS,
        )  # fmt: skip
        grad = self.matrix()
        cpu.soft_bellman_backward(
            q, vocabulary, *size, 0.5, actions, 0, steps, 0, value.data_ptr(), correction.data_ptr(), ones,
            grad.data_ptr(), vocabulary, THREADS,
        )  # fmt: skip
        results |= {"residual": residual, "residual_grad": grad}

        loss, error, mean, mean_low, spread = self.vectors(5)
        outputs = [t.data_ptr() for t in (loss, error, mean, mean_low, spread)]
        cpu.critic_forward(q, vocabulary, *size, actions, ones, 0.1, 0, *outputs, THREADS)
        grad = self.matrix()
        cpu.critic_backward(
            q, vocabulary, *size, actions, 0.1, 0, *outputs[1:4], ones, grad.data_ptr(), vocabulary, THREADS
        )
        results |= {"critic_loss": loss, "td_error": error, "spread": spread, "critic_grad": grad}

        loss, *normalizers = self.vectors(5)
        outputs = [t.data_ptr() for t in (loss, *normalizers)]
        cpu.distillation_forward(
            logits, vocabulary, q, vocabulary, *size, 0.5, actions, 0, 0, *outputs, THREADS
        )
        grad = self.matrix()
        cpu.distillation_backward(
            logits, vocabulary, q, vocabulary, *size, 0.5, actions, 0, 0, *outputs[1:], ones,
            grad.data_ptr(), vocabulary, THREADS,
        )  # fmt: skip
        results |= {"distillation_loss": loss, "distillation_grad": grad}

        tokens = torch.full((rows,), -77)
        log_prob, entropy = self.vectors(2)
        cpu.sample_forward(
            logits, vocabulary, *size, 1.0, 3, 4, 0, 0, 0, 0, 0, 0, tokens.data_ptr(), log_prob.data_ptr(),
            entropy.data_ptr(), THREADS,
        )  # fmt: skip
        results |= {"tokens": tokens, "log_prob": log_prob, "sample_entropy": entropy}
        return results


def test_build_info_describes_this_build() -> None:
    info = softbellman.build_info()
    assert info["version"] == softbellman.__version__
    assert re.fullmatch(r"[0-9a-f]{16}", info["source_digest"])
    assert info["simd_active"] in info["simd_targets"].split()
    assert info["threading"] in {"openmp", "pool"}
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
        pytest.skip("built with the pool of its own")
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
        "distillation_loss": torch.zeros_like(q),
        "distillation_grad": torch.zeros_like(kernels.q),
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


def test_own_pool_gives_the_same_bits() -> None:
    """A process with the pool and one with OpenMP, both above the size from which threads are used."""
    code = (
        "import hashlib, torch, softbellman\n"
        "q = torch.randn(97, 2500, generator=torch.Generator().manual_seed(5))\n"
        "torch.set_num_threads(2)\n"
        "values = torch.stack([softbellman.soft_value(q + k, tau=0.3) for k in range(20)])\n"
        "print(softbellman.build_info()['threading'], hashlib.sha256(values.numpy().tobytes()).hexdigest())"
    )
    usual, pool = run_python(code).split(), run_python(code, SOFTBELLMAN_THREADING="pool").split()
    assert pool == ["pool", usual[1]]


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": -1}, "rows must not be negative, got -1"),
        ({"vocab": 0}, "vocab must be at least 1, got 0"),
        ({"dtype": 4}, "dtype must be a code from 0 to 3, got 4"),
        ({"tau": 0.0}, "tau must be positive and finite"),
        ({"tau": float("nan")}, "tau must be positive and finite"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"q": 0}, "q must not be a null pointer"),
        ({"action": 5}, r"actions must be ids in \[0, 5\), got 5 in row 1"),
        ({"action": -1}, r"actions must be ids in \[0, 5\), got -1 in row 1"),
    ],
)
def test_refusals_name_the_argument(changes: dict[str, float], message: str) -> None:
    q, (value, correction, gathered) = torch.randn(2, 5), torch.empty(3, 2)
    actions = torch.tensor([0, int(changes.get("action", 0))])
    given = {"q": q.data_ptr(), "rows": 2, "vocab": 5, "dtype": 0, "tau": 1.0, "threads": 1} | changes
    with pytest.raises(ValueError, match=message):
        native.cpu.soft_value_forward(
            given["q"], 5, given["rows"], given["vocab"], given["dtype"], given["tau"], 0, 0,
            actions.data_ptr(), 0, value.data_ptr(), correction.data_ptr(), gathered.data_ptr(), given["threads"],
        )  # fmt: skip


def test_ids_of_masked_rows_are_not_looked_at() -> None:
    q, (value, correction, gathered) = torch.randn(2, 5), torch.empty(3, 2)
    actions, mask = torch.tensor([4, 999]), torch.tensor([True, False])
    native.cpu.soft_value_forward(
        q.data_ptr(),
        5,
        2,
        5,
        0,
        1.0,
        0,
        0,
        actions.data_ptr(),
        mask.data_ptr(),
        value.data_ptr(),
        correction.data_ptr(),
        gathered.data_ptr(),
        1,
    )
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
