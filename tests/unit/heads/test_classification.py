"""The classification head: logits to probabilities, and its options."""

import pytest
import torch

from kimgnn.errors import ModelError
from kimgnn.heads.classification import ClassificationHead, probabilities


def head_of(**options) -> ClassificationHead:
    torch.manual_seed(0)
    return ClassificationHead(ClassificationHead.Options(target="metal", **options), 4, {}).eval()


def test_two_classes_have_one_logit_and_more_have_as_many():
    """The second of two classes is the positive one."""
    features, graph = torch.randn(3, 4), torch.tensor([0, 0, 1])
    logits = head_of()(features, torch.ones(3, dtype=torch.int64), graph, 2)
    assert logits.shape == (2, 1)
    torch.testing.assert_close(probabilities(logits)[:, 1], torch.sigmoid(logits[:, 0]))
    three = head_of(classes=["a", "b", "c"])(features, torch.ones(3, dtype=torch.int64), graph, 2)
    assert three.shape == (2, 3)
    for chances in (probabilities(logits), probabilities(three)):
        torch.testing.assert_close(chances.sum(1), torch.ones(2, dtype=torch.float64))


def test_probability_of_a_sure_thing_is_not_lost():
    """1 - sigmoid(40) would be 0 in float64; sigmoid(-40) is not."""
    assert float(probabilities(torch.tensor([[40.0]], dtype=torch.float64))[0, 0]) == pytest.approx(
        4.2484e-18, rel=1e-4
    )


def test_names_of_the_classes():
    """As the data write them; a threshold names them itself."""
    assert head_of(classes=[False, True]).options.class_names == ["false", "true"]
    assert head_of(threshold=0.5).options.class_names == ["<= 0.5", "> 0.5"]
    assert head_of().options.class_names == ["0", "1"]


def test_balanced_weights_are_counted_by_the_trainer():
    """By hand, numbers are needed."""
    with pytest.raises(ModelError, match="class_weights"):
        head_of(class_weights="balanced")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"classes": ["a"]}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"classes": ["a", "b", "c"], "threshold": 0.0}, "threshold"),
        ({"class_weights": [1.0]}, "class_weights"),
        ({"class_weights": [0.0, 0.0]}, "class_weights"),
        ({"readout": "median", "num_hidden_layers": -1}, "num_hidden_layers"),
    ],
)
def test_options_out_of_range(options, told):
    """The message begins with the option's name."""
    with pytest.raises(ValueError, match=f"^{told} "):
        ClassificationHead.Options(target="metal", **options)
