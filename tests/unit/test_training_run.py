"""Whole trainings on toy data: they learn, resume exactly, and refuse bad input."""

import csv
import itertools
import json
import pathlib
import signal
import subprocess
import sys

import pytest
import torch
from toy_data import MODEL, alloys, write
from toy_data import options as toy_options

from petmad.data import make_sample
from petmad.data.structures import LabelKeys, to_structure
from petmad.model import PETConfig, TargetSpec
from petmad.training import checkpoint
from petmad.training.evaluation import evaluate, load_predictor
from petmad.training.module import TrainingModule
from petmad.training.options import TrainingOptions, parse_options
from petmad.training.trainer import fit_baseline, train
from petmad.training.unread import without_effect


KILLED = """
import json, os, signal, sys
from petmad.training.module import TrainingModule
from petmad.training.options import parse_options
from petmad.training.trainer import train

step = TrainingModule.training_step

def dying_step(self, batch, batch_idx):
    if self.global_step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_idx)

TrainingModule.training_step = dying_step
train(parse_options(json.loads(sys.argv[1])))
"""


def weights(path):
    return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]


def assert_equal_weights(first, second):
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A training of 3 epochs of 6 steps that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    values = toy_options(folder, ema_decay=0.9)
    train(parse_options(values))
    return values


def test_it_learns(finished):
    log = pathlib.Path(finished["output"]) / "csv" / "version_0" / "metrics.csv"
    rows = list(csv.DictReader(log.read_text().splitlines()))
    forces = [float(r["valid/forces_rmse"]) for r in rows if r["valid/forces_rmse"]]
    assert len(forces) == 3
    assert forces[-1] < forces[0]


def test_it_leaves_logs_and_options(finished):
    folder = pathlib.Path(finished["output"])
    assert list(folder.glob("tensorboard/version_0/events.*"))
    assert (folder / "options.yaml").is_file()


def test_checkpoint_tells_where_it_comes_from(finished):
    _, provenance = checkpoint.load_potential(f"{finished['output']}/best.ckpt")
    assert provenance["seed"] == 0
    assert set(provenance["data_sha256"]) == {
        finished["data"]["train"],
        finished["data"]["valid"],
    }
    assert provenance["options"]["model"]["d_pet"] == 8
    json.dumps(provenance)


def test_evaluation_agrees_with_validation(finished):
    path = f"{finished['output']}/best.ckpt"
    errors = evaluate(load_predictor(path), finished["data"]["valid"])
    _, provenance = checkpoint.load_potential(path)
    for name, value in provenance["validation"].items():
        if name != "loss":
            assert errors[name] == pytest.approx(value, rel=1e-4), name


def test_seed_repeats_and_matters(finished, tmp_path):
    for name, training in [("same", {}), ("other", {"seed": 1})]:
        values = {**finished, "output": str(tmp_path / name)}
        values["training"] = {**finished["training"], **training}
        train(parse_options(values))
    assert_equal_weights(f"{finished['output']}/last.ckpt", tmp_path / "same/last.ckpt")
    with pytest.raises(AssertionError):
        assert_equal_weights(tmp_path / "same/last.ckpt", tmp_path / "other/last.ckpt")


# Of 18 steps in epochs of 6, with last.ckpt at every 4th step and after each epoch:
# killed at 5 it resumes from 4, inside an epoch; at 7 from 6, the end of one.
@pytest.mark.slow
@pytest.mark.parametrize(("step", "resumed"), [(5, 4), (7, 6)])
def test_killed_and_resumed_equals_uninterrupted(finished, tmp_path, step, resumed):
    values = {**finished, "output": str(tmp_path / "run")}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(values), str(step)],
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    last = tmp_path / "run" / "last.ckpt"
    saved = torch.load(last, map_location="cpu", weights_only=True)["global_step"]
    assert saved == resumed
    train(parse_options(values), resume=last)
    assert_equal_weights(f"{finished['output']}/last.ckpt", last)
    for name in ("state_dict", "provenance"):
        a = checkpoint.read(f"{finished['output']}/best.ckpt")[name]
        b = checkpoint.read(tmp_path / "run" / "best.ckpt")[name]
        if name == "provenance":
            assert a["validation"] == b["validation"]
        else:
            assert all(torch.equal(a[k], b[k]) for k in a)


def test_resume_refuses_other_options(finished, tmp_path):
    values = {**finished, "output": str(tmp_path)}
    values["training"] = {**finished["training"], "learning_rate": 5e-4}
    last = f"{finished['output']}/last.ckpt"
    with pytest.raises(ValueError, match=r"its `learning_rate` is 0.001, the options"):
        train(parse_options(values), resume=last)
    best = f"{finished['output']}/best.ckpt"
    with pytest.raises(ValueError, match=r"no state of its training; resume from last"):
        train(parse_options(finished), resume=best)
    data = {**finished["data"], "train": finished["data"]["valid"]}
    with pytest.raises(ValueError, match=r"data files are not those .* restore them"):
        train(parse_options({**finished, "data": data, "output": str(tmp_path)}), last)


def test_resume_refuses_another_split(finished, tmp_path):
    last = f"{finished['output']}/last.ckpt"
    for name, value in [
        ("valid_fraction", 0.2),
        ("split_seed", 1),
        ("max_force", 100.0),
        ("require_forces", False),
    ]:
        data = {**finished["data"], name: value}
        values = {**finished, "data": data, "output": str(tmp_path)}
        with pytest.raises(ValueError, match=f"its `{name}` is .* the options say"):
            train(parse_options(values), last)
    swapped = {"train": finished["data"]["valid"], "valid": finished["data"]["train"]}
    values = {**finished, "data": swapped, "output": str(tmp_path)}
    message = r"SHA-256 of `data.train`, or their order, differ"
    with pytest.raises(ValueError, match=message):
        train(parse_options(values), last)


@pytest.mark.parametrize("has_best", [True, False])
def test_resumed_into_another_folder_the_best_model_is_there(
    finished, tmp_path, monkeypatch, has_best
):
    """Without that of before, the best of what follows is kept, whatever its score."""
    step = TrainingModule.training_step

    def failing(self, batch, batch_idx):
        if self.global_step == 13:
            raise RuntimeError("stop here")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", failing)
    values = {**finished, "output": str(tmp_path / "part")}
    with pytest.raises(RuntimeError, match="stop here"):
        train(parse_options(values))
    monkeypatch.undo()
    last = tmp_path / "part" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    (state,) = (s for s in content["callbacks"].values() if "best_score" in s)
    state["best_score"] = 1e-9  # below all that follow
    torch.save(content, last)
    best = tmp_path / "part" / "best.ckpt"
    before = best.read_bytes()
    if not has_best:
        best.unlink()
    values["output"] = str(tmp_path / "whole")
    found = train(parse_options(values), resume=last)
    assert found == tmp_path / "whole" / "best.ckpt"
    assert (found.read_bytes() == before) is has_best
    assert checkpoint.load_potential(found)[1]["step"] == (12 if has_best else 18)


def test_a_finished_training_is_not_overwritten(finished):
    with pytest.raises(ValueError, match=r"already holds a training.*--resume .*last"):
        train(parse_options(finished))


def test_another_training_is_not_overwritten(finished, tmp_path):
    """By one that is resumed from elsewhere, nor where only its best model is left."""
    last = pathlib.Path(finished["output"]) / "last.ckpt"
    values = {**finished, "output": str(tmp_path / "other")}
    (tmp_path / "other").mkdir()
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / "other" / name).write_bytes(b"of days")
        message = r"other already holds a training, which is not that of .*last.ckpt"
        with pytest.raises(ValueError, match=message) as caught:
            train(parse_options(values), resume=last)
        assert ("continue it" in str(caught.value)) is (name == "last.ckpt")
        assert (tmp_path / "other" / name).read_bytes() == b"of days"
        (tmp_path / "other" / name).unlink()


def test_divergence_is_reported(tmp_path):
    values = toy_options(tmp_path, learning_rate=1e30, warmup_fraction=0.0)
    values["training"]["max_skipped"] = 3
    message = r"gradient is not finite at step 4, 4 in a row; lower `training.learning"
    with pytest.raises(ValueError, match=message):
        train(parse_options(values))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_absent_gpu_is_explained(tmp_path):
    with pytest.raises(ValueError, match=r"sees 0 GPUs; install a CUDA build of torch"):
        train(parse_options(toy_options(tmp_path, device="gpu")))


@pytest.mark.parametrize(("factor", "hinted"), [(0.1, False), (10.0, True)])
def test_hint_at_forces_far_above_the_energy_scale(tmp_path, caplog, factor, hinted):
    structures = [to_structure(atoms, "toy", LabelKeys()) for atoms in alloys(4)]
    samples = [make_sample(s, [29, 79], 3.0) for s in structures]
    samples = [s._replace(forces=factor * s.forces) for s in samples]
    config = PETConfig(**MODEL)
    model = checkpoint.make_potential(config, [29, 79], [TargetSpec()], "float32")
    fit_baseline(model, samples, TrainingOptions())
    assert ("energy_scale: forces" in caplog.text) is hinted


def test_options_without_effect_are_told():
    values = {
        "data": {"train": "a.xyz"},
        "training": {"embedding_gain": 1.5},
        "finetune": {"composition": "fit", "rank": 4},
    }
    (finding,) = without_effect(parse_options(values))
    assert finding.startswith("`finetune.composition` has no effect in a training from")
    values["training"] |= {"start_from": "a.ckpt", "energy_scale": "forces"}
    findings = without_effect(parse_options(values))
    assert [finding.split("`")[1] for finding in findings] == [
        "training.energy_scale",
        "training.embedding_gain",
    ]
    values["training"] = {"start_from": "a.ckpt", "parameters": "heads"}
    values["finetune"] |= {"rank": 8, "train_heads": True}
    values["data"] |= {"valid": "b.xyz", "valid_fraction": 0.3, "split_seed": 1}
    values["data"] |= {"virial_unit": "Ha"}
    findings = without_effect(parse_options(values))
    assert [
        finding.replace("`", "").split(" has no effect ") for finding in findings
    ] == [
        ["finetune.rank", "with training.parameters: heads"],
        ["finetune.train_heads", "with training.parameters: heads"],
        ["data.valid_fraction", "beside data.valid"],
        ["data.split_seed", "beside data.valid"],
        ["data.virial_unit", "without data.virial_key"],
    ]
    values["training"]["parameters"] = "lora"
    values["data"] |= {"virial_key": "v", "levels": {"scan": {"train": "c.xyz"}}}
    assert without_effect(parse_options(values)) == []


def test_a_training_tells_what_has_no_effect(tmp_path, caplog):
    values = toy_options(tmp_path, epochs=1)
    values["finetune"] = {"base": "base.xyz"}
    train(parse_options(values))
    assert "`finetune.base` has no effect in a training from scratch" in caplog.text


def test_a_step_without_finite_gradient_changes_nothing(tmp_path, monkeypatch):
    """The loss of the third step is infinite; the others move the weights."""
    sums, step = [], TrainingModule.training_step

    def spoiled_step(self, batch, batch_idx):
        weights = self.potential.network.edge_embedder.weight
        sums.append(float(weights.detach().abs().sum()))
        loss = step(self, batch, batch_idx)
        return loss * float("inf") if self.global_step == 2 else loss

    monkeypatch.setattr(TrainingModule, "training_step", spoiled_step)
    options = parse_options(toy_options(tmp_path, epochs=1))
    train(options)
    moved = [a != b for a, b in itertools.pairwise(sums)]
    assert moved == [True, True, False, True, True]
    assert len(sums) == 6
    counts = []
    monkeypatch.setattr(
        TrainingModule, "on_fit_start", lambda self: counts.append(self.n_skipped)
    )
    train(options, resume=tmp_path / "run" / "last.ckpt")
    assert counts == [1]


def test_average_differs_from_the_last_weights(finished):
    state = weights(f"{finished['output']}/last.ckpt")
    name = "network.gnn_layers.0.edge_embedder.weight"
    average, last = state[f"averaged.{name}"], state[f"potential.{name}"]
    assert 0 < float((average - last).abs().max()) < 0.1
    kept = checkpoint.read(f"{finished['output']}/last.ckpt")["state_dict"][name]
    assert torch.equal(kept, average)


def test_float64_and_huber_and_stress(tmp_path):
    values = toy_options(
        tmp_path,
        dtype="float64",
        epochs=1,
        weight_decay=1e-3,
        energy_scale="forces",
        loss={"forces": {"kind": "huber", "delta": 0.1}, "stress": {"weight": 0.1}},
    )
    best = train(parse_options(values))
    potential, _ = checkpoint.load_potential(best)
    assert next(potential.network.parameters()).dtype == torch.float64


def test_mixed_precision_trains_weights_in_full(tmp_path):
    """Losses differ from those in full precision, by bfloat16's 3 digits."""
    found = {}
    for name, is_mixed in (("full", False), ("mixed", True)):
        folder = tmp_path / name
        folder.mkdir()
        values = toy_options(folder, epochs=1, mixed_precision=is_mixed)
        potential, provenance = checkpoint.load_potential(train(parse_options(values)))
        assert next(potential.network.parameters()).dtype == torch.float32
        found[name] = provenance["validation"]["loss"]
    assert found["mixed"] != found["full"]
    assert found["mixed"] == pytest.approx(found["full"], rel=0.05)


def test_split_of_one_file(tmp_path):
    values = toy_options(tmp_path, epochs=1)
    values["data"] = {"train": values["data"]["train"], "valid_fraction": 0.3}
    train(parse_options(values))
    values["data"]["valid_fraction"] = 0.001
    values["output"] = str(tmp_path / "another")
    with pytest.raises(
        ValueError, match=r"leaves 13 for training and 0 for validation"
    ):
        train(parse_options(values))


def test_frames_without_forces_enter_the_energy_term_alone(tmp_path):
    values = toy_options(tmp_path, epochs=1, batch_size=1)
    energies = write(tmp_path / "e.xyz", bare(6, seed=3))
    values["data"]["train"] = [values["data"]["train"], energies]
    with pytest.raises(ValueError, match=r"e.xyz, frame 0 has no `forces`"):
        train(parse_options(values))
    values["data"]["require_forces"] = False
    potential, _ = checkpoint.load_potential(train(parse_options(values)))
    assert all(torch.isfinite(p).all() for p in potential.parameters())


def bare(n_frames, seed):
    """Alloys with an energy alone."""
    frames = alloys(n_frames, seed=seed)
    for atoms in frames:
        del atoms.calc.results["forces"], atoms.calc.results["stress"]
    return frames


def test_batches_without_any_known_label_are_passed_over(tmp_path):
    """The loss in validation is that of the structures that have forces."""
    loss = {"energy": {"weight": 0}, "stress": {"weight": 0}}
    values = toy_options(tmp_path, epochs=1, batch_size=1, loss=loss, log_steps=1)
    both = [*alloys(3, seed=1), *bare(3, seed=2)]
    values["data"]["train"] = write(tmp_path / "both.xyz", both)
    values["data"]["require_forces"] = False
    values["training"]["monitor"] = "loss"
    found = []
    for name, further in (("plain", []), ("more", bare(4, seed=3))):
        values["output"] = str(tmp_path / name)
        frames = [*alloys(4, seed=2), *further]
        values["data"]["valid"] = write(tmp_path / f"{name}.xyz", frames)
        best = train(parse_options(values))
        found.append(checkpoint.read(best)["provenance"]["validation"]["loss"])
    assert found[0] == pytest.approx(found[1])


def test_training_without_labels_that_count_is_refused(tmp_path):
    values = toy_options(tmp_path, loss={"energy": {"weight": 0}})
    values["data"]["require_forces"] = False
    values["data"]["train"] = write(tmp_path / "bare.xyz", bare(4, seed=1))
    message = r"no training structure .* \(forces, stress\); they have energy; give one"
    with pytest.raises(ValueError, match=message):
        train(parse_options(values))
    assert not pathlib.Path(values["output"]).exists()


def test_monitor_without_labels_to_monitor_is_refused(tmp_path):
    values = toy_options(tmp_path, monitor="forces_mae")
    values["data"]["require_forces"] = False
    values["data"]["valid"] = write(tmp_path / "bare.xyz", bare(4, seed=1))
    message = r"monitor` is forces_mae, .* structure has forces; they have energy; mon"
    with pytest.raises(ValueError, match=message):
        train(parse_options(values))
    assert not pathlib.Path(values["output"]).exists()


def test_validation_with_an_unknown_element(tmp_path):
    values = toy_options(tmp_path)
    values["data"]["atomic_numbers"] = [79]
    with pytest.raises(ValueError, match=r"train.xyz, frame \d+ has Cu, unknown"):
        train(parse_options(values))


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    values = toy_options(tmp_path, n_frames=12, epochs=2, batch_size=4, dtype="float64")
    train(parse_options(values))
    both = {**values, "output": str(tmp_path / "both")}
    both["training"] = {**values["training"], "batch_size": 2, "devices": 2}
    script = (
        "import json, sys\n"
        "from petmad.training.options import parse_options\n"
        "from petmad.training.trainer import train\n"
        "train(parse_options(json.loads(sys.argv[1])))\n"
    )
    (tmp_path / "run.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), json.dumps(both)],
        capture_output=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    one, two = (
        weights(f"{values['output']}/last.ckpt"),
        weights(f"{both['output']}/last.ckpt"),
    )
    # The mean of two means of equal size, added in another order.
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-9, rtol=1e-9)
