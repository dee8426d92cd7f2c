"""The operators alone: token-level credit in a training loop of your own, without the trainer.

Shows: values of a policy, targets of a critic, the losses of actor and critic, and an output layer in the place of logits.

    python examples/operators.py
"""

from __future__ import annotations

import torch
from torch import nn

from softbellman import Head, actor_loss, critic_loss, policy_value, prefix_bleu, td_targets

B, T, V, H, TAU = 8, 6, 50, 32, 0.1


def main() -> None:
    """Some updates of a toy actor and critic on sequences that the actor drew."""
    torch.manual_seed(0)
    references = torch.randint(4, V, (B, T))
    actor, critic = (nn.Sequential(nn.Embedding(V, H), nn.GRU(H, H, batch_first=True)) for _ in range(2))
    output = {network: nn.Linear(H, V) for network in (actor, critic)}
    parameters = [*actor.parameters(), *critic.parameters()]
    parameters += [weight for layer in output.values() for weight in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    prefix = torch.cat([torch.ones(B, 1, dtype=torch.long), references[:, :-1]], dim=1)  # [B, T]
    for update in range(30):
        hidden, values = actor(prefix)[0], critic(prefix)[0]  # [B, T, H]
        policy = output[actor](hidden)  # logits, [B, T, V]
        tokens = torch.distributions.Categorical(logits=policy.detach()).sample()  # [B, T]
        scores = prefix_bleu(tokens[:, None], references)[:, 0]  # BLEU of every prefix, [B, T]
        rewards = torch.diff(scores, dim=1, prepend=torch.zeros(B, 1))  # r_t = R(y_1..t) - R(y_1..t-1)
        with torch.no_grad():
            q = output[critic](values)
            value, entropy = policy_value(policy, q, tau=TAU)  # V(y_<t), [B, T]
            targets = td_targets(
                rewards.to(value.dtype), value, torch.ones(B, T, dtype=torch.bool)
            )  # Eq. (19)
        # Nothing of [B, T, V] is kept for the backward pass where a loss is given the output layer.
        layer = output[critic]
        found = critic_loss(Head(values, layer.weight, layer.bias), tokens, targets, smoothness=1e-3)
        loss = actor_loss(policy, q, tau=TAU).loss.mean() + found.loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % 10 == 9:
            print(f"update {update + 1}: loss {float(loss):.3f}, entropy {float(entropy.mean()):.3f} nats")


if __name__ == "__main__":
    main()
