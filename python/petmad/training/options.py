"""Options of ``petmad train``: one typed schema, documented by the texts below."""

import difflib
import json
import typing
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from petmad.model import PETConfig

from .data_options import NO_FILES, DataOptions
from .finetune_options import FinetuneOptions
from .loss_options import LossOptions
from .section import STRICT, Section
from .tensor_options import TensorOptions


ModelOptions = pydantic.dataclasses.dataclass(PETConfig, config=STRICT)


class StageOptions(Section):
    """A part of a training, see ``training.stages``."""

    epochs: int = pydantic.Field(ge=1)
    """Its length."""
    learning_rate: float | None = pydantic.Field(None, gt=0)
    """Peak of its schedule; by default ``training.learning_rate``."""
    loss: LossOptions = LossOptions()
    """Terms of its loss."""


class TrainingOptions(Section):
    """How the model is trained."""

    epochs: int = pydantic.Field(1000, ge=1)
    """Passes over the training structures."""
    batch_size: int = pydantic.Field(16, ge=1)
    """Structures per step and device."""
    batch_atoms: int | None = pydantic.Field(None, ge=1)
    """Most atoms per step and device; batches then hold as many structures as fit,
    whatever ``batch_size``."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Adam as upstream, or Muon for the matrices and Adam for the rest, which learns in
    fewer steps from scratch."""
    learning_rate: float = pydantic.Field(1e-4, gt=0)
    """Peak of the schedule."""
    warmup_fraction: float = pydantic.Field(0.01, ge=0, lt=1)
    """Part of all steps in which the rate rises linearly; then half a cosine to 0."""
    weight_decay: float = pydantic.Field(0.0, ge=0)
    """Of the weights, decoupled; with 0 Adam is plain Adam."""
    gradient_clip: float = pydantic.Field(1.0, ge=0)
    """Largest norm of the parameters' gradient; 0 turns clipping off."""
    max_skipped: int = pydantic.Field(10, ge=0)
    """Steps in a row whose gradient is not finite that are skipped and counted; one
    more stops the training."""
    energy_scale: Literal["energy", "forces"] | pydantic.PositiveFloat = "energy"
    """Scale [eV] of what the network predicts: ``energy``, the spread of energies per
    atom; ``forces``, the root mean square of force components times 1 Å; or a number.
    ``forces`` is better where energies per atom hardly differ: after 6 epochs on the
    molecule acac, errors were 395 meV/Å and 10 meV/atom, against 448 and 33. A model of
    ``start_from`` has its own."""
    ema_decay: float = pydantic.Field(0.0, ge=0, lt=1)
    """Decay per step of a moving average of the weights, which then is validated and
    saved in their place; 0 turns it off, 0.99 to 0.999 are usual."""
    embedding_gain: pydantic.PositiveFloat = 4.0
    """Factor of the initial weights that embed edge vectors. With 1, the usual one, the
    network starts so smooth that forces stay unlearned for long: after 300 steps on
    water their error was 815 meV/Å (that of predicting zero), but 380 with 4. A model
    of ``start_from`` has its own."""
    loss: LossOptions = LossOptions()
    """Terms of the loss."""
    stages: list[StageOptions] = pydantic.Field([])
    """Consecutive parts, each with its own ``epochs``, ``loss`` and ``learning_rate``,
    its own warm-up and cosine, in place of ``loss``. Direct heads first, gradients
    after: ``[{epochs: 9, loss: {forces: {weight: 0}, stress: {weight: 0},
    direct_forces: {weight: 1}}}, {epochs: 9}]``."""
    rotate: bool = True
    """Turn each structure at random in each epoch."""
    seed: int = pydantic.Field(0, ge=0)
    """Seed of weights, order and rotations."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the network."""
    mixed_precision: bool = False
    """Run the matrix products of training in bfloat16; labels, losses and weights stay
    as they are. For GPUs; on CPUs it is seldom faster."""
    compile: bool = False
    """Compile the step with ``torch.compile``: a minute or two at the start, then
    faster steps. Needs a C++ compiler; for energies, not with ``targets``."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to train; ``auto`` takes a GPU if there is one, ``cuda`` is ``gpu``."""
    devices: int = pydantic.Field(1, ge=1)
    """Processes on a node, one per device, that share each step (DDP)."""
    num_nodes: int = pydantic.Field(1, ge=1)
    """Nodes of the job; ``devices`` processes on each share every step."""
    threads: int | None = pydantic.Field(None, ge=1)
    """CPU threads per process; by default torch's own choice."""
    num_workers: int = pydantic.Field(0, ge=0)
    """Processes that prepare batches."""
    monitor: Literal["mae_prod", "rmse_prod", "loss", "energy_mae", "forces_mae"] = (
        "mae_prod"
    )
    """Validation number whose lowest value marks the best model."""
    validate_every: int = pydantic.Field(1, ge=1)
    """Epochs between validations."""
    checkpoint_steps: int = pydantic.Field(1000, ge=1)
    """Steps between writes of last.ckpt; it is also written after each epoch."""
    log_steps: int = pydantic.Field(10, ge=1)
    """Steps between lines of the training log."""
    start_from: str | None = None
    """Model to start from: a checkpoint of petmad or an exported file, converted ones
    included. Its hyperparameters, elements, weights, composition and scale are taken;
    leave the ``model`` section out. 1e-5 is a usual ``learning_rate`` then."""
    parameters: Literal["all", "heads", "lora"] = "all"
    """What is trained. With ``heads`` the network of ``start_from`` stays as it is, and
    so do its other targets; the heads of ``targets`` are trained, that of the energy
    too unless ``data.energy_key`` is null. With ``lora`` low-rank updates of the
    network are trained, and the heads of new targets, see ``finetune``. With both, so
    are the rows of new elements in the network's embeddings."""

    @pydantic.field_validator("device", mode="before")
    @classmethod
    def _knows_cuda(cls, device: Any) -> Any:
        return "gpu" if device == "cuda" else device

    @property
    def n_processes(self) -> int:
        """That share each step."""
        return self.devices * self.num_nodes

    @pydantic.model_validator(mode="after")
    def _has_a_network_for_its_heads(self) -> "TrainingOptions":
        if self.parameters != "all" and self.start_from is None:
            raise ValueError(
                f"`parameters: {self.parameters}` leaves the network as it is, which "
                "without `start_from` means random weights; name a model to start from"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _has_stages_that_fill_it(self) -> "TrainingOptions":
        total = sum(stage.epochs for stage in self.stages)
        if self.stages and total != self.epochs:
            raise ValueError(
                f"the `epochs` of `stages` add up to {total}, but `epochs` is "
                f"{self.epochs}; make them equal"
            )
        if self.stages and self.loss != LossOptions():
            raise ValueError(
                "`loss` and `stages` are both given; move the loss into the stages"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _validates_at_least_once(self) -> "TrainingOptions":
        if self.validate_every > self.epochs:
            raise ValueError(
                "`validate_every` must be at most `epochs`, got "
                f"{self.validate_every} and {self.epochs}: the best model is chosen by "
                "validation"
            )
        return self


class Options(Section):
    """All options of a training."""

    model: ModelOptions = ModelOptions()
    """Hyperparameters of the network."""
    data: DataOptions
    """Structures."""
    targets: dict[str, TensorOptions] = pydantic.Field({})
    """Tensor targets by name, each with the options shown below as comments."""
    training: TrainingOptions = TrainingOptions()
    """Optimization."""
    finetune: FinetuneOptions = FinetuneOptions()
    """What a training from ``training.start_from`` changes, and what it inherits."""
    output: str = "petmad-training"
    """Folder of checkpoints and logs."""

    @pydantic.model_validator(mode="after")
    def _has_something_to_learn(self) -> "Options":
        if self.data.energy_key is None:
            if self.data.levels:
                raise ValueError(
                    "`data.levels` are further energies, but `data.energy_key` is "
                    "null; give the main energy there"
                )
            if not self.targets:
                raise ValueError(
                    "nothing to train: `data.energy_key` is null and `targets` is "
                    "empty; name a target"
                )
            if self.training.monitor in ("energy_mae", "forces_mae"):
                raise ValueError(
                    f"`training.monitor` is {self.training.monitor}, but no energy is "
                    "trained (`data.energy_key` is null); use mae_prod or loss"
                )
        losses = [stage.loss for stage in self.training.stages] or [self.training.loss]
        has_direct = any(
            max(loss.direct_forces.weight, loss.direct_stress.weight) > 0
            for loss in losses
        )
        if has_direct and self.data.energy_key is None:
            raise ValueError(
                "`direct_forces` and `direct_stress` learn the labels that go with an "
                "energy, but `data.energy_key` is null; name the energy"
            )
        for name, target in self.targets.items():
            if target.token_terms and self.training.parameters != "heads":
                raise ValueError(
                    f"`token_terms` of target `{name}` are fitted to the tokens of a "
                    "network that then stays as it is, but `training.parameters` is "
                    f"{self.training.parameters}; make it heads, or leave the terms out"
                )
        if self.training.compile and (self.targets or self.data.energy_key is None):
            raise ValueError(
                "`training.compile` is for energies and their gradients, but there are "
                f"`targets` ({', '.join(self.targets)}); set it to false"
            )
        taken = sorted(filter(_is_taken, self.targets))
        if taken:
            raise ValueError(
                f"`targets` cannot be called {taken[0]}, a name of petmad's own "
                "outputs; choose another name and give its `key`"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _has_a_loss(self) -> "Options":
        if any(target.has_weight for target in self.targets.values()):
            return self
        parts = {f"stages.{i}.": s.loss for i, s in enumerate(self.training.stages)}
        for place, loss in (parts or {"": self.training.loss}).items():
            if self.data.energy_key is None or not loss.weighted:
                raise ValueError(
                    f"nothing to train: all weights of `training.{place}loss` and of "
                    "`targets` are 0; give a term a weight"
                )
        return self

    @pydantic.model_validator(mode="after")
    def _inherits_to_known_energies(self) -> "Options":
        known = ["energy", *(f"energy/{name}" for name in self.data.levels)]
        unknown = sorted(set(self.finetune.inherit) - set(known))
        if unknown:
            raise ValueError(
                f"`finetune.inherit` names {unknown[0]!r}, which is no energy of the "
                f"data; they have {', '.join(known)}"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML or JSON."""
        return json.loads(self.model_dump_json())


def _is_taken(name: str) -> bool:
    """Whether a target cannot have this name, since other outputs do."""
    own = ("energy", "features", "cutoff_stats")
    direct = ("non_conservative_force", "non_conservative_stress")
    return name in (*own, *direct) or name.startswith("energy/")


class OneKeyLoader(yaml.SafeLoader):
    """YAML where no key of a mapping comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Of one mapping.

        Raises:
            yaml.YAMLError: a key comes twice; says where.
        """
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(
                    f"`{key.value}` is there twice, again in line {line}; join or "
                    "remove one"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_options(path: str | Path) -> Options:
    """Read an options file.

    Raises:
        ValueError: the file cannot be read, or an option is unknown, missing or wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such options file: {path} (looked in {Path.cwd()})")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=OneKeyLoader)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no options file: {error}; give YAML in UTF-8, such as `petmad "
            "train --describe` prints"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} must be a YAML mapping of {', '.join(Options.model_fields)}, "
            f"got {type(values).__name__}"
        )
    return parse_options(values, str(path))


def parse_options(values: dict[str, Any], source: str = "options") -> Options:
    """Options from nested mappings.

    Raises:
        ValueError: lists everything wrong, with the right name for a misspelt one.
    """
    try:
        return Options(**values)
    except pydantic.ValidationError as error:
        lines = [_explain(problem) for problem in error.errors()]
        raise ValueError(f"{source}: " + "\n".join(dict.fromkeys(lines))) from None


def _explain(problem: dict[str, Any]) -> str:
    """One line for one problem: what was wrong, what was found, how to mend it."""
    place = [part for part in problem["loc"] if isinstance(part, str)]
    where = ".".join(place)
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _fields_at(place[:-1])
        section = ".".join(place[:-1])
        close = difflib.get_close_matches(place[-1], known, n=1)
        elsewhere = [p for p in _all_places() if p.rpartition(".")[2] == place[-1]]
        if f"{place[-1]}_key" in known:
            advice = f"did you mean `{where}_key`?"
        elif elsewhere:
            advice = f"did you mean `{elsewhere[0]}`?"
        elif close:
            advice = f"did you mean `{'.'.join([*place[:-1], close[0]])}`?"
        else:
            advice = f"{section or 'the file'} knows {', '.join(known)}"
        return f"unknown option `{where}`; {advice}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"option `{where}` is missing; add it"
    if problem["type"] == NO_FILES:
        return f"option `{where}` {problem['msg']}; got {problem['input']!r}"
    message = problem["msg"].removeprefix("Value error, ")
    if not where:
        return message
    if isinstance(problem["input"], dict):
        return f"option `{where}`: {message}"
    return f"option `{where}`: {message}; got {problem['input']!r}"


def _fields(section: Any) -> dict[str, Any]:
    """Name and type of each option of a section; empty for a plain value."""
    if typing.get_origin(section) in (dict, list):
        return _fields(typing.get_args(section)[-1])
    if section is ModelOptions:
        return {
            name: field.type for name, field in PETConfig.__dataclass_fields__.items()
        }
    if isinstance(section, type) and issubclass(section, pydantic.BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    return {}


def _fields_at(place: list[str]) -> list[str]:
    section: Any = Options
    for name in place:
        # the sections of a mapping have names of the user's choice
        is_mapping = typing.get_origin(section) is dict
        section = (
            typing.get_args(section)[1] if is_mapping else _fields(section).get(name)
        )
    return list(_fields(section))


def _all_places(section: Any = Options, prefix: str = "") -> list[str]:
    places = []
    for name, kind in _fields(section).items():
        places.append(prefix + name)
        places.extend(_all_places(kind, f"{prefix}{name}."))
    return places
