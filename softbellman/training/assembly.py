"""The parts of a run: its networks, its stages and how each of them is judged on the validation set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from softbellman.data import EOS, UNK, BatchIterator, collate
from softbellman.decoding import Sampler, Tempered, sample
from softbellman.models import PixelCaptioner
from softbellman.payoffs.payoff import Payoff
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.evaluation import (
    corpus_batches,
    corpus_bleu,
    further_metrics,
    reference_nll,
    soft_residual,
    td_error,
    translate_corpus,
    warn_of_tokenised,
)
from softbellman.training.health import ranking
from softbellman.training.networks import build_actor, build_reader
from softbellman.training.settings import EditSettings, ScheduleSettings, Settings, follow_data
from softbellman.training.stages import (
    ActorStage,
    AugmentedStage,
    CompletionStage,
    CriticStage,
    EditSource,
    JointStage,
    OracleStage,
    PolicyEvaluation,
    Stage,
    WarmUpStage,
    draw_key,
    target_of,
)
from softbellman.training.task import Task


class Assembly:
    """Builds networks and stages. CIDEr-D needs its `payoff` made (`prepare_payoff`); the others follow from the settings.

    Attributes:
        actor: reads the source, or the features of an image.
        sampler: draws from it.
        reader: reads the reference: the critic of AC and ERAC, the oracle of VAML.
        stages: names of the stages with at least one epoch, in order.
    """

    def __init__(
        self, settings: Settings, task: Task, device: torch.device, payoff: Payoff | None = None
    ) -> None:
        self.settings, self.task, self.device = follow_data(settings), task, device
        self.payoff = payoff or Payoff(settings.payoff, eos_id=EOS, unknown_id=UNK)
        self.algorithm = ALGORITHMS[settings.algorithm]
        self.stages = [name for name in self.algorithm.stages if getattr(settings, name).schedule.epochs > 0]
        self._check_image_encoder()
        self.actor = self._new_actor("actor")
        self.sampler = self._new_sampler()
        torch.manual_seed(draw_key(settings.seed, "critic/initialisation"))
        self.reader = build_reader(settings, self.algorithm.reader, target_size=len(task.target_codec))
        self.reader = self.reader.to(device)
        self.forbidden = task.forbidden(device) & settings.credit.forbid_special
        self.dev = task.dev
        if settings.evaluation.drop_long:
            self.dev = self.dev.drop_longer(settings.data.max_length, name="validation")
        warn_of_tokenised(self.dev.reference_texts, self.settings.evaluation.tokenize)
        self.dev_batches = corpus_batches(self.dev, settings.evaluation.batch_size)
        self._target: nn.Module | None = None
        self._builders: dict[str, Callable[[], Stage]] = {
            "actor": self._actor,
            "warmup": self._warmup,
            "critic": self._critic,
            "joint": self._joint,
            "oracle": self._oracle,
            "augmented": self._augmented,
            "completion": self._completion,
        }

    def build(self, name: str) -> Stage:
        """A stage on the networks as they are; to be called when the stages before it are done."""
        if name != "actor" and self.settings.model.image_encoder == "likelihood":
            assert isinstance(self.actor, PixelCaptioner)
            self.actor.freeze_encoder()
        return self._builders[name]()

    def train_batches(self, schedule: ScheduleSettings, stage: str) -> BatchIterator:
        """The training batches of a stage."""
        return BatchIterator(
            self.task.train,
            batch_size=schedule.batch_size,
            unit=schedule.batch_unit,
            seed=draw_key(self.settings.seed, f"{stage}/batches") % 2**31,
            targets=self.task.targets,
            references=self.settings.payoff.references,
        )

    def _new_actor(self, stage: str) -> nn.Module:
        torch.manual_seed(draw_key(self.settings.seed, f"{stage}/initialisation"))
        task = self.task
        actor = build_actor(
            self.settings,
            source_size=task.source_size,
            target_size=len(task.target_codec),
            positions=task.positions,
        )
        return actor.to(self.device)

    def _new_sampler(self) -> Sampler:
        if self.settings.cuda_graphs:
            from softbellman.decoding.experimental import GraphSampler

            return GraphSampler(self.actor)
        return partial(sample, self.actor)

    def _start_actor(self, stage: str, start: str) -> None:
        if start == "scratch":
            self.actor.load_state_dict(self._new_actor(stage).state_dict())

    def _check_image_encoder(self) -> None:
        """Raises ValueError where `model.image_encoder` asks for what the data or the stages do not give."""
        kind, asked = self.settings.data.kind, self.settings.model.image_encoder
        if asked != "trained" and kind != "scenes":
            raise ValueError(
                f"model.image_encoder is {asked}, but data.kind is {kind}, which reads no pixels"
            )
        if asked != "likelihood":
            return
        if "actor" not in self.stages:
            raise ValueError(
                "model.image_encoder is likelihood, but actor.schedule.epochs is 0: nothing trains it"
            )
        for name in ("augmented", "completion"):
            if name in self.stages and getattr(self.settings, name).start == "scratch":
                raise ValueError(
                    f"model.image_encoder is likelihood, but {name}.start is scratch, which begins with random "
                    f"convolutions; say {name}.start: actor, or model.image_encoder: trained"
                )

    # Stages ---------------------------------------------------------------------------------------------------------

    def _actor(self) -> Stage:
        return ActorStage(
            self.actor, self.settings.actor, judge=self.judge_actor, logits=self.settings.logits
        )

    def _warmup(self) -> Stage:
        logits = self.settings.logits
        judge = partial(reference_nll, self.reader, self.dev_batches, device=self.device, logits=logits)
        return WarmUpStage(self.reader, self.settings.warmup, judge=judge, logits=logits)

    def _values_from_warmup(self) -> None:
        """After a warm-up, whose selected weights are loaded: its logits, scaled, become the first values."""
        if "warmup" in self.stages:
            with torch.no_grad():
                for parameter in self.reader.output.parameters():
                    parameter.mul_(self.settings.warmup.scale)

    def _critic(self) -> Stage:
        self._values_from_warmup()
        evaluation = self._policy_evaluation("critic")
        return CriticStage(evaluation, self.settings.critic, judge=partial(self._judge_critic, evaluation))

    def _joint(self) -> Stage:
        evaluation = self._policy_evaluation("joint")
        return JointStage(evaluation, self.settings.joint, judge=partial(self._judge_joint, evaluation))

    def _policy_evaluation(self, stage: str) -> PolicyEvaluation:
        if self._target is None:
            self._target = target_of(self.reader)
        settings = self.settings
        own = settings.critic if stage == "critic" else settings.joint
        return PolicyEvaluation(
            self.actor,
            self.reader,
            self._target,
            payoff=self.payoff,
            credit=settings.credit,
            samples=own.samples,
            extra_length=own.extra_length,
            longest=settings.data.max_length,
            key=draw_key(settings.seed, f"{stage}/draws"),
            forbidden=self.forbidden,
            logits=settings.logits,
            sampler=self.sampler,
        )

    def _edits(
        self, stage: str, edits: EditSettings, *, tau: float = 1.0, corrected: bool = True
    ) -> EditSource:
        return EditSource(
            edits,
            self.payoff,
            vocabulary=len(self.task.target_codec),
            tau=tau,
            corrected=corrected,
            key=draw_key(self.settings.seed, f"{stage}/draws"),
        )

    def _oracle(self) -> Stage:
        self._values_from_warmup()
        own = self.settings.oracle
        source = self._edits("oracle", own.edits)
        stage = OracleStage(
            self.reader,
            source,
            own,
            judge=lambda: self._judge_oracle(stage),
            logits=self.settings.logits,
        )
        return stage

    def _augmented(self) -> Stage:
        own = self.settings.augmented
        self._start_actor("augmented", own.start)
        distils = "oracle" in self.stages
        source = self._edits(
            "augmented",
            own.edits,
            tau=self.settings.oracle.tau if distils else own.tau,
            corrected=own.weights == "corrected",
        )
        oracle = self.reader if distils else None
        return AugmentedStage(
            self.actor, oracle, source, own, judge=self.judge_actor, logits=self.settings.logits
        )

    def _completion(self) -> Stage:
        settings = self.settings
        self._start_actor("completion", settings.completion.start)
        return CompletionStage(
            self.actor,
            self._edits("completion", settings.completion.edits),
            settings.completion,
            payoff=self.payoff,
            longest=settings.data.max_length,
            key=draw_key(settings.seed, "completion/draws"),
            forbidden=self.forbidden,
            judge=self.judge_actor,
            logits=settings.logits,
            sampler=self.sampler,
        )

    # Validation -----------------------------------------------------------------------------------------------------

    def judge_actor(self) -> dict[str, float]:
        """BLEU of the actor's beam search, and the other metrics asked for."""
        evaluation = self.settings.evaluation
        lines = translate_corpus(
            self.actor, self.dev_batches, self.task.target_codec, evaluation, device=self.device
        )
        score = corpus_bleu(lines, self.dev.reference_texts, tokenize=evaluation.tokenize)
        others = further_metrics(evaluation.metrics, lines, self.dev.reference_texts, evaluation)
        return {
            "dev_bleu": score.score,
            "dev_length_ratio": score.length_ratio,
            **{f"dev_{name}": value for name, value in others.items()},
        }

    def _judge_critic(self, evaluation: PolicyEvaluation) -> dict[str, float]:
        metrics = td_error(evaluation, self.dev_batches, device=self.device)
        batch = collate(self.dev, [(index, 0) for index in range(min(200, len(self.dev)))]).to(self.device)
        found = ranking(
            self.actor,
            self.reader,
            batch,
            payoff=self.payoff,
            max_length=self.settings.data.max_length,
            forbidden=self.task.forbidden(self.device),
        )
        metrics["rank_correlation"], metrics["choice_gain"] = found.correlation, found.gain
        return metrics

    def _judge_joint(self, evaluation: PolicyEvaluation) -> dict[str, float]:
        return {**self.judge_actor(), **self._judge_critic(evaluation)}

    def _judge_oracle(self, stage: OracleStage) -> dict[str, float]:
        """Soft Bellman residual on edited validation references, and BLEU of what the oracle itself would say."""
        evaluation = self.settings.evaluation
        lines = translate_corpus(
            Tempered(self.reader, self.settings.oracle.tau),
            self.dev_batches,
            self.task.target_codec,
            evaluation,
            device=self.device,
            reads="reference",
        )
        score = corpus_bleu(lines, self.dev.reference_texts, tokenize=evaluation.tokenize)
        return {**soft_residual(stage, self.dev_batches, device=self.device), "oracle_bleu": score.score}
