"""The critic beside an actor that a trainer trains: its optimizer, its target network, its files."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from softbellman.hf.forward import add_head

FILE = "critic.pt"


class TargetNetwork(TrainerCallback):
    """A frozen copy of a critic that follows it after every update: `phi_bar <- beta phi + (1 - beta) phi_bar`.

    Args:
        critic: the network phi, as it is before `add_head`, which the copy gets here.
        speed: beta.
        learning_rate: of an Adam optimizer of the critic with beta1 = 0; None where the trainer's optimizer trains it.
    """

    def __init__(self, critic: nn.Module, *, speed: float, learning_rate: float | None = None) -> None:
        self.critic, self.speed = critic, speed
        self.network = copy.deepcopy(critic).eval().requires_grad_(False)
        add_head(self.network)
        self.optimizer = None
        if learning_rate is not None:
            self.optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=(0.0, 0.999))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Put both networks where the trainer works."""
        for network in (self.critic, self.network):
            network.to(args.device)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Update the critic when the trainer updates the actor, its gradient cut at `max_grad_norm`."""
        if self.optimizer is not None:
            if args.max_grad_norm:
                nn.utils.clip_grad_norm_(self.critic.parameters(), args.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Follow the critic; buffers are copied."""
        for parameter, learnt in zip(self.network.parameters(), self.critic.parameters(), strict=True):
            parameter.lerp_(learnt.to(parameter.dtype), self.speed)
        for buffer, new in zip(self.network.buffers(), self.critic.buffers(), strict=True):
            buffer.copy_(new)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write critic, target network and optimizer beside a checkpoint's other files."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            torch.save(self.state_dict(), folder / FILE)

    def state_dict(self) -> dict[str, Any]:
        """What `load` takes; the critic's own weights only where this trains them."""
        found = {"target": self.network.state_dict()}
        if self.optimizer is not None:
            found |= {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}
        return found

    def load(self, folder: str | Path) -> None:
        """Read what `on_save` wrote into a checkpoint's folder.

        Raises:
            ValueError: there is nothing.
        """
        if not (Path(folder) / FILE).is_file():
            raise ValueError(
                f"{folder} holds no {FILE}, so its critic cannot be continued; train from the start"
            )
        found = torch.load(Path(folder) / FILE, map_location="cpu", weights_only=True)
        self.network.load_state_dict(found["target"])
        if self.optimizer is not None:
            self.critic.load_state_dict(found["critic"])
            self.optimizer.load_state_dict(found["optimizer"])
