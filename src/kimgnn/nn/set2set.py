"""Set2Set: features of a set, whatever the order of its members (Vinyals, Bengio & Kudlur, arXiv:1511.06391, 2016)."""

import torch
from torch import Tensor, nn

from kimgnn.nn.pooling import addable


class Set2Set(nn.Module):
    """``q_t = LSTM(q*_{t-1})``, ``a_i = softmax_i(x_i · q_t)``, ``q*_t = q_t ⊕ Σ_i a_i x_i``: the paper's section 4.2.

    A set that is repeated reads as it does once. Of an empty one, the sum is zero.

    Args:
        channels: Features of a member.
        num_steps: How often the set is read.
    """

    def __init__(self, channels: int, num_steps: int) -> None:
        super().__init__()
        self.channels = channels
        self.num_steps = num_steps
        # Not torch's cell, whose backward pass on a GPU cannot be derived again, as forces in training are.
        self.of_read = nn.Linear(2 * channels, 4 * channels)
        self.of_query = nn.Linear(channels, 4 * channels, bias=False)

    def forward(self, x: Tensor, set_of_member: Tensor, n_sets: int) -> Tensor:
        """Return ``(n_sets, 2 * channels)``.

        Args:
            x: ``(n_members, channels)``.
            set_of_member: ``(n_members,)`` int64, the set that each member belongs to.
            n_sets: Number of sets.
        """
        x = addable(x)
        read = x.new_zeros(n_sets, 2 * self.channels)
        query, memory = read[:, : self.channels], read[:, : self.channels]
        for _ in range(self.num_steps):
            let_in, keep, new, let_out = (self.of_read(read) + self.of_query(query)).chunk(4, dim=1)
            memory = torch.sigmoid(keep) * memory + torch.sigmoid(let_in) * torch.tanh(new)
            query = torch.sigmoid(let_out) * torch.tanh(memory)
            scores = (x * query.index_select(0, set_of_member)).sum(1, keepdim=True)
            # Less than any score, and exact in float32.
            largest = scores.new_full((n_sets, 1), -(2.0**100))
            largest = largest.scatter_reduce(0, set_of_member.unsqueeze(-1), scores.detach(), "amax")
            weights = torch.exp(scores - largest.index_select(0, set_of_member))
            total = weights.new_zeros(n_sets, 1).index_add(0, set_of_member, weights)
            summed = x.new_zeros(n_sets, self.channels).index_add(0, set_of_member, weights * x)
            # The largest term is 1: only an empty set has a smaller total.
            read = torch.cat([query, summed / total.clamp(min=1.0)], dim=1)
        return read
