"""Exact oracles: the action values that the learnt ones approximate, for payoffs and sizes where they can be computed.

Notation: V vocabulary, tau temperature in the unit of the payoff, y_<t a prefix without the end token. The payoff of a
partial sequence is that of the sequence ended there, Eq. (4), so ending earns 0, Eq. (6), and

    Q(y_<t, w) = R(y_<t w) - R(y_<t) + V(y_<t w),    V(y_<t) = tau log sum_w exp(Q(y_<t, w) / tau)     (Eq. (7), (14))

At `tau = 0` the value is the maximum and the target uniform over the maximal actions.
"""

from softbellman.oracle.bleu_completion import BleuCompletionOracle
from softbellman.oracle.edit_automaton import EditAutomaton
from softbellman.oracle.edit_distance import EditDistanceOracle, edit_distance_targets
from softbellman.oracle.enumeration import EnumeratedOracle, EnumeratedProblem, enumerate_oracle
from softbellman.oracle.hamming import hamming_state_values, hamming_values
from softbellman.oracle.targets import (
    TokenOracle,
    kullback_leibler,
    maximal_actions,
    target_distribution,
    total_variation,
)

__all__ = [
    "BleuCompletionOracle",
    "EditAutomaton",
    "EditDistanceOracle",
    "EnumeratedOracle",
    "EnumeratedProblem",
    "TokenOracle",
    "edit_distance_targets",
    "enumerate_oracle",
    "hamming_state_values",
    "hamming_values",
    "kullback_leibler",
    "maximal_actions",
    "target_distribution",
    "total_variation",
]
