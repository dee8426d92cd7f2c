"""Models of the user's own are tried once before training: what contradicts itself is refused, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training.harness import same_run

from softbellman.config import load
from softbellman.core.objects import UserCodeError
from softbellman.training import Settings, run
from softbellman.training.assembly import Assembly
from softbellman.training.settings import DataSettings, ModelSettings
from softbellman.training.tried_model import try_model

ROOT = Path(__file__).parents[2]
SOURCE, PREFIX = torch.tensor([[4, 5, 3], [6, 3, 0]]), torch.tensor([[2, 5, 6], [2, 7, 5]])
V, H = 11, 8


class Right(nn.Module):
    """With all that the trainer may ask for."""

    def __init__(self, source_size: int = V, target_size: int = V) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(source_size, H), nn.Embedding(target_size, H)
        self.decoder, self.out = nn.GRU(H, H, batch_first=True), nn.Linear(H, target_size)
        self.drop = nn.Dropout(0.5)

    def features(self, source: Tensor, prefix: Tensor) -> Tensor:
        source = source.repeat_interleave(len(prefix) // len(source), dim=0)
        return self.drop(self.decoder(self.target(prefix), self.source(source).mean(1)[None])[0])

    def project(self, features: Tensor) -> Tensor:
        return self.out(features)

    def projection(self) -> tuple[Tensor, Tensor]:
        return self.out.weight, self.out.bias

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        return self.project(self.features(source, prefix))


class Stepwise(Right):
    def begin(self, source):
        return self.source(source).mean(1)[None]

    def step(self, tokens, state):
        said, state = self.decoder(self.target(tokens)[:, None], state)
        return self.project(said[:, 0]), state


class LateStep(Stepwise):
    def step(self, tokens, state):
        return super().step(tokens, torch.zeros_like(state))


class Unbiased(Right):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(H, V, bias=False)


class Masked(Right):
    def forward(self, source, prefix):
        return super().forward(source, prefix).index_fill(2, torch.tensor([0]), -torch.inf)

    def project(self, features):
        return super().project(features).index_fill(-1, torch.tensor([0]), -torch.inf)

    def projection(self):
        return self.out.weight, self.out.bias.index_fill(0, torch.tensor([0]), -torch.inf)


class Random(Stepwise):
    def features(self, source, prefix):
        features = super().features(source, prefix)
        return features + torch.randn_like(features)


class Counting(Right):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def features(self, source, prefix):
        self.calls += 1
        return super().features(source, prefix)


class More(Right):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(H, V + 3)


class Short(Right):
    def forward(self, source, prefix):
        return super().forward(source, prefix)[:, :-1]


class Last(Right):
    def forward(self, source, prefix):
        return super().forward(source, prefix)[:, -1]


class TimeFirst(Right):
    def features(self, source, prefix):
        return super().features(source, prefix).transpose(0, 1)


class Pair(Right):
    def forward(self, source, prefix):
        return super().forward(source, prefix), None


class Scaled(Right):
    def project(self, features):
        return 3 * self.out(features)


class Transposed(Right):
    def projection(self):
        return self.out.weight.T, self.out.bias


class Unfinished(Right):
    def features(self, source, prefix):
        return self.drop(self.target(prefix))

    def forward(self, source, prefix):
        return self.out(super().features(source, prefix))


class Failing(Right):
    def forward(self, source, prefix):
        raise KeyError("width")


def asked(model: nn.Module, source: Tensor = SOURCE) -> None:
    try_model(model, source, PREFIX, name="the actor of mine", vocabulary=V)


@pytest.mark.parametrize("model", [Right, Stepwise, Unbiased, Masked, Random, Counting])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_holds_together_is_left_as_it_was(model, dtype):
    made = model().to(dtype)
    made.drop.eval()  # a part in another mode than the rest
    before, random = {name: value.clone() for name, value in made.state_dict().items()}, torch.get_rng_state()
    asked(made)
    assert torch.equal(torch.get_rng_state(), random)
    assert made.training and made.decoder.training and not made.drop.training
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (More, r"the actor of mine must map .* to logits \[N, T, V\], .*, here \[2, 3, 11\], got \[2, 3, 14\]"),
        (Short, r"here \[2, 3, 11\], got \[2, 2, 11\]"),
        (Last, r"here \[2, 3, 11\], got \[2, 11\]"),
        (TimeFirst, r"here \[2, 3, 11\], got \[3, 2, 11\]"),
        (Pair, r"here \[2, 3, 11\], got tuple"),
        (Scaled, r"project\(features\) of the actor of mine must be features @ weight\.T \+ bias of projection\(\)"),
        (Transposed, r"projection\(\) of the actor .* weight \[V, H\] and bias \[V\], here \[11, 8\], got \[8, 11\]"),
        (Unfinished, r"project\(features\(source, prefix\)\) of the actor of mine must be its logits, got numbers that"),
        (LateStep, r"step\(\) of the actor of mine must return the logits of forward\(source, prefix\) at position 0"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_is_one_sentence(model, words):
    torch.manual_seed(1)
    with pytest.raises(ValueError, match=words):
        asked(model())


def test_a_model_that_raises_keeps_its_trace():
    with pytest.raises(
        UserCodeError, match=r"the actor of mine failed .* of 3 tokens: KeyError: 'width'"
    ) as caught:
        asked(Failing())
    assert isinstance(caught.value.__cause__, KeyError)


def scaled_critic(request):
    made = Right if request.role == "actor" else Scaled
    return made(request.source_size, request.target_size)


def short_actor(request):
    return Short(request.source_size, request.target_size)


@pytest.mark.parametrize(("function", "words"), [(scaled_critic, "critic of"), (short_actor, "the actor of")])
def test_a_run_asks_actor_and_critic_before_it_writes(tiny_settings, function, words):
    with pytest.raises(ValueError, match=f"{words} .*{function.__name__}"):
        run(tiny_settings, model=function)
    assert not Path(tiny_settings.output).exists()


def test_a_source_is_what_the_data_have(tiny_settings):
    seen = []

    class Pixels(Right):
        def features(self, source, prefix):
            seen.append(source.shape)
            return self.drop(self.decoder(self.target(prefix))[0])

    data = DataSettings(kind="scenes", pairs=4, dev_pairs=3, test_pairs=2, min_frequency=1, max_length=25)
    settings = replace(tiny_settings, algorithm="mle", data=data)
    schedule = replace(settings.actor.schedule, max_updates=1)
    settings = replace(settings, actor=replace(settings.actor, schedule=schedule))
    run(settings, model=lambda request: Pixels(3, request.target_size))
    assert len(seen[0]) == 4 and seen[0][:2] == (2, 3)


def test_it_changes_no_number(tmp_path, monkeypatch):
    """The package's example, with dropout, as actor and critic."""
    kind = f"{ROOT / 'examples' / 'own_transformer.py'}:Translator"
    words = {
        "data.pairs": "60",
        "data.dev_pairs": "6",
        "data.test_pairs": "6",
        "threads": "1",
        "device": "cpu",
    }
    words |= {"model.kind": kind, "model.options": "{width: 16, layers: 1}", "evaluation.beam": "2"}
    words |= {f"{stage}.schedule.max_updates": "2" for stage in ("actor", "critic", "joint")}
    settings = load(Settings, overrides=[*words.items(), ("keep_memory", "false")])
    assert settings.actor.dropout and isinstance(settings.model, ModelSettings)
    tried = run(replace(settings, output=str(tmp_path / "tried"))).folder
    calls = []
    monkeypatch.setattr(Assembly, "_try_networks", lambda self, kind: calls.append(kind))
    untried = run(replace(settings, output=str(tmp_path / "untried"))).folder
    assert calls == [kind]
    same_run(tried, untried)
