"""`CreditGRPOTrainer` beside TRL's own trainer."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")
from datasets import Dataset
from trl.trainer import GRPOConfig, GRPOTrainer, add_fused_lm_head
from trl_cases import EOS, common_settings, logged, losses_of, prompts, tiny_causal, word_tokenizer

from softbellman.hf import CreditGRPOTrainer, PrefixReward
from softbellman.hf.forward import add_head, add_token_statistics
from softbellman.hf.seams import check_seam


def spread_of_ids(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [len(set(row)) - 0.1 * row[0] for row in completion_ids]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_causal().save_pretrained(folder)
    return str(folder)


def trained(kind: Any, model: str, folder: Path, reward: Any = spread_of_ids, **options: Any) -> Any:
    mine = {name: options.pop(name) for name in ("credit", "tau", "backend") if name in options}
    settings = common_settings(folder, num_generations=4, **options)
    trainer = kind(
        model=model,
        reward_funcs=reward,
        args=GRPOConfig(**settings),
        train_dataset=Dataset.from_list(prompts()),
        processing_class=word_tokenizer(),
        **mine,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "temperature": 0.7,
            "entropy_coef": 0.05,
            "beta": 0.1,
            "num_iterations": 2,
            "top_entropy_quantile": 0.8,
        },
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "gradient_accumulation_steps": 2},
        # a seed by which rounding turns no draw of TRL's own trainer either: its losses are those of float32
        {
            "mask_truncated_completions": True,
            "bf16": True,
            "beta": 0.1,
            "gradient_checkpointing": True,
            "seed": 4,
        },
    ],
    ids=["defaults", "entropy_bonus", "accumulation", "bfloat16"],
)
def test_five_updates_have_the_losses_of_trl(
    model_folder: str, tmp_path: Path, settings: dict[str, Any]
) -> None:
    theirs = trained(GRPOTrainer, model_folder, tmp_path, **settings)
    ours = trained(CreditGRPOTrainer, model_folder, tmp_path, **settings)
    assert len(losses_of(theirs)) == 5 and any(losses_of(theirs))
    # bfloat16 rounds hidden states to 3 digits, and products of them otherwise in another order of summation
    tolerance = 2e-2 if settings.get("bf16") else 2e-6
    for name in ("loss", "entropy", "grad_norm"):
        assert logged(ours, name) == pytest.approx(logged(theirs, name), rel=tolerance, abs=tolerance), name


def test_a_reward_at_the_end_gives_rewards_to_go_the_losses_of_trl(model_folder: str, tmp_path: Path) -> None:
    settings = {"generation_kwargs": {"min_new_tokens": 7}, "num_iterations": 2}
    theirs = trained(GRPOTrainer, model_folder, tmp_path, **settings)
    ours = trained(CreditGRPOTrainer, model_folder, tmp_path, credit="rewards_to_go", **settings)
    assert losses_of(ours) == pytest.approx(losses_of(theirs), rel=2e-6, abs=2e-6)
    assert logged(ours, "grad_norm") == pytest.approx(logged(theirs, "grad_norm"), rel=1e-5)
    assert max(logged(ours, "credit/within_std")) < 1e-6


@pytest.mark.parametrize(
    ("credit", "tau"), [("rewards_to_go", 0.0), ("soft_value", 0.1), ("completion", 0.0)]
)
def test_tokens_of_a_completion_get_credit_of_their_own(
    model_folder: str, tmp_path: Path, credit: str, tau: float
) -> None:
    reward = PrefixReward("edit_distance", tokenizer=word_tokenizer())
    trainer = trained(CreditGRPOTrainer, model_folder, tmp_path, reward, credit=credit, tau=tau, max_steps=2)
    assert min(logged(trainer, "credit/within_std")) > 0.01
    assert "rewards/edit_distance_reward/mean" in trainer.state.log_history[0]


def test_advantages_belong_to_their_rows(model_folder: str, tmp_path: Path) -> None:
    """One token is paid for wherever it stands: its advantage is above that of the token behind it."""
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    class Watched(CreditGRPOTrainer):
        def compute_loss(self, model: Any, inputs: Any, **options: Any) -> Any:
            seen.append((inputs["completion_ids"], inputs["completion_mask"], inputs["advantages"]))
            return super().compute_loss(model, inputs, **options)

    def even(completion_ids: list[list[int]], **_: Any) -> list[list[float]]:
        return [[float(token % 2 == 0) for token in row] for row in completion_ids]

    trained(Watched, model_folder, tmp_path, even, credit="rewards_to_go", scale_rewards="none")
    assert len(seen) == 5
    for ids, mask, advantages in seen:
        paid = ((ids % 2 == 0) & (mask != 0)).float()
        to_go = paid.flip(1).cumsum(1).flip(1)
        # rows were shuffled within the batch, so groups are known up to a constant for each column: the mean over both is not
        gap = (to_go - advantages) * mask
        columns = [gap[:, t][mask[:, t] != 0].unique() for t in range(ids.shape[1])]
        assert all(1 <= len(torch.unique((column * 1e4).round())) <= 2 for column in columns if len(column))


def test_evaluation_gives_credit_too(model_folder: str, tmp_path: Path) -> None:
    reward = PrefixReward("edit_distance", tokenizer=word_tokenizer())
    trainer = trained(CreditGRPOTrainer, model_folder, tmp_path, reward, credit="completion", max_steps=1)
    found = trainer.evaluate(Dataset.from_list(prompts(4)))
    assert "eval_loss" in found and "eval_credit/advantage_abs" in trainer.state.log_history[-1]


def test_statistics_in_the_forward_pass_are_those_of_logits() -> None:
    model, temperature = tiny_causal(), 0.6
    ids = torch.tensor([[3, 4, 5, 6], [0, 7, 8, EOS]])
    labels = ids.masked_fill(torch.tensor([[True, False, False, False], [True, True, False, False]]), -100)
    log_policy = (model(input_ids=ids).logits[:, :-1] / temperature).log_softmax(-1)
    real = labels[:, 1:] != -100
    wanted = log_policy.gather(2, ids[:, 1:, None])[..., 0] * real
    entropy = -(log_policy.exp() * log_policy).sum(-1) * real
    weights = torch.rand(2, 3)
    (wanted * weights + entropy).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    add_token_statistics(model, temperature=temperature)
    found = model(input_ids=ids, labels=labels, fused_lm_head=True)
    torch.testing.assert_close(found.log_probs, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.entropy, entropy, rtol=1e-5, atol=1e-6)
    (found.log_probs * weights + found.entropy).sum().backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    assert model(input_ids=ids).logits.shape == (2, 4, 27)  # other calls are the model's own


def test_a_deep_copy_reads_its_own_weights_and_heads_can_be_added_again() -> None:
    model, ids = tiny_causal(), torch.tensor([[3, 4, 5]])
    for _ in range(2):
        add_head(model)
        add_token_statistics(model)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(1.5)
    wanted = copied(input_ids=ids).logits
    assert (wanted - model(input_ids=ids).logits).abs().max() > 1e-2
    real = torch.ones_like(ids, dtype=torch.bool)
    for one, logits in ((copied, wanted), (model, model(input_ids=ids).logits)):
        head = one(input_ids=ids, rows=real, on_head=lambda head: head)
        torch.testing.assert_close(head.logits(), logits[0], rtol=1e-5, atol=1e-5)
        found = one(input_ids=ids, labels=ids, fused_lm_head=True).log_probs
        log_policy = logits[:, :-1].log_softmax(-1)
        torch.testing.assert_close(
            found, log_policy.gather(2, ids[:, 1:, None])[..., 0], rtol=1e-5, atol=1e-5
        )


def test_a_batch_without_labels_has_a_zero_gradient() -> None:
    model = tiny_causal()
    add_token_statistics(model)
    ids = torch.tensor([[3, 4, 5]])
    found = model(input_ids=ids, labels=torch.full_like(ids, -100), fused_lm_head=True)
    (found.log_probs + found.entropy).sum().backward()
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_lora_on_the_output_layer_counts() -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny_causal(tied=False), peft.LoraConfig(target_modules=["lm_head"], r=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ids = torch.tensor([[3, 4, 5, 6]])
    wanted = model(input_ids=ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    add_fused_lm_head(model.get_base_model(), outputs=("log_probs", "entropy"))
    theirs = model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs
    add_token_statistics(model)
    ours = model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs
    torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-5)
    assert (theirs - wanted).abs().max() > 1e-2  # what is being corrected here


def test_lora_injected_into_the_output_layer_is_trained(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.LoraConfig(target_modules=["lm_head", "q_proj"], r=2)
    trainer = CreditGRPOTrainer(
        model=peft.inject_adapter_in_model(adapted, tiny_causal(tied=False)),
        reward_funcs=PrefixReward("edit_distance", tokenizer=word_tokenizer()),
        args=GRPOConfig(**common_settings(tmp_path, num_generations=4, max_steps=2)),
        train_dataset=Dataset.from_list(prompts()),
        processing_class=word_tokenizer(),
        credit="soft_value",
        tau=0.1,
    )
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    changed = {
        name
        for name, parameter in trainer.model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    assert {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in changed} == {"lm_head", "q_proj"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"credit": "token"}, "credit must be one of"),
        ({"backend": "liger"}, "backend must be one of"),
        ({"tau": 0.1}, "tau is read by"),
        ({"credit": "soft_value", "tau": -1.0}, "tau must be at least 0"),
        ({"cast_lm_head_to_fp32": True}, "backend='trl'"),
        (
            {"credit": "rewards_to_go", "multi_objective_aggregation": "normalize_then_sum"},
            "or with credit='sequence'",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(
    model_folder: str, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        trained(CreditGRPOTrainer, model_folder, tmp_path, **options)


def test_a_missing_reference_column_is_named(model_folder: str, tmp_path: Path) -> None:
    class Renamed(CreditGRPOTrainer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, reference_column="answer", **options)

    with pytest.raises(ValueError, match="'answer'"):
        trained(Renamed, model_folder, tmp_path, credit="completion")


def test_a_seam_that_changed_is_named_with_the_tested_release() -> None:
    class Changed:
        def score(self, batch: Any) -> None: ...

    check_seam(Changed, "score", ("self", "batch"))
    with pytest.raises(
        ImportError, match=r"Changed of TRL 1\.16 has score\(self, rows\), which here has the parameters"
    ):
        check_seam(Changed, "score", ("self", "rows"))
    with pytest.raises(ImportError, match=r"is missing; install trl==1\.16"):
        check_seam(Changed, "rank", ("self",))


def test_the_package_does_not_import_trl() -> None:
    code = "import sys, softbellman.hf; assert 'trl' not in sys.modules; assert 'CreditGRPOTrainer' in dir(softbellman.hf)"
    subprocess.run([sys.executable, "-c", code], check=True)
