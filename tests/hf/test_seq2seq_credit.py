"""`Seq2SeqCreditTrainer`: its losses and gradients against plain PyTorch on logits, and whole runs."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.functional import pad

pytest.importorskip("accelerate")
pytest.importorskip("datasets")
from datasets import Dataset
from trl_cases import EOS, common_settings, logged, prompts, word_tokenizer

from softbellman.hf import CreditSettings, Seq2SeqCreditTrainer
from softbellman.hf.forward import add_head
from softbellman.hf.sequences import Sequences, drawn_sequences, references_of, weighted_edits
from softbellman.payoffs import edit_distance_rewards

V = 27
SIZES: dict[str, Any] = {"d_model": 16, "vocab_size": V, "pad_token_id": 0, "eos_token_id": EOS}


def t5(seed: int = 0) -> Any:
    transformers.set_seed(seed)
    config = transformers.T5Config(
        d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0, dropout_rate=0.0, **SIZES
    )
    return transformers.T5ForConditionalGeneration(config)


def marian(seed: int = 0) -> Any:
    transformers.set_seed(seed)
    config = transformers.MarianConfig(
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
        dropout=0.0,
        init_std=0.3,
        **SIZES,
    )
    model = transformers.MarianMTModel(config)
    model.final_logits_bias.normal_()
    return model


BUILDS = {"t5": t5, "marian": marian}


def data(count: int = 12) -> Dataset:
    tokenizer = word_tokenizer()
    rows = prompts(count)
    return Dataset.from_list(
        [
            {
                "input_ids": tokenizer(row["prompt"])["input_ids"] + [EOS],
                "labels": tokenizer(row["reference"])["input_ids"] + [EOS],
            }
            for row in rows
        ]
    )


def trainer_of(folder: Path, model: Any, credit: CreditSettings, **options: Any) -> Seq2SeqCreditTrainer:
    beside = {name: options.pop(name) for name in ("oracle", "actor", "critic") if name in options}
    settings = common_settings(folder, per_device_train_batch_size=4, **options)
    settings.pop("max_completion_length")
    tokenizer = word_tokenizer()
    return Seq2SeqCreditTrainer(
        model=model,
        args=transformers.Seq2SeqTrainingArguments(**settings),
        train_dataset=data(),
        data_collator=transformers.DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        credit=credit,
        **beside,
    )


def batch() -> dict[str, Tensor]:
    return {
        "input_ids": torch.tensor([[5, 9, 7, EOS], [8, 4, EOS, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
        "labels": torch.tensor([[5, 7, 9, EOS], [4, 8, EOS, -100]]),
    }


def logits_of(model: Any, source: dict[str, Tensor], drawn: Sequences, samples: int) -> Tensor:
    repeated = {name: part.repeat_interleave(samples, 0) for name, part in source.items()}
    return model(**repeated, labels=drawn.labels).logits  # [N, T, V]


def gradients(model: Any) -> list[Tensor]:
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    return found


def assert_same(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert any(part.abs().max() > 1e-4 for part in wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-6)


def sources(given: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], Any]:
    references = references_of(given["labels"], end=EOS, pad=0)
    source = {name: given[name] for name in ("input_ids", "attention_mask")}
    return source, {"input_ids": references.source, "attention_mask": references.attended}, references


def edits_of(references: Any, credit: CreditSettings) -> Sequences:
    return weighted_edits(
        references, credit, vocabulary=V, end=EOS, special_ids=[0, 2, EOS], seed=5, offset=1
    )


def test_references_are_read_up_to_their_end() -> None:
    labels = torch.tensor([[5, 7, EOS, -100], [4, 8, 6, 9], [EOS, 0, 0, 0]])
    tokens, lengths, source, attended = references_of(labels, end=EOS, pad=0)
    assert lengths.tolist() == [2, 4, 0]
    assert tokens.tolist() == [[5, 7, 0, 0], [4, 8, 6, 9], [0, 0, 0, 0]]
    assert source.tolist() == [[5, 7, EOS, 0, 0], [4, 8, 6, 9, EOS], [EOS, 0, 0, 0, 0]]
    assert attended.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("objective", ["raml", "vaml"])
def test_edited_references_are_weighed_and_distilled(tmp_path: Path, build: Any, objective: str) -> None:
    credit = CreditSettings(
        objective=objective, tau=0.6, samples=3, payoff_options={"smoothing": "add-one-all"}
    )
    model, oracle = build(), build(1)
    options = {"oracle": oracle} if objective == "vaml" else {}
    trainer = trainer_of(tmp_path, model, credit, **options)
    model.train()
    given = batch()
    source, reference, references = sources(given)
    loss = trainer.compute_loss(model, given)
    loss.backward()
    found = gradients(model)

    drawn = edits_of(references, credit)
    log_policy = logits_of(model, source, drawn, 3).log_softmax(-1)
    labels = drawn.labels.masked_fill(~drawn.mask, 0)
    if objective == "raml":
        rows = -log_policy.gather(2, labels[..., None])[..., 0]
    else:
        target = (logits_of(oracle, reference, drawn, 3) / 0.6).softmax(-1).detach()
        rows = -(target * log_policy).sum(-1)
    assert drawn.weights is not None
    wanted = ((rows * drawn.mask).sum(1) * drawn.weights.flatten()).sum() / 2
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    wanted.backward()
    assert_same(found, gradients(model))


def test_weights_are_those_of_the_payoff_distribution() -> None:
    _, _, references = sources(batch())
    credit = CreditSettings(objective="raml", tau=0.5, samples=6, payoff="edit_distance", proposal="hamming")
    drawn = edits_of(references, credit)
    assert drawn.weights is not None
    torch.testing.assert_close(drawn.weights.sum(1), torch.ones(2))
    rewards = edit_distance_rewards(
        drawn.labels.masked_fill(~drawn.mask, 0).view(2, 6, -1),
        references.tokens,
        hypothesis_lengths=drawn.mask.sum(1).view(2, 6),
        reference_lengths=references.lengths,
        eos_id=EOS,
    )
    torch.testing.assert_close(drawn.rewards.view(rewards.shape), rewards)
    ends = drawn.mask.sum(1) - 1
    assert (drawn.labels.gather(1, ends[:, None]) == EOS).all()
    assert (drawn.labels[::6, :4] == batch()["labels"]).all()  # the first is the reference


def test_the_soft_bellman_residual_is_lowered(tmp_path: Path) -> None:
    credit = CreditSettings(objective="soft_q", tau=0.6, samples=3, payoff="edit_distance")
    model = t5()
    trainer = trainer_of(tmp_path, model, credit)
    model.train()
    given = batch()
    _, reference, references = sources(given)
    loss = trainer.compute_loss(model, given)
    loss.backward()
    found = gradients(model)

    drawn = edits_of(references, credit)
    q = logits_of(model, reference, drawn, 3)
    values = 0.6 * torch.logsumexp(q / 0.6, -1)
    following = pad(values * drawn.mask, (0, 1))[:, 1:]
    taken = q.gather(2, drawn.labels.masked_fill(~drawn.mask, 0)[..., None])[..., 0]
    wanted = ((taken - drawn.rewards - following).square() * drawn.mask).sum() / 6
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    wanted.backward()
    assert_same(found, gradients(model))


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.parametrize("objective", ["critic", "erac"])
def test_actor_and_critic_have_the_losses_of_the_equations(
    tmp_path: Path, build: Any, objective: str
) -> None:
    tau, smoothness = 0.2, 0.01
    credit = CreditSettings(
        objective=objective, tau=tau, samples=2, smoothness=smoothness, likelihood_weight=0.3, extra_tokens=2,
        reference_weight=0.4, reference_tau=0.5,
    )  # fmt: skip
    actor, critic = build(), build(1)
    model = critic if objective == "critic" else actor
    beside = {"actor": actor} if objective == "critic" else {"critic": critic}
    trainer = trainer_of(tmp_path, model, credit, **beside)
    model.train()
    assert trainer.target is not None
    with torch.no_grad():
        for parameter in trainer.target.network.parameters():
            parameter.mul_(0.9)
    given = batch()
    source, reference, references = sources(given)
    transformers.set_seed(3)
    loss = trainer.compute_loss(model, given)
    loss.backward()
    found = [gradients(actor), gradients(critic)]

    transformers.set_seed(3)
    drawn = drawn_sequences(actor, source, references, credit, end=EOS, pad=0, start=0, forbidden=[0, 2])
    assert not {0, 2} & set(drawn.labels[drawn.mask].tolist())
    forbidden = torch.zeros(V).index_fill(0, torch.tensor([0, 2]), -torch.inf)
    policy = (logits_of(actor, source, drawn, 2) + forbidden).log_softmax(-1)
    plain = torch.where(policy.exp() > 0, policy, 0.0)
    entropy = -(policy.exp() * plain).sum(-1)
    bootstrap = logits_of(trainer.target.network, reference, drawn, 2)
    values = ((policy.exp() * bootstrap).sum(-1) + tau * entropy).detach() * drawn.mask
    targets = drawn.rewards + pad(values, (0, 1))[:, 1:]
    q = logits_of(critic, reference, drawn, 2)
    taken = q.gather(2, drawn.labels.masked_fill(~drawn.mask, 0)[..., None])[..., 0]
    spread = (q - q.mean(-1, keepdim=True)).square().sum(-1)
    wanted = (((taken - targets).square() + smoothness * spread) * drawn.mask).sum() / 4
    reader = (critic(**reference, labels=references.source).logits / 0.5).log_softmax(-1)
    read = reader.gather(2, references.source[..., None])[..., 0]
    wanted = wanted - 0.4 * (read * references.attended).sum() / 2
    if objective == "erac":
        gained = (policy.exp() * q.detach()).sum(-1) + tau * entropy
        wanted = wanted - (gained * drawn.mask).sum() / 4
        likelihood = actor(**source, labels=given["labels"]).logits.log_softmax(-1)
        real = given["labels"] != -100
        right = likelihood.gather(2, given["labels"].masked_fill(~real, 0)[..., None])[..., 0]
        wanted = wanted - 0.3 * (right * real).sum() / 2
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    wanted.backward()
    assert_same(found[1], gradients(critic))
    if objective == "erac":
        assert_same(found[0], gradients(actor))
    else:
        assert not any(part.any() for part in found[0])


def test_raml_lowers_the_evaluation_loss_of_transformers(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, marian(), CreditSettings(objective="raml", tau=0.4), max_steps=30)
    before = trainer.evaluate(data())["eval_loss"]
    trainer.train()
    assert trainer.evaluate(data())["eval_loss"] < before - 0.5
    assert min(logged(trainer, "credit/payoff")) > 0


def test_the_critic_is_updated_followed_saved_and_continued(tmp_path: Path) -> None:
    credit = CreditSettings(objective="erac", tau=0.1, samples=1, target_speed=0.5, critic_learning_rate=1e-2)

    def run(**options: Any) -> tuple[Seq2SeqCreditTrainer, Any]:
        actor, critic = t5(), t5(1)
        changed = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
        trainer = trainer_of(tmp_path, actor, credit, critic=critic, **changed)
        trainer.train(**options)
        return trainer, critic

    start = t5(1)
    first, critic = run()
    assert first.target is not None
    for network in (critic, first.target.network):
        pairs = zip(network.parameters(), start.parameters(), strict=True)
        assert any(not torch.equal(one, other) for one, other in pairs)
    second, continued = run(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert second.target is not None and second.state.global_step == 4
    for one, other in (
        (continued, critic),
        (second.target.network, first.target.network),
        (second.model, first.model),
    ):
        for part, wanted in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(part, wanted)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objective": "mixer", "tau": 1.0}, "objective must be one of"),
        ({"objective": "raml", "tau": 0.0}, "tau must be above 0"),
        ({"objective": "erac", "tau": 0.1, "target_speed": 0.0}, "target_speed"),
        ({"objective": "erac", "tau": 0.1, "reference_tau": 0.0}, "reference_tau must be above 0"),
        ({"objective": "erac", "tau": 0.1, "reference_weight": -1.0}, "reference_weight must be at least 0"),
        ({"objective": "raml", "tau": 1.0, "samples": 0}, "samples"),
        ({"objective": "raml", "tau": 1.0, "payoff": "ter"}, "payoff must be one of"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CreditSettings(**settings)


def test_a_missing_or_needless_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="oracle must be given with objective 'vaml'"):
        trainer_of(tmp_path, t5(), CreditSettings(objective="vaml", tau=0.4))
    with pytest.raises(ValueError, match="critic must be None with objective 'raml'"):
        trainer_of(tmp_path, t5(), CreditSettings(objective="raml", tau=0.4), critic=t5(1))


@pytest.mark.parametrize("name", BUILDS)
def test_draws_are_the_models_own_whatever_its_generation_config(name: str) -> None:
    """Beams, temperatures, penalties and forced tokens of a checkpoint are for its users, not for training."""
    found = []
    for changed in (False, True):
        model = BUILDS[name]()
        if changed:
            model.generation_config.update(
                num_beams=4, temperature=0.1, top_p=0.5, repetition_penalty=1.5, no_repeat_ngram_size=2, min_length=9,
                forced_bos_token_id=0, forced_eos_token_id=EOS, bad_words_ids=[[5]], length_penalty=3.0,
            )  # fmt: skip
        own = model.generation_config.to_dict()
        labels = torch.tensor([[5, 6, 7, EOS], [8, 9, EOS, -100]])
        source = {
            "input_ids": torch.tensor([[5, 6, EOS], [7, 8, EOS]]),
            "attention_mask": torch.ones(2, 3).long(),
        }
        transformers.set_seed(3)
        drawn = drawn_sequences(
            model,
            source,
            references_of(labels, end=EOS, pad=0),
            CreditSettings(objective="erac", tau=0.1, samples=3),
            end=EOS,
            pad=0,
            start=0,
            forbidden=[0, 2],
        )
        found.append((drawn.labels, drawn.mask))
        assert model.generation_config.to_dict() == own
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_a_decoder_that_begins_with_a_label_is_refused(tmp_path: Path) -> None:
    config = transformers.MBartConfig(
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, max_position_embeddings=32, decoder_start_token_id=2, **SIZES,
    )  # fmt: skip
    model = transformers.MBartForConditionalGeneration(config)
    with pytest.raises(ValueError, match="MBartForConditionalGeneration must begin its decoder with"):
        trainer_of(tmp_path, model, CreditSettings(objective="raml", tau=0.4))


def test_nothing_to_resume_from_is_a_sentence(tmp_path: Path) -> None:
    credit = CreditSettings(objective="critic", tau=0.1)
    trainer = trainer_of(tmp_path, t5(), credit, actor=t5(1))
    with pytest.raises(ValueError, match="holds no checkpoint to resume from"):
        trainer.train(resume_from_checkpoint=True)
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(ValueError, match=r"holds no critic\.pt"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_a_pickled_model_gets_its_head_again() -> None:
    model = t5()
    add_head(model)
    again = pickle.loads(pickle.dumps(model))
    add_head(again)
    labels = torch.tensor([[5, 6, EOS]])
    given = {
        "input_ids": torch.tensor([[5, EOS]]),
        "attention_mask": torch.ones(1, 2).long(),
        "labels": labels,
    }
    rows = torch.ones(1, 3).bool()
    found = [
        one.eval()(**given, rows=rows, on_head=lambda head: head.hidden.detach()) for one in (model, again)
    ]
    assert torch.equal(*found)
