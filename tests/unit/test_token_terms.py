"""Token terms of tensors: by hand, columns, their fit, and on to an exported file."""

import pytest
import torch
from test_training_tensors import NUMBERS, make_options, structures, waters

from petmad.data import collate, make_sample
from petmad.model import PETConfig, TargetSpec
from petmad.model.token_terms import TokenTerms
from petmad.training import checkpoint
from petmad.training.fitted_terms import (
    N_ORIENTATIONS,
    TermColumns,
    token_columns,
)
from petmad.training.options import parse_options
from petmad.training.tensor_baseline import fit_tensor_baseline
from petmad.training.tensor_evaluation import evaluate_tensors
from petmad.training.tensor_options import TensorOptions
from petmad.training.tensors import TensorTarget
from petmad.training.trainer import train


CUTOFF = 3.0
BLOCKS = [(0, 1), (1, 1), (2, 1), (1, -1)]
MODEL = {
    "cutoff": CUTOFF,
    "d_pet": 8,
    "d_head": 8,
    "d_node": 8,
    "d_feedforward": 8,
    "num_heads": 2,
    "num_gnn_layers": 2,
    "num_attention_layers": 1,
}


def samples(n_frames=3, seed=0):
    frames = structures(waters(n_frames, seed))
    return [make_sample(s, NUMBERS, CUTOFF) for s in frames]


def make_model(targets, seed=0):
    torch.manual_seed(seed)
    specs = [target.spec for target in targets]
    return checkpoint.make_potential(PETConfig(**MODEL), NUMBERS, specs, "float64")


def make_target(name, **values):
    options = TensorOptions(**values, token_terms=True)
    return TensorTarget(options.spec(name), options)


def never_turned(monkeypatch):
    monkeypatch.setattr(
        "petmad.training.fitted_terms.random_rotation",
        lambda *_: torch.eye(3, dtype=torch.float64),
    )


def with_weights(terms, seed=1):
    random = torch.Generator().manual_seed(seed)
    for block in terms.blocks:
        for weights in (block.edge_weights, block.node_weights):
            weights.copy_(torch.randn(weights.shape, generator=random))
    return terms


def test_by_hand():
    """Edge by edge and atom by atom, for a scalar and a vector."""
    model = make_model([make_target("dipole", kind="vector")])
    graph = collate(samples(1)).graph
    features = model.network(graph)
    terms = TokenTerms(PETConfig(**MODEL), 2, [(0, 1), (1, 1)]).double()
    with_weights(terms)
    found = terms(features, graph)
    scalar, vector = terms.blocks
    expected = torch.zeros(3, 4).double()
    for row, edge in enumerate(features.kept.tolist()):
        center = int(features.kept_centers[row])
        species = int(graph.species[center])
        token = torch.cat([edges[row] for edges in features.edges])
        weight = features.weights[row]
        direction = graph.edge_vectors[edge] / graph.edge_vectors[edge].norm()
        expected[center, 0] += weight * (scalar.edge_weights[species] @ token)
        expected[center, 1:] += (
            weight * (vector.edge_weights[species] @ token) * direction[[1, 2, 0]]
        )
    for center in range(3):
        token = torch.cat([nodes[center] for nodes in features.nodes])
        expected[center, 0] += scalar.node_weights[int(graph.species[center])] @ token
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert vector.node_weights.shape[1] == 0


def test_columns_are_what_the_weights_multiply_and_pseudotensors_have_none():
    model = make_model([make_target("dipole", kind="vector")])
    graph = collate(samples()).graph
    features = model.network(graph)
    terms = with_weights(TokenTerms(PETConfig(**MODEL), 2, BLOCKS).double())
    total = terms(features, graph)
    start = 0
    for block, (order, parity) in zip(terms.blocks, BLOCKS, strict=True):
        part = slice(start, start + 2 * order + 1)
        start = part.stop
        weights = torch.cat([block.edge_weights, block.node_weights], dim=1)
        columns = token_columns(block, features, graph, torch.arange(2))
        found = columns @ weights.flatten()
        if parity > 0:
            torch.testing.assert_close(found, total[:, part], atol=1e-12, rtol=0)
        else:
            assert not total[:, part].any()


def test_derivative():
    model = make_model([make_target("dipole", kind="vector")])
    graph = collate(samples(1)).graph
    terms = with_weights(TokenTerms(PETConfig(**MODEL), 2, BLOCKS).double())

    def total(vectors):
        turned = graph._replace(edge_vectors=vectors)
        return terms(model.network(turned), turned)

    vectors = graph.edge_vectors.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(total, vectors)


@pytest.mark.parametrize("per_atom", [False, True])
def test_columns_of_a_target_are_turned_back(per_atom, monkeypatch):
    """Pairs the same in every orientation; tokens those of turned structures."""
    target = make_target("t", kind="symmetric", per_atom=per_atom, pair_terms=True)
    model = make_model([target])
    columns = TermColumns(model, target.spec, [0, 1])
    sample = samples(1)[0]
    first, second = columns.of(sample, 0), columns.of(sample, 1)
    n_pairs = columns.families(0)[0].n_columns
    n_rows = 3 if per_atom else 1
    for i, (order, _) in enumerate(target.spec.blocks):
        n_columns = sum(family.n_columns for family in columns.families(i))
        shape = (N_ORIENTATIONS, n_rows, 2 * order + 1, n_columns)
        assert first[i].shape == second[i].shape == shape
        pairs, tokens = first[i].split([n_pairs, n_columns - n_pairs], dim=3)
        torch.testing.assert_close(
            pairs, pairs[:1].expand_as(pairs), atol=1e-10, rtol=0
        )
        assert (tokens - tokens[:1]).abs().max() > 1e-3
        assert not torch.equal(first[i], second[i])  # other orientations
    readout = model.readouts[0]
    random = torch.Generator().manual_seed(2)
    weights = [torch.randn(c.shape[3], generator=random).double() for c in first]
    for i, values in enumerate(weights):
        columns.store(i, values)
    graph = collate([sample]).graph
    at_once = readout.pair_terms(graph)
    at_once += readout.token_terms(model.network(graph), graph)
    if not per_atom:
        at_once = at_once.sum(0, keepdim=True)
    never_turned(monkeypatch)
    found = [c[0] @ w for c, w in zip(columns.of(sample, 2), weights, strict=True)]
    torch.testing.assert_close(torch.cat(found, dim=1), at_once, atol=1e-10, rtol=0)


def test_fit_finds_what_tokens_tell(monkeypatch):
    """Labels made of the tokens of a network, by the terms themselves."""
    never_turned(monkeypatch)  # random tokens are not invariant
    target = make_target("alpha", kind="symmetric")
    made = make_model([target])
    truth = with_weights(made.readouts[0].token_terms)
    known = []
    for sample in samples(40, seed=3):
        graph = collate([sample]).graph
        label = truth(made.network(graph), graph).sum(0, keepdim=True).detach()
        label[:, 0] += 7.0
        known.append(sample._replace(tensors={"alpha": label}))
    model = make_model([target])
    fit_tensor_baseline(model, known, [target])
    shares = (model.scales[0][0] / made_scales(known)).tolist()
    assert max(shares) < 0.01
    assert not any(w.requires_grad for n, w in model.named_buffers() if "token" in n)


def made_scales(known):
    labels = torch.cat([s.tensors["alpha"] for s in known]) / 3
    labels = labels - labels.mean(0) * torch.tensor([1.0] + [0.0] * 5)
    blocks = labels.split([1, 5], dim=1)
    scales = [block.square().mean().sqrt().expand(block.shape[1]) for block in blocks]
    return torch.cat(scales)


def test_elements_that_are_not_there_keep_weights_of_0(monkeypatch):
    """Many elements of a model, few of the data: the same fit as of a small model."""
    never_turned(monkeypatch)
    target = make_target("alpha", kind="symmetric", pair_terms=True)
    torch.manual_seed(0)
    numbers = [1, 6, 7, 8]
    model = checkpoint.make_potential(
        PETConfig(**MODEL), numbers, [target.spec], "float64"
    )
    some = [make_sample(s, numbers, CUTOFF) for s in structures(waters(12, 1))]
    known = [s._replace(tensors={"alpha": s.tensors["alpha"]}) for s in some]
    fit_tensor_baseline(model, known, [target])
    terms = model.readouts[0]
    pairs = terms.pair_terms.blocks[0].weights.reshape(4, 4, -1)
    there = torch.tensor([True, False, False, True])
    assert (pairs.abs().sum(-1) > 0).nonzero().tolist() == [[0, 0], [0, 3], [3, 0]]
    for block in terms.token_terms.blocks:
        assert block.edge_weights[there].abs().sum(1).min() > 0
        assert not block.edge_weights[~there].any()
        assert not block.node_weights[~there].any()
    graph = collate(known).graph
    value = terms.pair_terms(graph) + terms.token_terms(model.network(graph), graph)
    value = value * model.scales[0][0] + model.compositions[0][graph.species.long()]
    total = value.reshape(12, 3, -1).sum(1)
    labels = torch.cat([s.tensors["alpha"] for s in known])
    left = (labels - total).square().mean().sqrt()
    assert left < 0.05 * (labels - labels.mean(0)).square().mean().sqrt()


def test_too_many_weights_are_refused(monkeypatch):
    monkeypatch.setattr("petmad.training.fitted_terms.MOST_COLUMNS", 30)
    target = make_target("alpha", kind="symmetric")
    model = make_model([target])
    with pytest.raises(ValueError, match=r"of `alpha` have 32 weights .* 2 elements"):
        TermColumns(model, target.spec, [0, 1])


def test_only_beside_a_network_that_is_kept(tmp_path):
    targets = {"dipole": {"kind": "vector", "token_terms": True}}
    values = make_options(tmp_path, targets=targets)
    message = r"`token_terms` of target `dipole` .* is all; make it heads"
    with pytest.raises(ValueError, match=message):
        parse_options(values)


def test_from_training_to_file(tmp_path, capsys):
    """Fitted, kept through training, and the same in the exported file."""
    from petmad.cli import main

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    plain = {"dipole": {"kind": "vector"}}
    start = train(parse_options(make_options(tmp_path / "a", targets=plain, epochs=1)))
    targets = {"dipole": {"kind": "vector", "token_terms": True, "readout": "exact"}}
    values = make_options(tmp_path / "b", targets=targets, epochs=1)
    values["training"].update(start_from=str(start), parameters="heads")
    best = train(parse_options(values))
    model, _ = checkpoint.load_potential(best)
    index = model.target_names.index("dipole")
    assert model.readouts[index].token_terms.blocks[0].edge_weights.any()
    assert model.targets[index].reads_network
    rmse = evaluate_tensors(model, values["data"]["valid"], n_rotations=4)[
        "dipole_l1_rmse"
    ]
    exported = str(tmp_path / "model.pt")
    assert main(["export", str(best), "-o", exported]) == 0
    capsys.readouterr()
    for path in (str(best), exported):
        arguments = ["evaluate", path, values["data"]["valid"], "--rotations", "4"]
        assert main(arguments) == 0
        output = capsys.readouterr().out
        rows = [row.split() for row in output.splitlines() if row[:9] == "dipole_l1"]
        assert float(rows[0][2]) == pytest.approx(rmse, rel=1e-3)


def test_specs_of_older_files_have_none():
    spec = TargetSpec(**{"name": "d", "kind": "vector", "readout": "exact"})
    assert not spec.token_terms
    assert not spec.reads_network
