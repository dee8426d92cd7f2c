"""Models of transformers as networks: their own logits and loss, the same step by step, beams, tied parameters."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from pretrained_folders import EVERY, LINEAR, transformers

from softbellman.core.head import Head
from softbellman.data import HuggingFaceTokenizer
from softbellman.decoding import StepwiseModule, beam_search, greedy_search, sample
from softbellman.losses import token_cross_entropy
from softbellman.models.huggingface import (
    LinearPretrained,
    PretrainedReader,
    PretrainedSeq2Seq,
    find_scale,
)


@pytest.fixture(scope="module", params=EVERY)
def loaded(request, tmp_path_factory):
    """(model, tokeniser) of a folder."""
    return _load(EVERY[request.param](tmp_path_factory.mktemp("models") / request.param))


@pytest.fixture(scope="module", params=LINEAR)
def linear(request, tmp_path_factory):
    """The same of a model with linear logits."""
    return _load(LINEAR[request.param](tmp_path_factory.mktemp("models") / request.param))


def _load(folder: Path):
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    return model, HuggingFaceTokenizer.load(folder, side="target")


def network(model, tokenizer) -> PretrainedSeq2Seq:
    special = tokenizer.vocabulary.special
    scale = find_scale(model, token=special.eos)
    if scale is None:
        return PretrainedSeq2Seq(model, pad=special.pad, lead=tokenizer.lead).eval()
    return LinearPretrained(model, pad=special.pad, lead=tokenizer.lead, scale=scale).eval()


def some_batch(tokenizer, rows: int = 3, repeats: int = 1):
    """Sources with padding and their ends, and labels that end."""
    special, size = tokenizer.vocabulary.special, len(tokenizer.vocabulary)
    generator = torch.Generator().manual_seed(2)
    ordinary = torch.tensor([i for i in range(size) if i not in {*special.never, special.eos}])

    def drawn(count: int, longest: int) -> torch.Tensor:
        tokens = ordinary[torch.randint(len(ordinary), (count, longest), generator=generator)]
        for row in range(count):
            length = longest - row % 3
            tokens[row, length - 1] = special.eos
            tokens[row, length:] = special.pad
        return tokens

    source, labels = drawn(rows, 7), drawn(rows * repeats, 6)
    prefix = torch.cat([torch.full_like(labels[:, :1], special.bos), labels[:, :-1]], dim=1)
    return source, prefix, labels, labels != special.pad


def test_the_loss_is_the_models_own(loaded) -> None:
    """Of transformers' own call with labels, where the forced start of BART is one label more, which is left out here."""
    model, tokenizer = loaded
    source, prefix, labels, mask = some_batch(tokenizer)
    special = tokenizer.vocabulary.special
    ours = token_cross_entropy(network(model, tokenizer)(source, prefix), labels, mask=mask, reduction="sum")

    start = torch.tensor([*tokenizer.lead, special.bos]).expand(len(labels), -1)
    whole = torch.cat([start, labels], dim=1)  # what is read and predicted, the model's own start in front
    said = model(
        input_ids=source, attention_mask=(source != special.pad).long(), decoder_input_ids=whole[:, :-1],
    ).logits  # fmt: skip
    kept = said[:, len(tokenizer.lead) :]
    own = torch.nn.functional.cross_entropy(kept[mask], labels[mask], reduction="sum")
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-4)
    if not tokenizer.lead:
        mean = model(
            input_ids=source,
            attention_mask=(source != special.pad).long(),
            labels=labels.masked_fill(~mask, -100),
            decoder_input_ids=prefix,
        ).loss
        torch.testing.assert_close(ours / mask.sum(), mean, rtol=1e-5, atol=1e-5)


def test_steps_are_the_whole_prefix(loaded) -> None:
    model, tokenizer = loaded
    own = network(model, tokenizer)
    source, prefix, _, _ = some_batch(tokenizer, repeats=2)
    whole = own(source, prefix)
    state = own.begin(source).repeat(2)
    for step in range(prefix.shape[1]):
        said, following = own.step(prefix[:, step], state)
        torch.testing.assert_close(said, whole[:, step], rtol=1e-4, atol=1e-5)
        again, _ = own.step(prefix[:, step], state)  # a step leaves its state as it was
        torch.testing.assert_close(again, said)
        state = following


def test_states_follow_their_rows(loaded) -> None:
    model, tokenizer = loaded
    own = network(model, tokenizer)
    source, prefix, _, _ = some_batch(tokenizer, repeats=2)
    state = own.begin(source).repeat(2)
    for step in range(3):
        _, state = own.step(prefix[:, step], state)
    whole = own(source, prefix[:, :4])[:, 3]
    following = prefix[:, 3]

    swapped = torch.tensor([1, 0, 3, 3, 4, 5])  # within the source of the row that is replaced
    read = torch.cat([prefix[swapped, :3], following[:, None]], dim=1)
    said, _ = own.step(following, state.reorder(swapped))
    torch.testing.assert_close(said, own(source, read)[:, 3], rtol=1e-4, atol=1e-5)

    rows = torch.tensor([5, 0, 2])
    said, _ = own.step(following[rows], state.select(rows))
    torch.testing.assert_close(said, whole[rows], rtol=1e-4, atol=1e-5)

    said, _ = own.step(following[[4, 5, 0, 1]], state.select_sources(torch.tensor([2, 0])))
    torch.testing.assert_close(said, whole[[4, 5, 0, 1]], rtol=1e-4, atol=1e-5)


def test_searches_and_draws_as_a_module_that_reads_whole_prefixes(loaded) -> None:
    model, tokenizer = loaded
    own, special = network(model, tokenizer), tokenizer.vocabulary.special
    source, _, _, _ = some_batch(tokenizer)
    options = {"max_length": 8, "special": special}
    for search in (
        lambda asked: beam_search(asked, source, beam=3, best=2, **options),
        lambda asked: greedy_search(asked, source, **options),
        lambda asked: sample(asked, source, seed=4, samples=3, **options),
    ):
        ours, theirs = search(own), search(StepwiseModule(own))
        assert ours.tokens.tolist() == theirs.tokens.tolist()
        produced = set(ours.tokens[torch.arange(ours.tokens.shape[1]) < ours.lengths[:, None]].tolist())
        assert not produced & set(special.never)


def test_greedy_search_is_that_of_generate(loaded) -> None:
    """With the tokens that transformers would produce and this package forbids left out there, too."""
    model, tokenizer = loaded
    own, special = network(model, tokenizer), tokenizer.vocabulary.special
    source, _, _, _ = some_batch(tokenizer)
    found = greedy_search(own, source, max_length=8, special=special)
    start = torch.tensor([*tokenizer.lead, special.bos]).expand(len(source), -1)
    theirs = model.generate(
        input_ids=source,
        attention_mask=(source != special.pad).long(),
        decoder_input_ids=start,
        generation_config=transformers.GenerationConfig(
            max_new_tokens=12,  # the last of which is a forced end
            do_sample=False, num_beams=1, pad_token_id=special.pad, eos_token_id=special.eos,
            decoder_start_token_id=int(start[0, 0]), suppress_tokens=[t for t in special.never if t != special.eos],
        ),
    )[:, start.shape[1] :]  # fmt: skip
    for ours, length, other in zip(found.tokens, found.lengths.tolist(), theirs, strict=True):
        assert ours[:length].tolist() == other[:length].tolist()


def test_a_head_gives_the_same_logits(linear) -> None:
    model, tokenizer = linear
    own = network(model, tokenizer)
    assert isinstance(own, LinearPretrained)
    source, prefix, labels, mask = some_batch(tokenizer)
    whole = model(
        input_ids=source,
        attention_mask=(source != own.pad).long(),
        decoder_input_ids=torch.cat([prefix.new_tensor(own.lead).expand(len(prefix), -1), prefix], dim=1),
    ).logits[:, len(own.lead) :]
    torch.testing.assert_close(own(source, prefix), whole, rtol=1e-5, atol=1e-5)
    head = Head(own.features(source, prefix), *own.projection())
    found = token_cross_entropy(head, labels, mask=mask)
    torch.testing.assert_close(found, token_cross_entropy(whole, labels, mask=mask), rtol=1e-4, atol=1e-5)


def test_what_is_tied_stays_tied(linear) -> None:
    model, tokenizer = linear
    own = copy.deepcopy(network(model, tokenizer))
    state = own.state_dict()
    tied = getattr(model.config, "tie_word_embeddings", True)
    shared = [
        name for name in state if name.endswith(("shared.weight", "embed_tokens.weight", "lm_head.weight"))
    ]
    assert len(shared) == (1 if tied else 2)
    other = copy.deepcopy(own)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(state)
    source, prefix, _, _ = some_batch(tokenizer)
    torch.testing.assert_close(other(source, prefix), own(source, prefix))
    if tied:
        assert other.projection()[0] is other.model.get_input_embeddings().weight


def test_a_reader_has_the_models_body_and_a_layer_of_its_own(linear) -> None:
    model, tokenizer = linear
    special, size = tokenizer.vocabulary.special, len(tokenizer.vocabulary)
    torch.manual_seed(1)
    reader = PretrainedReader(
        copy.deepcopy(model), target_size=size, pad=special.pad, lead=tokenizer.lead
    ).eval()
    source, prefix, _, _ = some_batch(tokenizer)
    actor = network(model, tokenizer)
    torch.testing.assert_close(reader.features(source, prefix) * actor.scale, actor.features(source, prefix))
    reader(source, prefix).square().sum().backward()
    assert all(parameter.grad is not None for parameter in reader.parameters() if parameter.requires_grad)
    weight, bias = reader.projection()
    assert weight.shape == (size, 16) and isinstance(weight, torch.nn.Parameter) and not bias.any()


def test_logits_that_are_not_linear_have_no_head(tmp_path) -> None:
    model, tokenizer = _load(EVERY["bert"](tmp_path))
    assert find_scale(model, token=tokenizer.vocabulary.special.eos) is None
    assert not hasattr(network(model, tokenizer), "features")
