"""Options of a training: defaults, types, and messages that name the right option."""

import itertools

import pydantic
import pytest
import yaml

from petmad.model import PETConfig
from petmad.training.options import Options, load_options, parse_options
from petmad.training.reference import options_reference
from petmad.training.trainer import train


DATA = {"train": "train.xyz"}


def test_defaults_are_those_of_the_model():
    options = parse_options({"data": DATA})
    assert isinstance(options.model, PETConfig)
    assert options.model.to_dict() == PETConfig().to_dict()
    assert options.training.batch_size == 16
    assert options.training.loss.forces.kind == "mse"


def test_values_arrive():
    options = parse_options(
        {
            "model": {"d_pet": 32, "num_neighbors_adaptive": 8, "cutoff": 5},
            "data": {"train": ["a.xyz", "b.xyz"]},
            "training": {"learning_rate": "1e-3", "energy_scale": 0.5},
        }
    )
    assert options.model.d_pet == 32
    assert options.model.cutoff == 5.0
    assert options.data.train == ["a.xyz", "b.xyz"]
    assert options.training.learning_rate == 1e-3
    assert options.training.energy_scale == 0.5


def test_devices_are_called_as_everywhere():
    for name, device in (("cuda", "gpu"), ("gpu", "gpu"), ("cpu", "cpu")):
        options = parse_options({"data": DATA, "training": {"device": name}})
        assert options.training.device == device


def test_the_reference_tells_all_values_of_a_choice():
    words = " ".join(options_reference().replace("#", " ").split())
    for choices in ("auto, cpu, gpu", "center_of_mass, center_of_nuclear_charge"):
        assert f"One of {choices}" in words
    assert "independent, null." in words


STAGES = [{"epochs": 1}, {"epochs": 1, "loss": {"forces": {"weight": 0}}}]
UNWEIGHTED = {
    "epochs": 1,
    "loss": {name: {"weight": 0} for name in ("energy", "forces", "stress")},
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"training": {"epoch": 3}},
            r"unknown option `training.epoch`; did you mean `training.epochs`\?",
        ),
        (
            {"model": {"d_pett": 3}},
            r"unknown option `model.d_pett`; did you mean `model.d_pet`\?",
        ),
        (
            {"training": {"d_pet": 3}},
            r"unknown option `training.d_pet`; did you mean `model.d_pet`\?",
        ),
        (
            {"trainning": {}},
            r"unknown option `trainning`; did you mean `training`\?",
        ),
        (
            {"training": {"loss": {"force": {}}}},
            r"unknown option `training.loss.force`; did you mean `training.loss",
        ),
        (
            {"training": {"xyzzy": 1}},
            r"unknown option `training.xyzzy`; training knows epochs, batch_size",
        ),
        ({"training": {"epochs": 0}}, r"`training.epochs`: .*greater .*got 0"),
        ({"training": {"epochs": "many"}}, r"`training.epochs`: .*integer.*'many'"),
        ({"training": {"loss": {"energy": {"kind": "l4"}}}}, r"energy.kind`: .*'mae'"),
        (
            {"training": {"epochs": 2, "validate_every": 3}},
            r"`training`: `validate_every` must be at most `epochs`, got 3 and 2",
        ),
        (
            {"training": {"epochs": 2, "stages": [{"epochs": 1}, UNWEIGHTED]}},
            r"nothing to train: all weights of `training.stages.1.loss` and of",
        ),
        ({"training": {"energy_scale": float("inf")}}, r"energy_scale.* finite number"),
        ({"data": {**DATA, "split_seed": -1}}, r"`data.split_seed`: .*got -1"),
        ({"data": {**DATA, "atomic_numbers": [8, 200]}}, r"to 118; got 200"),
        ({"model": {"d_pet": 30}}, r"`model`: `num_heads` must divide `d_pet`"),
        ({"model": {"activation": "ReLU"}}, r"`activation` must be one of SwiGLU"),
    ],
)
def test_mistakes_are_explained(values, message):
    with pytest.raises(ValueError, match=message):
        parse_options({"data": DATA, **values})


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"epochs": 2, "monitor": "loss", "stages": STAGES},
            r"^`training.monitor: loss` would compare the losses of `training.stages`",
        ),
        (
            {"mixed_precision": True, "dtype": "float64"},
            r"^`training.mixed_precision` runs .* but `training.dtype` is float64",
        ),
    ],
)
def test_contradictions_stop_new_trainings_alone(training, message):
    """Options of an earlier version's checkpoints are read, and resumed with."""
    options = parse_options({"data": DATA, "training": training})
    with pytest.raises(ValueError, match=message):
        train(options)
    with pytest.raises(ValueError, match=r"^no such data file: train.xyz"):
        train(options, resume="last.ckpt")


@pytest.mark.parametrize("files", [None, [], "", ["a.xyz", ""], ["a.xyz", None]])
def test_empty_names_of_files(files):
    """One line each; of a validation file null means none."""
    data = {"data": {"train": files, "valid": files}}
    data["data"]["levels"] = {"scan": {"train": files}}
    with pytest.raises(ValueError, match="is empty") as caught:
        parse_options(data)
    places = ["train"] if files is None else ["train", "valid", "levels.scan.train"]
    expected = [
        f"option `data.{place}` is empty; name a file or a list of files; got {files!r}"
        for place in places
    ]
    assert str(caught.value) == "options: " + "\n".join(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"train": 5}}, "^options: option `data.train` names no .*; got 5$"),
        ({"data": {**DATA, "energy": "dft"}}, r"did you mean `data.energy_key`\?"),
        (
            {"data": {**DATA, "levels": {"scan": {"forces": "f"}}}},
            r"did you mean `data.levels.scan.forces_key`\?",
        ),
        ({"data": {**DATA, "energy_key": None}}, "^options: nothing to train: `data"),
    ],
)
def test_messages_name_the_place(change, message):
    with pytest.raises(ValueError, match=message):
        parse_options(change)


def test_missing_training_file():
    with pytest.raises(ValueError, match=r"option `data\.train` is missing; add it"):
        parse_options({"data": {}})


def test_every_mistake_is_listed():
    with pytest.raises(ValueError, match=r"(?s)batchsize.*learnin_rate") as caught:
        parse_options({"data": DATA, "training": {"batchsize": 1, "learnin_rate": 1}})
    assert "did you mean `training.batch_size`?" in str(caught.value)
    assert "did you mean `training.learning_rate`?" in str(caught.value)


def test_options_survive_a_file(tmp_path):
    options = parse_options({"data": DATA, "model": {"d_pet": 64}})
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump(options.to_dict()))
    assert load_options(path).to_dict() == options.to_dict()


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match="no such options file"):
        load_options(tmp_path / "absent.yaml")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="not valid YAML"):
        load_options(tmp_path / "a.yaml")
    (tmp_path / "latin.yaml").write_bytes("data: {train: Ångström}".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.yaml is no options file: .*UTF-8"):
        load_options(tmp_path / "latin.yaml")
    (tmp_path / "b.yaml").write_text("- 1")
    with pytest.raises(ValueError, match="must be a YAML mapping of model, data"):
        load_options(tmp_path / "b.yaml")
    (tmp_path / "c.yaml").write_text("data: {train: a}\nmodel: {}\ndata: {train: b}\n")
    with pytest.raises(ValueError, match="`data` is there twice, again in line 3"):
        load_options(tmp_path / "c.yaml")


def test_every_option_is_described():
    def check(section):
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
                check(kind)

    check(Options)


def test_reference_is_a_file_of_the_defaults():
    values = yaml.safe_load(options_reference())
    assert values["data"].pop("train") == "..."
    values["data"]["train"] = "train.xyz"
    assert parse_options(values).to_dict() == parse_options({"data": DATA}).to_dict()


def test_reference_spells_units_as_people_do():
    assert "  forces_unit: eV/Å\n" in options_reference()


def test_reference_explains_every_option():
    lines = options_reference().splitlines()
    for above, line in itertools.pairwise(lines):
        if not line.strip().startswith("#"):
            assert above.strip().startswith("#"), line
