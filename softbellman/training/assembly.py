"""The parts of a run: its networks, its stages and how each of them is judged on the validation set."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import nn

from softbellman.core.objects import UserCodeError, is_object_name
from softbellman.data import Batch, BatchIterator, collate
from softbellman.decoding import LastScore, Sampler, StepwiseModel, sample
from softbellman.models import PixelCaptioner, TransformerPixelCaptioner
from softbellman.payoffs.payoff import Payoff
from softbellman.training.evaluation import corpus_batches, warn_of_tokenised
from softbellman.training.judging import Judged, judge_search
from softbellman.training.networks import build_actor, build_reader
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.settings import EditSettings, ScheduleSettings, Settings, follow_data
from softbellman.training.stages import EditSource, Stage, draw_key
from softbellman.training.stages.averaged import AveragedStage
from softbellman.training.stages.spec import StageSpec
from softbellman.training.task import Task
from softbellman.training.tried_model import Trial, try_model


class Assembly:
    """Builds networks and stages. CIDEr-D needs its `payoff` made (`prepare_payoff`); the others follow from the settings.

    Attributes:
        actor: reads the source, or the features of an image.
        sampler: draws from it.
        reader: reads the reference: the critic of AC and ERAC, the oracle of VAML; empty where no stage has one.
        stages: names of the stages with at least one epoch, in order.
        kept: networks that a stage leaves to those after it, by name, such as the target critic.
    """

    def __init__(
        self, settings: Settings, task: Task, device: torch.device, payoff: Payoff | None = None
    ) -> None:
        self.settings, self.task, self.device = follow_data(settings), task, device
        special = task.special
        self.payoff = payoff or Payoff(settings.payoff, eos_id=special.eos, unknown_id=special.unknown)
        self.algorithm = algorithm_of(settings)
        self.stages = self.algorithm.trained(settings)
        self._check_image_encoder()
        self.actor = self._new_actor("actor", settings.seed_of_network("actor"))
        self.sampler = self._new_sampler(self.actor)
        torch.manual_seed(draw_key(settings.seed_of_network("reader"), "critic/initialisation"))
        self.reader: nn.Module = nn.Module()
        specs = [self.algorithm.spec(name) for name in self.stages]
        if any("reader" in spec.trains and spec.with_reader(settings) for spec in specs):
            self.reader = build_reader(
                settings, self.algorithm.reader, target_size=len(task.target_codec), special=special
            ).to(device)
        for name in self.stages:
            self.algorithm.spec(name).check(self, self.section(name))
        self.forbidden = task.forbidden(device) & settings.credit.forbid_special
        self.dev = task.dev
        if settings.evaluation.drop_long:
            self.dev = self.dev.drop_longer(settings.data.max_length, name="validation")
        warn_of_tokenised(self.dev.reference_texts, self.settings.evaluation.tokenize)
        self.dev_batches = corpus_batches(self.dev, settings.evaluation.batch_size, settings.payoff)
        self.kept: dict[str, nn.Module] = {}
        if is_object_name(settings.model.kind):
            self._try_networks(settings.model.kind)

    def section(self, stage: str) -> Any:
        """The settings of a stage."""
        return self.algorithm.section(self.settings, stage)

    def build(self, name: str) -> Stage:
        """A stage on the networks as they are; to be called when the stages before it are done.

        Raises:
            UserCodeError: a stage of the user's own could not be built; commands show its trace.
        """
        spec = self.algorithm.spec(name)
        if not spec.likelihood and self.settings.model.image_encoder == "likelihood":
            assert isinstance(self.actor, (PixelCaptioner, TransformerPixelCaptioner))
            self.actor.freeze_encoder()
        try:
            stage = self._build(spec, self.section(name))
        except Exception as error:
            if spec not in self.algorithm.own:
                raise
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserCodeError(f"stage {name}: building it raised {words}") from error
        if stage.name != name:
            raise ValueError(f"the stage {name} must have its name, got one that is called {stage.name!r}")
        return stage

    def _build(self, spec: StageSpec, own: Any) -> Stage:
        """A stage; where its settings ask for averaged weights, the actor of the run is the average and a copy is trained."""
        decay = getattr(own, "average", 0.0) if spec.trains_actor else 0.0
        if not decay:
            return spec.build(self, own)
        average, sampler = self.actor, self.sampler
        trained = self.actor = copy.deepcopy(average)
        self.sampler = self._new_sampler(trained)
        try:
            stage = spec.build(self, own)
        finally:
            self.actor, self.sampler = average, sampler
        return AveragedStage(stage, average=average, trained=trained, decay=decay)

    def train_batches(self, schedule: ScheduleSettings, stage: str) -> BatchIterator:
        """The training batches of a stage."""
        return BatchIterator(
            self.task.train,
            batch_size=schedule.batch_size,
            unit=schedule.batch_unit,
            seed=draw_key(self.settings.seed_of(stage), f"{stage}/batches") % 2**31,
            targets=self.task.targets,
            references=self.settings.payoff.references,
            reads=self.settings.payoff.reads,
        )

    def _new_actor(self, name: str, seed: int) -> nn.Module:
        torch.manual_seed(draw_key(seed, f"{name}/initialisation"))
        task = self.task
        actor = build_actor(
            self.settings,
            source_size=task.source_size,
            target_size=len(task.target_codec),
            positions=task.positions,
            special=task.special,
        )
        return actor.to(self.device)

    def _new_sampler(self, actor: nn.Module) -> Sampler:
        if self.settings.cuda_graphs:
            from softbellman.decoding.experimental import GraphSampler

            return GraphSampler(actor)
        return partial(sample, actor)

    def _try_networks(self, kind: str) -> None:
        """Raises where networks of the user's own are not what stages take them for."""
        trial = Trial.of(self.dev, self.device, reads=self.settings.payoff.reads)
        roles = {
            "actor": (self.actor, trial.batch.source),
            self.algorithm.reader: (self.reader, trial.batch.critic_source),
        }
        for role, (network, source) in roles.items():
            if [*network.parameters()]:  # a run may have no reader
                name = f"the {role} of model.kind {kind}"
                try_model(network, source, trial.prefix, name=name, vocabulary=len(self.task.target_codec))

    def restart_actor(self, stage: str, start: str) -> None:
        """Gives the actor new weights where a stage starts from `scratch`."""
        if start == "scratch":
            self.actor.load_state_dict(self._new_actor(stage, self.settings.seed_of(stage)).state_dict())

    def _check_image_encoder(self) -> None:
        """Raises ValueError where `model.image_encoder` asks for what the data or the stages do not give."""
        kind, asked = self.settings.data.kind, self.settings.model.image_encoder
        if asked != "trained" and kind != "scenes":
            raise ValueError(
                f"model.image_encoder is {asked}, but data.kind is {kind}, which reads no pixels"
            )
        if asked != "likelihood":
            return
        if not any(self.algorithm.spec(name).likelihood for name in self.stages):
            raise ValueError(
                "model.image_encoder is likelihood, but actor.schedule.epochs is 0: nothing trains it"
            )
        for name in self.stages:
            if getattr(self.section(name), "start", "") == "scratch":
                raise ValueError(
                    f"model.image_encoder is likelihood, but {name}.start is scratch, which begins with random "
                    f"convolutions; say {name}.start: actor, or model.image_encoder: trained"
                )

    # What stages are made of ----------------------------------------------------------------------------------------

    def draw_key(self, stage: str) -> int:
        """Key of a stage's draws."""
        return draw_key(self.settings.seed_of(stage), f"{stage}/draws")

    def draws(self, stage: str, actor: nn.Module, samples: int, extra_length: int) -> dict[str, Any]:
        """The arguments of a `Drawing` beside the actor, `samples` sequences for each source."""
        settings = self.settings
        return {
            "payoff": self.payoff,
            "credit": settings.credit,
            "samples": samples,
            "extra_length": extra_length,
            "longest": settings.data.max_length,
            "key": self.draw_key(stage),
            "forbidden": self.forbidden,
            "logits": settings.logits,
            "sampler": self.sampler if actor is self.actor else self._new_sampler(actor),
        }

    def edits(
        self, stage: str, edits: EditSettings, *, tau: float = 1.0, corrected: bool = True
    ) -> EditSource:
        """Draws a stage's edited references."""
        return EditSource(
            edits,
            self.payoff,
            vocabulary=len(self.task.target_codec),
            tau=tau,
            corrected=corrected,
            key=self.draw_key(stage),
        )

    # Validation -----------------------------------------------------------------------------------------------------

    def judge_actor(self, searched: LastScore | None = None) -> dict[str, float]:
        """BLEU of the actor's beam search, and the other metrics asked for; `searched` where logits are no probabilities."""
        found = self.judge(searched or self.actor)
        return {
            "dev_bleu": found.bleu.score,
            "dev_length_ratio": found.bleu.length_ratio,
            **{f"dev_{name}": value for name, value in found.others.items()},
        }

    def judge(self, model: nn.Module | StepwiseModel, **options: Any) -> Judged:
        """What a model's beam search says of the validation set, see `judge_search`."""
        return judge_search(
            model,
            self.dev,
            self.dev_batches,
            self.settings.evaluation,
            codec=self.task.target_codec,
            payoff=self.payoff,
            device=self.device,
            **options,
        )

    def first_of_dev(self, count: int, batch_size: int) -> list[Batch]:
        """The first sentences of the validation set with their first references, in batches."""
        numbers = range(min(count, len(self.dev)))
        how = self.settings.payoff
        return [
            collate(
                self.dev,
                [(index, 0) for index in numbers[start : start + batch_size]],
                references=how.references,
                reads=how.reads,
            ).to(self.device)
            for start in range(0, len(numbers), batch_size)
        ]
