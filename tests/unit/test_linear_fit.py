"""Ridge regression from sums: against rows kept and strengths tried one by one."""

import pytest
import torch

from petmad.training import linear_fit
from petmad.training.linear_fit import Family, Regression


def random_rows(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=random, dtype=torch.float64)


def in_parts(regression, columns, fixed, labels, size=7):
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        regression.add(columns[:, part], fixed[part], labels[part])
    return regression


def slow_fit(columns, fixed, labels, families, scatter_weight):
    """All rows at once, columns without a penalty projected out, every strength."""
    mean = columns.mean(0)
    scatter = (columns - mean).flatten(0, 1) * (scatter_weight / len(columns)) ** 0.5
    basis = torch.linalg.svd(fixed, full_matrices=False)[0]
    mean = mean - basis @ (basis.T @ mean)
    target = labels - basis @ (basis.T @ labels)
    n_rows, n_free = len(labels), len(labels) - fixed.shape[1]
    units = []
    for part, family in zip(
        mean.split([f.n_columns for f in families], dim=1), families, strict=True
    ):
        joint = part.square().mean(0).reshape(-1, family.n_joint).mean(1).sqrt()
        units.append(joint.repeat_interleave(family.n_joint))
    units = torch.cat(units)
    rows, scattered = mean / units, scatter / units
    best, least = None, float("inf")
    for ratio in linear_fit.RATIOS if len(families) > 1 else [1.0]:
        penalty = torch.ones(len(units), dtype=torch.float64)
        penalty[families[0].n_columns :] = ratio
        for strength in linear_fit.STRENGTHS * n_rows:
            matrix = rows.T @ rows + scattered.T @ scattered
            matrix = matrix + strength * penalty.diag()
            solution = torch.linalg.solve(matrix, rows.T @ target)
            error = (target - rows @ solution).square().sum()
            error = error + (scattered @ solution).square().sum()
            left = n_free - torch.linalg.solve(matrix, rows.T @ rows).trace()
            if left > 0 and error / left**2 < least:
                best, least = solution / units, error / left**2
    return best


@pytest.mark.parametrize("scatter_weight", [1.0, 10.0])
@pytest.mark.parametrize("families", [[Family(6, 3)], [Family(6, 3), Family(5, 1)]])
def test_against_the_slow_version(families, scatter_weight):
    n = sum(family.n_columns for family in families)
    columns = random_rows(1, 60, n) + 0.3 * random_rows(4, 60, n, seed=1)
    columns = columns * torch.logspace(-2, 2, n, dtype=torch.float64)
    fixed = random_rows(60, 2, seed=2)
    labels = columns.mean(0) @ random_rows(n, seed=3) + random_rows(60, seed=4)
    labels = labels + fixed @ torch.tensor([30.0, -70.0], dtype=torch.float64)
    regression = in_parts(Regression(families, 2), columns, fixed, labels)
    fit = regression.solve(scatter_weight)
    expected = slow_fit(columns, fixed, labels, families, scatter_weight)
    torch.testing.assert_close(fit.weights, expected, rtol=1e-6, atol=1e-9)
    left = labels - columns.mean(0) @ fit.weights - fixed @ fit.fixed
    assert fit.residual == pytest.approx(float(left.square().mean()), rel=1e-8)
    # what needs no penalty has the best weights beside the others
    assert float((fixed.T @ left).abs().max()) < 1e-6


def test_finds_what_there_is_and_no_more():
    columns = random_rows(1, 200, 48)
    columns[..., 16:32] *= 1e-16  # a pair of species that never meets
    fixed = torch.randint(1, 9, (200, 2)).double()
    truth = random_rows(48, seed=1)
    truth[16:32] = 0.0
    labels = columns[0] @ truth + fixed @ torch.tensor([30.0, -70.0]).double()
    fit = in_parts(Regression([Family(48, 16)], 2), columns, fixed, labels).solve()
    torch.testing.assert_close(fit.weights, truth, atol=1e-5, rtol=0)
    torch.testing.assert_close(fit.fixed, torch.tensor([30.0, -70.0]).double())
    assert fit.residual < 1e-9
    noise = random_rows(600, seed=2)
    columns = random_rows(1, 600, 160, seed=3)
    regression = in_parts(
        Regression([Family(160, 16)], 0), columns, noise[:, None][:, :0], noise
    )
    told = columns[0] @ regression.solve().weights
    assert told.square().mean() < 0.1 * noise.square().mean()


def test_columns_that_are_told_apart_by_nothing_share_a_weight():
    """Fixed columns that depend on each other, as in water, have a finite solution."""
    fixed = torch.tensor([[2.0, 1.0]] * 30, dtype=torch.float64)
    columns, labels = random_rows(1, 30, 3), 5.0 + random_rows(30, seed=1)
    fit = in_parts(Regression([Family(3, 1)], 2), columns, fixed, labels).solve()
    assert torch.isfinite(fit.fixed).all()
    left = labels - columns[0] @ fit.weights - fixed @ fit.fixed
    assert abs(float(left.mean())) < 1e-9


def test_a_column_that_scatters_is_trusted_less():
    signal = random_rows(500)
    steady = signal + 0.5 * random_rows(500, seed=1)
    scattering = signal + 0.5 * random_rows(500, seed=2)
    columns = torch.stack([steady, scattering], dim=1).repeat(4, 1, 1)
    columns[:, :, 1] += random_rows(4, 500, seed=3)
    shares = []
    for weight in (0.0, 1.0, 10.0):
        regression = in_parts(
            Regression([Family(2, 1)], 0), columns, signal[:, None][:, :0], signal
        )
        weights = regression.solve(weight).weights
        shares.append(float(weights[1] / weights[0]))
    assert 0.9 * shares[0] > shares[1] > 2 * shares[2] > 0


def test_labels_that_are_0_leave_0():
    columns = random_rows(1, 20, 3)
    regression = Regression([Family(3, 1)], 0)
    regression.add(columns, columns[0, :, :0], torch.zeros(20).double())
    assert not regression.solve().weights.any()


def test_more_columns_than_rows():
    """Strengths that leave no row free are passed over."""
    columns, truth = random_rows(1, 12, 40), random_rows(40, seed=1)
    labels = columns[0] @ truth
    fit = in_parts(
        Regression([Family(40, 1)], 0), columns, columns[0, :, :0], labels
    ).solve()
    assert torch.isfinite(fit.weights).all()
    assert fit.residual < float(labels.square().mean())
