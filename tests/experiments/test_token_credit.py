"""The credit of tokens, from runs that were really trained: every number computed again in plain PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import on_scenes, small_erac

from softbellman import reference
from softbellman.data import BOS, EOS, PAD, UNK
from softbellman.experiments.credited import credit_sentences, open_run, typed_corpus
from softbellman.experiments.token_credit import CreditedRun
from softbellman.training import run
from softbellman.training.settings import (
    EvaluationSettings,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of some updates of ERAC (on the target critic), of VAML, of maximum likelihood, and of AC on scenes."""
    folder = tmp_path_factory.mktemp("credit")
    settings = small_erac(folder, EvaluationSettings(beam=2, batch_size=12, max_length=14))
    settings = replace(settings, joint=replace(settings.joint, follow="target"))
    others = {
        "vaml": replace(settings, algorithm="vaml", output=str(folder / "vaml")),
        "mle": replace(settings, algorithm="mle", output=str(folder / "mle")),
        "scenes": replace(
            on_scenes(settings, folder),
            payoff=replace(settings.payoff, references="all"),
            joint=replace(settings.joint, follow="critic"),
        ),
    }
    return {name: run(each).folder for name, each in {"erac": settings, **others}.items()}


def ask(model: torch.nn.Module, source: torch.Tensor, actions: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(source, torch.tensor([[BOS, *actions[:-1]]]))[0].double()


def actions_of(opened: CreditedRun, tokens: Any) -> list[int]:
    labels = opened.actor.target_codec.vocabulary.tokens
    return [labels.index(token.token) for token in tokens]


@pytest.mark.parametrize("name", ["erac", "vaml", "mle", "scenes"])
def test_every_number_is_that_of_plain_pytorch(runs: dict[str, Path], name: str) -> None:
    opened = open_run(runs[name])
    settings, corpus = opened.settings, opened.task.test
    tau = settings.credit.tau
    for sentence, number in zip(credit_sentences(opened, corpus, [2, 4], split="test"), (1, 3), strict=True):
        source = corpus.source_batch([number])
        wanted = corpus.references[number][0]
        labels = torch.tensor([[*wanted, EOS]])
        titles = [hypothesis.title for hypothesis in sentence.hypotheses]
        assert titles == ["beam search of 2", "drawn, seed 1", "reference"]
        assert actions_of(opened, sentence.hypotheses[2].tokens) == [*wanted, EOS]
        for hypothesis in sentence.hypotheses:
            actions = actions_of(opened, hypothesis.tokens)
            logits = ask(opened.actor.model, source, actions)
            logits[:, [PAD, BOS, UNK]] = -torch.inf
            policy = logits.softmax(-1)
            q = None if opened.critic is None else ask(opened.critic.model, labels, actions)
            scored = corpus.references[number][: len(corpus.references[number]) if name == "scenes" else 1]
            total = 0.0
            for place, (token, action) in enumerate(zip(hypothesis.tokens, actions, strict=True)):
                pi = policy[place]
                entropy = -float((pi * pi.clamp(min=1e-300).log()).sum())
                assert token.probability == pytest.approx(float(pi[action]), abs=1e-9)
                assert token.entropy == pytest.approx(entropy, abs=1e-9)
                if q is None:
                    assert token.q is token.value is token.advantage is None
                else:
                    value = float((pi * q[place]).sum()) + tau * entropy
                    assert token.q == pytest.approx(float(q[place, action]), abs=1e-9)
                    assert token.value == pytest.approx(value, abs=1e-9)
                    if tau and action == UNK:
                        assert token.advantage is None  # it is never drawn: log pi is infinite
                    else:
                        own = tau * float(pi[action].log()) if tau else 0.0
                        assert token.advantage == pytest.approx(
                            float(q[place, action]) - own - value, abs=1e-9
                        )
                payoff = score_of(actions[: place + 1], scored)
                assert token.reward == pytest.approx(payoff - total, abs=1e-6)
                total = payoff
                check_oracle(token, actions, place, wanted, opened)
            assert hypothesis.payoff == pytest.approx(total, abs=1e-6)
            if opened.oracle is not None:
                check_learnt(hypothesis.tokens, actions, labels, opened.oracle)
            else:
                assert all(token.learnt_target is None for token in hypothesis.tokens)


def score_of(actions: list[int], references: list[list[int]]) -> float:
    """Sentence BLEU times the reference length by the package's definition in Python."""
    body = [action for action in actions if action != EOS]
    if not body:
        return 0.0
    longest = max(map(len, references))
    padded = torch.tensor([[[*r, *[PAD] * (longest - len(r))] for r in references]])
    score = reference.sentence_bleu(
        torch.tensor([body]), padded, reference_lengths=torch.tensor([[len(r) for r in references]]),
        smoothing="add-k", unmatched_id=UNK, dtype=torch.float64,
    )  # fmt: skip
    return float(score) * sum(map(len, references)) / len(references)


def check_oracle(token: Any, actions: list[int], place: int, wanted: list[int], opened: CreditedRun) -> None:
    """Edit distances by their definition: the row of the prefix, and what a next token leaves within reach."""
    prefix = actions[:place]
    row = [distance(prefix, wanted[:j]) + wanted[j:].count(UNK) for j in range(len(wanted) + 1)]
    full, best = distance(prefix, wanted), min(row)
    good = {wanted[j] for j in range(len(wanted)) if row[j] == best and wanted[j] != UNK}
    anything = any(row[j] == best and wanted[j] == UNK for j in range(len(wanted)))

    def value(word: int) -> float:
        if word == EOS:
            return 0.0
        return full - best - (0 if word in good or anything else 1)

    size = len(opened.actor.target_codec)
    allowed = [word for word in range(size) if word not in (PAD, BOS, UNK)]
    values = torch.tensor([value(word) for word in allowed], dtype=torch.float64)
    target = (values / opened.oracle_tau).softmax(0)
    action = actions[place]
    if action == UNK:
        assert token.oracle_q is None and token.oracle_target == 0.0
    else:
        assert token.oracle_q == value(action)
        assert token.oracle_target == pytest.approx(float(target[allowed.index(action)]), abs=1e-12)
    labels = opened.actor.target_codec.vocabulary.tokens
    most = [labels[word] for word in allowed if value(word) == float(values.max())]
    assert token.oracle_wants == (" / ".join(most) if len(most) <= 3 else f"any of {len(most)}")


def distance(left: list[int], right: list[int]) -> int:
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, start=1):
        before, row[0] = row[0], i
        for j, other in enumerate(right, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def check_learnt(tokens: Any, actions: list[int], labels: torch.Tensor, oracle: Any) -> None:
    q = ask(oracle.model, labels, actions)
    q[:, [PAD, BOS, UNK]] = -torch.inf
    target = (q / oracle.tau).softmax(-1)
    for token, row, probabilities, action in zip(tokens, q, target, actions, strict=True):
        assert token.learnt_target == pytest.approx(float(probabilities[action]), abs=1e-12)
        assert token.learnt_q == (None if action == UNK else pytest.approx(float(row[action])))
        assert token.learnt_wants == oracle.target_codec.vocabulary.tokens[int(row.argmax())]


def test_who_is_asked(runs: dict[str, Path]) -> None:
    erac, scenes = open_run(runs["erac"]), open_run(runs["scenes"], oracle_tau=0.7)
    assert erac.critic is not None and erac.critic.averaged and "target critic, tau 0.2" in erac.facts["Q"]
    assert scenes.critic is not None and not scenes.critic.averaged and scenes.critic.tau == 0.0
    assert erac.oracle_tau == erac.settings.completion.tau and scenes.oracle_tau == 0.7
    assert open_run(runs["vaml"]).oracle_tau == 0.3 and open_run(runs["mle"]).critic is None
    before = open_run(runs["erac"], "actor")
    best = credit_sentences(before, before.task.dev, [1], split="dev")[0]
    assert best.name == "dev 1" and best.hypotheses[0].tokens[0].q is not None


def test_images_have_their_picture_and_all_references(runs: dict[str, Path], tmp_path: Path) -> None:
    opened = open_run(runs["scenes"])
    (sentence,) = credit_sentences(opened, opened.task.test, [3], split="test")
    assert sentence.photo.size == (48, 48) and len(sentence.references) == sentence.scored == 5
    assert sentence.source == opened.task.test.images[2]
    (text,) = credit_sentences(open_run(runs["erac"]), open_run(runs["erac"]).task.test, [3], split="test")
    assert text.photo is None and text.scored == 1
    with pytest.raises(ValueError, match="captions images, it reads no sentence"):
        typed_corpus(opened, [("a", ["b"])])


def test_typed_sentences_and_hypotheses(runs: dict[str, Path]) -> None:
    opened = open_run(runs["erac"])
    example = opened.task.test[0]
    line = (example.source_text, example.reference_texts)
    corpus = typed_corpus(opened, [line])
    (typed,) = credit_sentences(opened, corpus, [1], split="line", typed=[line[1][0], ""])
    (kept,) = credit_sentences(opened, opened.task.test, [1], split="test")
    assert typed.hypotheses[:3] == kept.hypotheses and typed.name == "line 1"
    assert typed.hypotheses[3].tokens == typed.hypotheses[2].tokens
    assert [token.token for token in typed.hypotheses[4].tokens] == ["<eos>"]
    with pytest.raises(ValueError, match="sentence 13: test has sentences 1 to 12"):
        credit_sentences(opened, opened.task.test, [13], split="test")
    record = typed.as_record()
    assert record["hypotheses"][0]["tokens"][0]["reward"] == typed.hypotheses[0].tokens[0].reward
