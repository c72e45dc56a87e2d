import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch.fx.experimental.proxy_tensor import make_fx

from kimgnn.nn.forest import Forest
from kimgnn.training.late_fusion import trees_of


def forest_of(model, n_classes=0):
    forest = Forest()
    forest.set_trees(trees_of(model, n_classes))
    return forest


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.sampled_from([0, 2, 4]),
    outputs=st.integers(1, 3),
    max_leaves=st.sampled_from([None, 2, 7]),
)
def test_equal_to_scikit_learn(seed, classes, outputs, max_leaves):
    rng = np.random.default_rng(seed)
    # Few decimals: values of the test data on thresholds, and equal values.
    train, test = rng.normal(size=(40, 5)).round(1), rng.normal(size=(60, 5)).round(1)
    options = {"n_estimators": 5, "max_leaf_nodes": max_leaves, "random_state": seed}
    if classes:
        model = RandomForestClassifier(**options).fit(train, np.arange(40) % classes)
        expected = model.predict_proba(test)
    else:
        model = RandomForestRegressor(**options).fit(train, np.squeeze(rng.normal(size=(40, outputs))))
        expected = model.predict(test).reshape(60, outputs)
    found = forest_of(model, classes)(torch.from_numpy(test))
    # The trees are added up in another order.
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.fixture
def forest():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 4))
    return forest_of(RandomForestRegressor(10, random_state=0).fit(features, features[:, 0] ** 2))


def test_state_brings_the_trees_along(forest):
    other = Forest()
    assert not other.fitted
    other.load_state_dict(forest.state_dict())
    assert other.fitted
    features = torch.randn(20, 4, dtype=torch.float64)
    assert torch.equal(other(features), forest(features))
    empty = Forest()
    empty.load_state_dict(Forest().state_dict())
    assert not empty.fitted


def test_nan_stays_nan(forest):
    features = torch.zeros(2, 4, dtype=torch.float64)
    features[1, 2] = torch.nan
    assert forest(features).isnan().squeeze(1).tolist() == [False, True]


def test_a_forest_that_has_nothing_to_split():
    model = RandomForestRegressor(3).fit(np.zeros((5, 2)), np.ones(5))
    forest = forest_of(model)
    assert forest.fitted
    assert forest(torch.zeros(2, 2, dtype=torch.float64)).tolist() == [[1.0], [1.0]]


def test_scripts_and_traces(forest):
    features = torch.randn(3, 4, dtype=torch.float64)
    assert torch.equal(torch.jit.script(forest)(features), forest(features))
    traced = make_fx(forest, tracing_mode="symbolic", _allow_non_fake_inputs=True)(features)
    other = torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(traced(other), forest(other))
