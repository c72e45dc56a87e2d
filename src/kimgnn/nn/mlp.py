"""Multi-layer perceptrons: what heads end in."""

from torch import nn

from kimgnn.nn.activations import make_activation


def make_mlp(
    in_channels: int, hidden_channels: int, num_hidden_layers: int, out_channels: int, activation: str, dropout: float
) -> nn.Sequential:
    """Return dense layers with an activation and, where asked, dropout after each hidden one.

    Weights are Xavier's and biases zero. Dropout stays off in evaluation; switched on by ``.train()`` of its layers
    alone, it samples the network's uncertainty (Gal & Ghahramani 2016).

    Args:
        in_channels: Features that come in.
        hidden_channels: Width of the hidden layers.
        num_hidden_layers: How many; 0 leaves one linear layer.
        out_channels: Numbers that come out.
        activation: A name of `kimgnn.nn.activations.ACTIVATIONS`.
        dropout: Probability that a hidden feature is dropped.
    """
    layers: list[nn.Module] = []
    for _ in range(num_hidden_layers):
        layers += [nn.Linear(in_channels, hidden_channels), make_activation(activation)]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        in_channels = hidden_channels
    layers.append(nn.Linear(in_channels, out_channels))
    mlp = nn.Sequential(*layers)
    draw_xavier(mlp)
    return mlp


def draw_xavier(module: nn.Module) -> None:
    """Draw Xavier's weights, and set zero biases, in all linear maps of a module."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
