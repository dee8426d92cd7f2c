"""The built-in corpus: a small translation language, generated from a seed. A first run needs no download.

The source is German-like: verbs at the end of subordinate clauses, participles, infinitives and separable
particles at the end of main ones, case on articles and adjectives, compound nouns. The target is
English-like: subject-verb-object, do-support, auxiliaries, agreement. Some source words have several
translations of which the sentence decides one, and each meaning can be said in several ways in the target.
`docs/data.md` describes the grammar with examples.

Modules, in the order of the pipeline: `tables` (core words), `invention` (rare words), `lexicon` (both,
ranked), `difficulty` (the one number), `sampler` (draws a `meaning`), `source` and `target` (say it),
`generator` (splits).
"""

from softbellman.data.builtin.difficulty import Difficulty
from softbellman.data.builtin.generator import (
    Split,
    builtin_dataset,
    builtin_texts,
    generate_builtin,
)

__all__ = ["Difficulty", "Split", "builtin_dataset", "builtin_texts", "generate_builtin"]
