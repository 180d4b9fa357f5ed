"""Hyperparameters: upstream's defaults, and a clear message for each wrong value."""

import json
import re

import pytest

from petmad.model import EdgeGraph, PETConfig, Potential, TargetSpec


def test_defaults_are_upstreams():
    config = PETConfig()
    assert (config.cutoff, config.cutoff_width, config.cutoff_width_adaptive) == (
        4.5,
        0.5,
        1.0,
    )
    widths = (config.d_pet, config.d_head, config.d_node, config.d_feedforward)
    assert widths == (128, 128, 256, 256)
    assert (config.num_heads, config.num_attention_layers, config.num_gnn_layers) == (
        8,
        2,
        2,
    )
    assert config.cutoff_function == "Bump"
    assert config.adaptive_cutoff_method == "solver"
    assert config.is_expanded
    assert not config.is_adaptive


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cutoff", 0.0, "`cutoff` must be positive, got 0.0"),
        ("cutoff", float("nan"), "`cutoff` must be positive, got nan"),
        ("cutoff_width", -0.5, "`cutoff_width` must be positive, got -0.5"),
        ("attention_temperature", 0, "`attention_temperature` must be positive, got 0"),
        ("d_pet", 0, "`d_pet` must be a whole number of at least 1, got 0"),
        ("d_node", 2.5, "`d_node` must be a whole number of at least 1, got 2.5"),
        ("num_gnn_layers", "2", "must be a whole number of at least 1, got '2'"),
        ("max_charge", -1, "`max_charge` must be a whole number of at least 0, got -1"),
        (
            "num_heads",
            7,
            "`num_heads` must divide `d_pet`, got num_heads 7 and d_pet 128",
        ),
        ("num_neighbors_adaptive", 0, "must be positive or None, got 0"),
        ("cutoff_function", "step", "must be one of Bump, Cosine, got 'step'"),
        ("adaptive_cutoff_method", "guess", "must be one of solver, grid, got 'guess'"),
        ("normalization", "rmsnorm", "one of RMSNorm, LayerNorm, got 'rmsnorm'"),
        ("activation", "ReLU", "`activation` must be one of SwiGLU, SiLU, got 'ReLU'"),
        ("transformer_type", "Pre", "must be one of PreLN, PostLN, got 'Pre'"),
        ("featurizer_type", "x", "must be one of feedforward, residual, got 'x'"),
        ("long_range", {"enable": True}, "set `long_range.enable: false`"),
    ],
)
def test_wrong_values_are_named(name, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PETConfig(**{name: value})


def test_unknown_names_are_listed_beside_the_known():
    with pytest.raises(ValueError, match=r"\['d_pett'\]; the known ones are .*'d_pet'"):
        PETConfig.from_dict({"d_pett": 16})


def test_upstream_spelling_in_any_case_where_upstream_allows_it():
    config = PETConfig(cutoff_function="bump", activation="swiglu")
    assert (config.cutoff_function, config.activation) == ("Bump", "SwiGLU")


def test_disabled_long_range_is_accepted():
    assert PETConfig(long_range={"enable": False, "smearing": 1.4}).long_range


def test_config_survives_json():
    config = PETConfig(num_neighbors_adaptive=8, cutoff=7.5, featurizer_type="residual")
    stored = json.loads(json.dumps(config.to_dict()))
    assert PETConfig.from_dict(stored) == config


@pytest.mark.parametrize(
    ("featurizer", "n_neighbors", "hops", "reach"),
    [
        (
            "feedforward",
            None,
            4,
            20.0,
        ),  # one more hop than layers: the last combination
        ("residual", None, 3, 15.0),
        ("feedforward", 8, 4, 25.0),  # and one raw cutoff for the neighbors' counts
        ("residual", 8, 3, 20.0),
    ],
)
def test_reach(featurizer, n_neighbors, hops, reach):
    config = PETConfig(
        cutoff=5.0,
        num_gnn_layers=3,
        featurizer_type=featurizer,
        num_neighbors_adaptive=n_neighbors,
    )
    assert (config.reach_hops, config.reach) == (hops, reach)


@pytest.mark.parametrize("numbers", [[], [8, 1], [1, 1, 8]])
def test_species_must_be_ascending_and_unique(numbers):
    with pytest.raises(
        ValueError, match="`atomic_numbers` must be ascending and unique"
    ):
        Potential(PETConfig(), numbers)


def test_target_names_must_be_unique():
    with pytest.raises(ValueError, match=r"unique, got \['energy', 'energy'\]"):
        Potential(PETConfig(), [1], [TargetSpec(), TargetSpec()])


def test_target_kind_must_be_known():
    with pytest.raises(
        ValueError, match="`kind` of target 'spin' must be one of energy"
    ):
        TargetSpec("spin", "magnetic")


def test_zbl_needs_radii():
    with pytest.raises(
        ValueError, match="`zbl` needs `covalent_radii`, one per species"
    ):
        Potential(PETConfig(zbl=True), [1, 8])


def test_graph_fields_are_the_exported_arguments():
    """The exported file takes them one by one, in this order."""
    assert EdgeGraph._fields == (
        "edge_vectors",
        "centers",
        "neighbors",
        "reverse_edges",
        "species",
        "structures",
        "charges",
        "spin_multiplicities",
        "halo",
    )
