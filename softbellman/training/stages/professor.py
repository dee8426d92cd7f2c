"""The stage of professor forcing (Lamb et al. 2016): a discriminator shall not tell states of free running from taught ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from softbellman.data import Batch
from softbellman.models import AttentionDecoder
from softbellman.training.processes import current
from softbellman.training.rollout import mode
from softbellman.training.settings import ProfessorStageSettings
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend, ends_update
from softbellman.training.stages.drawing import DRAWN, Drawing
from softbellman.training.stages.spec import StageSpec

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class Discriminator(nn.Module):
    """Tells sequences of states: a bidirectional GRU over them, and two layers on the mean of what it says.

    Args:
        width: of the states, H.
        hidden: of each direction and of the layer between.

    Attributes:
        accuracy: share of the sequences of the last update that it told right, taught and free ones weighing the same; a
            buffer, so that it is kept with the weights.
        tally: sequences told right and all of them, of the parts of an update so far.
    """

    accuracy: Tensor
    tally: Tensor

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.reader = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.between = nn.Linear(2 * hidden, hidden)
        self.output = nn.Linear(hidden, 1)
        self.register_buffer("accuracy", torch.tensor(0.5))
        self.register_buffer("tally", torch.zeros(2))

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Log odds that sequences of states come from teacher forcing.

        Args:
            states: `[N, T, H]`; what stands behind a sequence's end is not read.
            lengths: states of each, at least 1, `[N]`.

        Returns:
            `[N]`.
        """
        packed = pack_padded_sequence(states, lengths.cpu(), batch_first=True, enforce_sorted=False)
        said, _ = pad_packed_sequence(self.reader(packed)[0], batch_first=True)  # 0 behind the end
        mean = said.sum(1) / lengths[:, None]
        found: Tensor = self.output(torch.relu(self.between(mean))).squeeze(-1)
        return found

    def count(self, taught: Tensor, free: Tensor, *, counts: bool) -> Tensor:
        """Note the log odds of an update, or of a part of it; at its end `accuracy` is that of all processes.

        Args:
            taught: of the references, `[B]`.
            free: of the drawn sequences, `[N]`.
            counts: False for rows that only keep step.

        Returns:
            Sequences told right, N at most.
        """
        weight = len(free) / len(taught)
        right = 0.5 * ((taught > 0).sum() * weight + (free <= 0).sum())
        if counts:
            self.tally += torch.stack([right, right.new_tensor(float(len(free)))])
        if ends_update():
            found, total = current().sum(self.tally.clone())
            self.accuracy.copy_(found / total)
            self.tally.zero_()
        return right


class ProfessorStage:
    """Maximum likelihood, and a discriminator on what the output layer reads: after references and after own words.

    Args:
        drawing: the actor, and how sequences are drawn from it.
        discriminator: what tells the states.
        settings: of the stage.
        judge: validation.
    """

    name = "professor"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)

    def __init__(
        self,
        drawing: Drawing,
        discriminator: Discriminator,
        settings: ProfessorStageSettings,
        *,
        judge: Judge,
    ) -> None:
        self.schedule = settings.schedule
        self.start_is_candidate = settings.start == "actor"
        self.drawing, self.discriminator = drawing, discriminator
        self.modules: dict[str, nn.Module] = {"actor": drawing.actor, "discriminator": discriminator}
        self.optimizers = {
            "actor": build_optimizer(drawing.actor, settings.optimizer),
            "discriminator": build_optimizer(discriminator, settings.discriminator_optimizer),
        }
        self.evaluate = judge
        self._settings = settings

    def update(self, batch: Batch, step: int) -> Sums:
        settings, drawing, judge = self._settings, self.drawing, self.discriminator
        actor = drawing.actor.train()
        accuracy = float(judge.accuracy)  # of the update before, so that all parts and processes do the same
        rollout = drawing.draw(batch, step)
        assert isinstance(actor, AttentionDecoder)
        with mode(actor, training=False):  # masks of dropout would tell nothing but themselves
            taught = actor.features(batch.source, batch.prefix)
            free = actor.features(batch.source, rollout.prefix)
        lengths = batch.mask.sum(1), rollout.mask.sum(1)
        likelihood = drawing.likelihood(batch)
        loss, adversarial = likelihood.loss, accuracy > settings.generator_above
        if adversarial:
            judge.requires_grad_(False)
            loss = loss + settings.weight * softplus(-judge(free, lengths[1])).mean()
            if settings.teacher:
                loss = loss + settings.weight * softplus(judge(taught, lengths[0])).mean()
            judge.requires_grad_(True)
        said = judge(taught.detach(), lengths[0]), judge(free.detach(), lengths[1])
        right = judge.count(said[0].detach(), said[1].detach(), counts=batch.share > 0)
        count = len(rollout.mask)
        diagnostics = likelihood.diagnostics | {
            "tokens": rollout.mask.sum(),
            "sequences": torch.as_tensor(count),
            "payoff": rollout.rewards.sum(),
            "discriminator_accuracy": right,
            "adversarial_loss": softplus(-said[1].detach()).sum(),
            "adversarial_share": torch.as_tensor(float(adversarial) * count),
            "actor_gradient": descend(
                loss, actor, self.optimizers["actor"], settings.optimizer.clip, share=batch.share
            ),
        }
        if accuracy < settings.discriminator_below:
            own = softplus(-said[0]).mean() + softplus(said[1]).mean()
            clip = settings.discriminator_optimizer.clip
            diagnostics["discriminator_gradient"] = descend(
                own, judge, self.optimizers["discriminator"], clip, share=batch.share
            )
        return diagnostics


def _build(parts: Assembly, own: ProfessorStageSettings) -> ProfessorStage:
    parts.restart_actor(PROFESSOR.name, own.start)
    assert isinstance(parts.actor, AttentionDecoder)
    torch.manual_seed(parts.draw_key(f"{PROFESSOR.name}/discriminator"))
    width = parts.actor.projection()[0].shape[1]
    discriminator = Discriminator(width, own.hidden).to(parts.device)
    drawn = parts.draws(PROFESSOR.name, parts.actor, own.samples, own.extra_length)
    return ProfessorStage(Drawing(parts.actor, **drawn), discriminator, own, judge=parts.judge_actor)


def _check(parts: Assembly, own: ProfessorStageSettings) -> None:
    if not isinstance(parts.actor, AttentionDecoder):
        raise ValueError(
            f"professor_forcing compares the states of a recurrent decoder, but model.kind is {parts.settings.model.kind}; "
            "say model.kind: lstm"
        )


PROFESSOR = StageSpec(
    "professor",
    _build,
    label="professor forcing",
    colour="#5b7f3a",
    reads=("payoff", *DRAWN),
    check=_check,
)
