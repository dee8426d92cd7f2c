"""Edited references for the stages that train on them."""

from __future__ import annotations

from softbellman.data import Batch
from softbellman.payoffs.payoff import Payoff
from softbellman.training.edited import Edited, edit_references
from softbellman.training.settings import EditSettings


class EditSource:
    """Draws an update's edited references: the same ones whenever the same update is repeated."""

    def __init__(
        self,
        edits: EditSettings,
        payoff: Payoff,
        *,
        vocabulary: int,
        tau: float,
        corrected: bool,
        key: int,
    ) -> None:
        self.edits, self.payoff, self.vocabulary = edits, payoff, vocabulary
        self.tau, self.corrected, self.key = tau, corrected, key

    def draw(self, batch: Batch, step: int) -> Edited:
        """Sequences of one update."""
        return edit_references(
            batch,
            self.edits,
            self.payoff,
            vocabulary=self.vocabulary,
            tau=self.tau,
            corrected=self.corrected,
            seed=self.key,
            offset=step,
        )
