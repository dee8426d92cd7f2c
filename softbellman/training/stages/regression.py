"""One number for each state, read off what a network's output layer reads: baselines and state values."""

from __future__ import annotations

from torch import Tensor, nn

from softbellman.training.rollout import Factored, LinearHead, row_features


def state_regression(network: nn.Module, asked: str, advice: str) -> nn.Linear:
    """A linear regression on what a network's output layer reads, 0 at the start.

    Args:
        network: has `features`, `project` and `projection`.
        asked: the setting that wants it, for the error sentence.
        advice: what to say instead.

    Raises:
        ValueError: for a network without them.
    """
    if not isinstance(network, LinearHead):
        raise ValueError(
            f"{asked}, which reads the features of the decoder, but {type(network).__name__} has no features and "
            f"projection; {advice}"
        )
    weight, _ = network.projection()
    regression = nn.Linear(weight.shape[1], 1, device=weight.device)
    nn.init.zeros_(regression.weight)
    nn.init.zeros_(regression.bias)
    return regression


class StateValue(nn.Module):
    """Values of states: a network that reads the reference, and a regression in the place of its output layer.

    The output layer itself stays as it is, unless the network has other uses for its weights.
    """

    def __init__(self, reader: nn.Module, regression: nn.Linear) -> None:
        super().__init__()
        assert isinstance(reader, LinearHead)
        self.reader, self.regression = reader, regression
        for part in reader.projection():
            if holders(self, part) == 1:
                part.requires_grad_(False)

    def forward(self, source: Tensor, prefix: Tensor, rows: Tensor) -> Tensor:
        """Values at some positions.

        Args:
            source: what the network reads beside the prefix, `[B, L]`.
            prefix: `[N, T]`.
            rows: flat indices into `[N, T]`, `[M]`.

        Returns:
            `[M]`, float32.
        """
        assert isinstance(self.reader, Factored)
        features = row_features(self.reader, source, prefix, rows)
        found: Tensor = self.regression(features).squeeze(-1).float()
        return found


def holders(module: nn.Module, parameter: Tensor) -> int:
    """How many modules within one hold a parameter, such as an embedding beside the output layer."""
    return sum(
        held is parameter for one in module.modules() for _, held in one.named_parameters(recurse=False)
    )
