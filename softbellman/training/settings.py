"""Every setting of a run, as frozen dataclasses; the text under a field is its help.

The defaults are the published recipe (sizes, optimisers, temperatures) of the paper's authors for machine translation; the
run without any argument uses the built-in corpus and the smaller sizes of ``configs/builtin_erac.yaml``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Smoothing = Literal["none", "floor", "add-k", "exp", "add-one-all"]


@dataclass(frozen=True)
class DataSettings:
    """Where sentence pairs come from and how they become token ids."""

    kind: Literal["builtin", "parallel"] = "builtin"
    """`builtin`: a corpus generated from a seed, nothing to download; `parallel`: text files, one sentence a line."""
    path: str = ""
    """Folder of the parallel files, named SPLIT.LANGUAGE or SPLIT.LANGUAGE.gz, as in train.de and train.en."""
    source: str = "de"
    """Source language: the file ending of the source side."""
    target: str = "en"
    """Target language: the file ending of the target side."""
    train: str = "train"
    """Name of the training split."""
    dev: str = "val"
    """Name of the validation split, used for model selection."""
    test: str = "test_2016"
    """Name of the test split, decoded once at the end."""
    tokenizer: Literal["word", "sentencepiece"] = "word"
    """`word`: the files are tokenised, words are split at spaces; `sentencepiece`: sub-words (needs the extra [text])."""
    vocabulary_size: int = 8000
    """Pieces of each SentencePiece model; words are limited by `min_frequency` instead."""
    min_frequency: int = 3
    """Words seen less often in the training split become <unk>."""
    max_length: int = 50
    """Training pairs with a longer side (tokens) are dropped; validation and test pairs never are."""
    seed: int = 1
    """Seed of the built-in corpus (not of the training)."""
    pairs: int = 20000
    """Training pairs of the built-in corpus."""
    dev_pairs: int = 500
    """Validation pairs of the built-in corpus."""
    test_pairs: int = 1000
    """Test pairs of the built-in corpus."""
    difficulty: float = 3.0
    """Difficulty of the built-in corpus, 1 (small vocabulary, plain clauses) to 5 (rare words, ambiguity, deep clauses)."""

    def __post_init__(self) -> None:
        if self.path and self.kind == "builtin":
            raise ValueError(
                "data.path is given, but data.kind is builtin; for text files say data.kind: parallel"
            )


@dataclass(frozen=True)
class ModelSettings:
    """Sizes shared by the actor and the critic: attention sequence-to-sequence, biLSTM encoder, LSTM decoder."""

    embedding: int = 256
    """Width of the word embeddings."""
    hidden: int = 256
    """Width of the decoder LSTM; each direction of the encoder has half of it."""
    attention_size: int = 256
    """Width of the MLP attention's hidden layer."""
    layers: int = 1
    """LSTM layers of the encoder and of the decoder."""
    input_feeding: bool = False
    """The attention output of one step joins the input of the next (actor and critic)."""
    init_range: float = 0.1
    """Weights start uniform in [-init_range, init_range]."""


@dataclass(frozen=True)
class PayoffSettings:
    """The payoff R of a partial hypothesis: sentence BLEU of the prefix times the reference length (eq. 4, 13)."""

    max_order: int = 4
    """Longest n-gram."""
    smoothing: Smoothing = "add-k"
    """Smoothing of the n-gram precisions; `add-one-all` is the published code's."""
    scale: Literal["reference_length", "none"] = "reference_length"
    """`reference_length`: multiply by the length of the reference, without its end token; `none`: plain BLEU in [0, 1]."""
    unknown_matches: bool = False
    """An <unk> in the hypothesis matches an <unk> of the reference (the published code's training payoff)."""
    references: Literal["one", "all"] = "one"
    """Score against the training target alone, or against every reference the corpus has for the source."""


@dataclass(frozen=True)
class OptimizerSettings:
    """One optimiser."""

    name: Literal["sgd", "adam"] = "adam"
    """Plain stochastic gradient descent or Adam."""
    learning_rate: float = 1e-3
    """Step size at the start."""
    beta1: float = 0.9
    """Adam's decay of the first moment."""
    clip: float = 5.0
    """Largest global gradient norm."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Length of a stage and its learning-rate decay."""

    batch_size: int = 50
    """Sentence pairs (or tokens, see `batch_unit`) of one update."""
    batch_unit: Literal["sentences", "tokens"] = "sentences"
    """What `batch_size` counts."""
    epochs: int = 30
    """Most epochs."""
    decay: float = 0.5
    """Factor of the learning rate after an epoch whose selection score is no better than the best so far."""
    max_decays: int = 6
    """The stage ends when the learning rate would be decayed once more than this."""
    max_updates: int = 0
    """End the stage after this many updates; 0 means no limit."""
    interval: int = 0
    """Updates between validations (with selection, decay and checkpoint); 0 means once an epoch."""


@dataclass(frozen=True)
class ActorStageSettings:
    """Maximum-likelihood training of the actor."""

    attention: Literal["dot", "mlp"] = "dot"
    """Attention score of the actor."""
    dropout: float = 0.3
    """Dropout on the attention output (the published `droph`)."""
    optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(name="sgd", learning_rate=0.6)
    )
    """Optimiser of the actor."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay."""


@dataclass(frozen=True)
class WarmUpSettings:
    """Start of the critic: maximum likelihood of the reference given the reference, before any value is learnt.

    Not in the paper. It teaches the critic's attention which reference word comes next, dense feedback for what the TD error
    alone finds slowly; the critic's values then start as scaled logits.
    """

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """Optimiser of the warm-up."""
    schedule: ScheduleSettings = field(default_factory=lambda: ScheduleSettings(epochs=0))
    """Epochs and decay; selection is by the validation loss. 0 epochs: no warm-up, as published."""
    scale: float = 0.1
    """The logits are multiplied by this to become the first values."""


@dataclass(frozen=True)
class CriticStageSettings:
    """Policy evaluation: the critic learns the fixed actor's entropy-regularised values (eq. 18, 19)."""

    attention: Literal["dot", "mlp"] = "mlp"
    """Attention score of the critic."""
    dropout: float = 0.0
    """Dropout of the critic."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """Optimiser of the critic."""
    schedule: ScheduleSettings = field(default_factory=lambda: ScheduleSettings(epochs=20, max_decays=5))
    """Epochs and decay; selection is by the TD error on the validation set."""
    samples: int = 2
    """Sequences sampled from the actor for each source."""
    extra_length: int = 5
    """A sample may be this much longer than its reference."""


@dataclass(frozen=True)
class JointStageSettings:
    """Joint training of actor (eq. 20) and critic (eq. 18, 19)."""

    actor_optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(learning_rate=1e-4, beta1=0.0)
    )
    """Optimiser of the actor; only its learning rate is decayed."""
    critic_optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(learning_rate=1e-4, beta1=0.0)
    )
    """Optimiser of the critic."""
    schedule: ScheduleSettings = field(default_factory=lambda: ScheduleSettings(decay=0.9))
    """Epochs and decay; selection is by BLEU on the validation set."""
    samples: int = 1
    """Sequences sampled from the actor for each source."""
    extra_length: int = 10
    """A sample may be this much longer than its reference."""
    actor_delay: int = 0
    """Updates at the start in which the critic alone learns, at this stage's learning rate, and the actor stays."""
    follow: Literal["critic", "target"] = "critic"
    """Whose values the actor follows: the critic's, as published, or the target critic's, an average of past critics and so
    less noisy."""
    mle_weight: float = 0.1
    """Weight of the maximum-likelihood term (lambda_mle)."""


@dataclass(frozen=True)
class CreditSettings:
    """Entropy-regularised Bellman backup, shared by the critic and the joint stage; with the published code's variants."""

    tau: float = 0.045
    """Temperature: weight of the entropy in the actor's objective and in the critic's target. 0 gives plain AC."""
    future_entropy: bool = True
    """The critic's target contains the entropy of the future; false: critic with temperature 0, actor entropy kept."""
    smoothness: float = 0.001
    """Weight of the critic's smoothness penalty (lambda_var); see `penalty`."""
    target_speed: float = 0.001
    """Share of the critic that flows into the target critic at each update (beta)."""
    actor_entropy: Literal["exact", "normalized", "none"] = "exact"
    """Local entropy in the actor's signal: `exact` is eq. 20, `normalized` divides log pi by its L2 norm as published."""
    penalty: Literal["mean", "sum", "published"] = "mean"
    """Smoothness of the critic: `mean` weights the variance over V, which is what the published weight 0.001 belongs to; `sum`
    weights the sum of squares over V (eq. 18 as printed; wants a weight about V times smaller); `published` is the code: half
    the squared error, variance over V - 1."""
    mask_padding: bool = True
    """The joint critic's loss leaves padding out; false: padding positions are regressed to 0 as in the published code."""
    sampling_dropout: bool = False
    """Sample and evaluate the policy with dropout on (the published code) instead of the policy as it will act."""
    start_is_candidate: bool = True
    """The actor a joint stage starts from can be selected as its result."""
    forbid_special: bool = True
    """Padding, <bos> and <unk> are never sampled."""


@dataclass(frozen=True)
class EvaluationSettings:
    """Decoding of the validation and test sets."""

    beam: int = 5
    """Beam size; 1 is greedy search."""
    batch_size: int = 100
    """Sources decoded together."""
    max_length: int = 60
    """Longest hypothesis, in tokens."""
    length_penalty: float = 0.0
    """Exponent of the length normalisation; 0 compares plain log-probabilities as published."""
    tokenize: Literal["none", "13a"] = "none"
    """sacrebleu's tokeniser; `none` because the files are already tokenised."""
    drop_long: bool = False
    """Drop validation and test pairs longer than `data.max_length` as the published code does (figures are then not those of
    the whole test set)."""


@dataclass(frozen=True)
class Settings:
    """A run: data, model, algorithm and its stages."""

    algorithm: Literal["mle", "ac", "erac"] = "erac"
    """mle: maximum likelihood; ac: actor-critic (tau = 0); erac: entropy-regularised actor-critic."""
    preset: Literal["paper", "published"] = "paper"
    """`paper`: the mathematics; `published`: the authors' code where it departs from it. Single keys given beside win."""
    seed: int = 1
    """Seed of initialisation, batches, dropout and sampling."""
    threads: int = 0
    """CPU threads; 0 leaves torch's own choice. The same numbers, bit for bit, need the same thread count."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, ...; `auto` takes a GPU when torch sees one."""
    output: str = ""
    """Run folder; empty: runs/ALGORITHM-DATE-TIME."""
    cache: str = ""
    """Folder in which finished stages are kept by the hash of what went into them, so that runs share pre-trained actors and
    critics; empty: no sharing."""
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    payoff: PayoffSettings = field(default_factory=PayoffSettings)
    credit: CreditSettings = field(default_factory=CreditSettings)
    actor: ActorStageSettings = field(default_factory=ActorStageSettings)
    warmup: WarmUpSettings = field(default_factory=WarmUpSettings)
    critic: CriticStageSettings = field(default_factory=CriticStageSettings)
    joint: JointStageSettings = field(default_factory=JointStageSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)


PRESETS: dict[str, dict[str, str]] = {
    "paper": {},
    "published": {
        "payoff.smoothing": "add-one-all",
        "payoff.unknown_matches": "true",
        "credit.actor_entropy": "normalized",
        "credit.penalty": "published",
        "credit.mask_padding": "false",
        "credit.sampling_dropout": "true",
        "credit.start_is_candidate": "false",
        "credit.forbid_special": "false",
        "evaluation.drop_long": "true",
    },
}
"""Keys a preset sets before the user's own (the rows in which the published code departs from the mathematics)."""
