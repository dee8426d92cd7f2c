"""From a seed to the three splits of the built-in corpus, as text or as a ready dataset."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softbellman.core.files import write_atomically
from softbellman.data.builtin.difficulty import Difficulty
from softbellman.data.builtin.draws import Draws
from softbellman.data.builtin.lexicon import Lexicon, build_lexicon
from softbellman.data.builtin.sampler import Sampler
from softbellman.data.builtin.source import say_source
from softbellman.data.builtin.target import Chooser, say_target
from softbellman.data.dataset import Dataset, build_dataset
from softbellman.data.parallel import ParallelText

SHORTEST, LONGEST = 5, 20


@dataclass(frozen=True)
class Split:
    """Tokenised sentences.

    Attributes:
        sources: N token lists.
        references: N lists of one or more distinct token lists, all of the same meaning.
    """

    sources: list[list[str]]
    references: list[list[list[str]]]

    def __len__(self) -> int:
        return len(self.sources)

    def to_text(self, origin: str) -> ParallelText:
        """The same as lines of text; `origin` names it in error sentences."""
        return ParallelText(
            [" ".join(tokens) for tokens in self.sources],
            [[" ".join(tokens) for tokens in group] for group in self.references],
            source_origin=f"{origin} (source)",
            target_origin=f"{origin} (target)",
        )

    def files(self, name: str, *, source: str = "source", target: str = "target") -> dict[str, str]:
        """The texts by file name, as `load_split` finds them.

        These are `name.source` and `name.target`, or `name.target0`, `name.target1`, ... where sentences have several
        references. A sentence with fewer has empty lines in the later files.
        """
        text = self.to_text(name)
        most = max(map(len, text.references))
        columns = {f"{name}.{source}": text.sources}
        for number in range(most):
            ending = target if most == 1 else f"{target}{number}"
            columns[f"{name}.{ending}"] = [(*lines, *[""] * most)[number] for lines in text.references]
        return {file: "".join(f"{line}\n" for line in lines) for file, lines in columns.items()}

    def write(
        self, directory: str | Path, name: str, *, source: str = "source", target: str = "target"
    ) -> None:
        """Write the texts that `files` names."""
        for file, content in self.files(name, source=source, target=target).items():
            write_atomically(Path(directory) / file, content.encode())


def generate_builtin(
    *,
    seed: int = 1,
    pairs: int = 20_000,
    dev_pairs: int = 500,
    test_pairs: int = 1_000,
    difficulty: float = 3.0,
    references: int = 4,
    train_references: int = 1,
) -> dict[str, Split]:
    """The splits "train", "dev" and "test" of the built-in corpus, the same on every machine.

    Dev and test do not depend on `pairs`: with more training text the test stays the same. No source sentence
    of dev or test occurs in another split. Training sentences may repeat, as in real text.

    Args:
        seed: decides the sentences, not the language: words and grammar belong to the difficulty.
        pairs, dev_pairs, test_pairs: sentences of each split.
        difficulty: 1 (a few hundred words, short clauses, few paraphrases) to 5; see `Difficulty`.
        references: at most this many distinct paraphrases for each dev and test sentence (a meaning may have
            fewer).
        train_references: the same for training. The first one, drawn at random as every training target, does
            not depend on how many follow.

    Raises:
        ValueError: a count below 1 or a difficulty outside 1..5.
    """
    counts = {
        "pairs": pairs,
        "dev_pairs": dev_pairs,
        "test_pairs": test_pairs,
        "references": references,
        "train_references": train_references,
    }
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    settings = Difficulty.of(difficulty)
    key = f"softbellman builtin {float(difficulty)} {operator.index(seed)}"  # 3 is the corpus of 3.0
    lexicon = build_lexicon(settings)
    seen: set[tuple[str, ...]] = set()
    splits = {}
    for name, count in (("dev", dev_pairs), ("test", test_pairs)):
        splits[name] = _split(
            lexicon,
            settings,
            f"{key} {name}",
            count,
            references=references,
            seen=seen,
            distinct=True,
            noise=0.0,
        )
    train = _split(
        lexicon,
        settings,
        f"{key} train",
        pairs,
        references=train_references,
        seen=seen,
        distinct=False,
        noise=settings.noise,
    )
    return {"train": train, **splits}


def _split(
    lexicon: Lexicon,
    settings: Difficulty,
    key: str,
    count: int,
    *,
    references: int,
    seen: set[tuple[str, ...]],
    distinct: bool,
    noise: float,
) -> Split:
    """Sentences until there are `count` of them outside `seen`, to which `distinct` splits add their own."""
    sampler = Sampler(lexicon, settings, Draws(key))
    # Paraphrases draw from their own source, so that their number does not change which sentences follow.
    split = Split([], [])
    attempt = 0
    while len(split) < count:
        attempt += 1
        sentence = sampler.sentence()
        source = say_source(sentence)
        if not SHORTEST <= len(source) <= LONGEST or tuple(source) in seen:
            continue
        draws = Draws(f"{key} {attempt}")
        group: list[list[str]] = []
        for number in range(4 * references):
            if number == 4 and not group:
                break  # so that whether the sentence is taken does not depend on the number of references
            target = say_target(sentence, Chooser(draws, freedom=settings.freedom, noise=noise))
            if SHORTEST <= len(target) <= LONGEST and target not in group:
                group.append(target)
            if len(group) == references:
                break
        if not group:
            continue
        if distinct:
            seen.add(tuple(source))
        split.sources.append(source)
        split.references.append(group)
    return split


def builtin_texts(**corpus: Any) -> tuple[ParallelText, ParallelText, ParallelText]:
    """Training, validation and test text of `generate_builtin`, which takes the same arguments."""
    splits = generate_builtin(**corpus)
    train, dev, test = (splits[name].to_text(f"built-in corpus, {name}") for name in ("train", "dev", "test"))
    return train, dev, test


def builtin_dataset(
    *,
    seed: int = 1,
    pairs: int = 20_000,
    dev_pairs: int = 500,
    test_pairs: int = 1_000,
    difficulty: float = 3.0,
    references: int = 4,
    train_references: int = 1,
    min_frequency: int = 3,
    max_size: int | None = None,
    max_length: int | None = 50,
) -> Dataset:
    """`generate_builtin` made into corpora and vocabularies exactly as files are (see `build_dataset`)."""
    texts = builtin_texts(
        seed=seed,
        pairs=pairs,
        dev_pairs=dev_pairs,
        test_pairs=test_pairs,
        difficulty=difficulty,
        references=references,
        train_references=train_references,
    )
    return build_dataset(*texts, min_frequency=min_frequency, max_size=max_size, max_length=max_length)
