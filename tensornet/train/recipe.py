"""Recipes: what to train on what, and how. Everything is checked before any work begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tensornet.models import config as model_config_of
from tensornet.train.values import LARGEST, is_energy, path_of_value, paths_of_value, shown


class RecipeError(ValueError):
    """A recipe, or the data it names, that cannot be trained on. The message is one line."""


class TrainingError(RuntimeError):
    """Training cannot go on. The message is one line."""


class Block(BaseModel):
    """A block of a recipe: unknown keys are errors, and nothing changes after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_odd_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        if (
            isinstance(value, bool)
            and cls.model_fields[str(info.field_name)].annotation is not bool
        ):
            raise ValueError("must not be true or false")
        if (
            isinstance(value, int)
            and value > LARGEST
            and info.field_name not in ("seed", "split_seed")
        ):
            raise ValueError(f"should be less than {LARGEST + 1}")
        return value


class DataBlock(Block):
    """Which structures to use. Paths are relative to the folder of the recipe."""

    train: tuple[Path, ...] = Field(description="file or list of files to train on")
    valid: float | int | tuple[Path, ...] = Field(
        default=0.1, description="fraction of the training frames, number of them, or file(s)"
    )
    split_seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="which frames validate; by default as training.seed",
    )
    test: tuple[Path, ...] = Field(
        default=(), description="file or list of files to test on at the end"
    )
    keys: dict[str, str] = Field(
        default={}, description="where labels are, if they have unusual names"
    )
    free_atoms: bool = Field(
        default=False, description="forces on atoms that were held fixed do not count (OC20)"
    )
    cache: Path | None = Field(
        default=None, description="folder to keep the data in, prepared, and to read them from"
    )
    cache_edges: bool = Field(
        default=True, description="keep edges too: more room on disk, less time"
    )
    reference_energies: Literal["auto", "isolated", "fit", "none"] | dict[str, float] = Field(
        default="auto", description="energies of free atoms, eV: how to find them, or per symbol"
    )

    @field_validator("train", "test", mode="before")
    @classmethod
    def _paths(cls, value: Any, info: ValidationInfo) -> Any:
        return paths_of_value(value, _folder(info))

    @field_validator("cache", mode="before")
    @classmethod
    def _folder(cls, value: Any, info: ValidationInfo) -> Any:
        return path_of_value(value, _folder(info))

    @field_validator("train")
    @classmethod
    def _some(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if not value:
            raise ValueError("must name at least one file")
        return value

    @field_validator("valid", mode="before")
    @classmethod
    def _fraction_number_or_paths(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            try:
                value = float(value)  # YAML reads 1e-1 as text
            except ValueError:
                return paths_of_value(value, _folder(info))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return paths_of_value(value, _folder(info))
        if isinstance(value, int) and value >= 1:
            return value
        if isinstance(value, float) and 0 < value < 1:
            return value
        raise ValueError("must be a fraction between 0 and 1, a number of frames, or file(s)")

    @field_validator("reference_energies", mode="before")
    @classmethod
    def _how(cls, value: Any) -> Any:
        ways = ("auto", "isolated", "fit", "none")
        if isinstance(value, Mapping):
            bad = [f"{k}: {shown(x)}" for k, x in value.items() if not is_energy(x)]
            if bad:
                raise ValueError(f"must be finite energies in eV, not {', '.join(bad)}")
            return value
        if isinstance(value, str) and value in ways:
            return value
        if value is None:
            return "none"
        raise ValueError(f"must be one of {', '.join(ways)}, or energies like {{H: -13.6}}")


class StageTwo(Block):
    """Other weights for the last epochs, when small steps can settle the energies.

    Lower the weight of what may wait rather than raise the other: Adam's steps follow the size of
    the gradients with a delay, so that a raise of 20 times is a jump that undoes some epochs.
    """

    start: float = Field(
        default=0.8, gt=0, lt=1, description="fraction of the epochs after which they hold"
    )
    energy: PositiveFloat | None = None
    forces: PositiveFloat | None = None
    stress: PositiveFloat | None = None

    def first_epoch(self, epochs: int) -> int:
        """Give the first epoch with these weights, counted from zero."""
        return math.ceil(self.start * epochs)


class LossBlock(Block):
    """Weights of the errors.

    Every error is divided by the model's `scale` (RMS of the training forces x 1 Å), so that
    weights mean the same for soft and for hard systems: energies count per atom, forces per
    component, stresses as virials (stress times volume) per atom.
    """

    energy: NonNegativeFloat = 10.0
    forces: NonNegativeFloat = 1.0
    stress: NonNegativeFloat = Field(
        default=0.0, description="only for periodic data with stress labels"
    )
    kind: Literal["huber", "mse", "mae", "conditional_huber"] = Field(
        default="huber",
        description="of errors; conditional_huber has a smaller delta for forces above 100 eV/Å",
    )
    groups: dict[str, NonNegativeFloat] = Field(
        default={}, description="weights of structures by their config_type or group"
    )
    huber_delta: PositiveFloat = Field(
        default=0.1, description="where huber turns linear, in `scale`"
    )
    stage_two: StageTwo | None = Field(
        default=None, description="other weights for the last epochs; terms that are not named stay"
    )

    @model_validator(mode="after")
    def _any(self) -> LossBlock:
        if self.energy == self.forces == self.stress == 0:
            raise ValueError("must have a weight above zero among energy, forces and stress")
        for term in ("energy", "forces", "stress") if self.stage_two is not None else ():
            if getattr(self.stage_two, term) is not None and getattr(self, term) == 0:
                raise ValueError(f"has stage_two.{term}, but a term of weight 0 cannot come later")
        return self


class OptimizerBlock(Block):
    """How the weights move."""

    name: Literal["adamw", "adam", "soap"] = Field(
        default="soap", description="soap: Adam where gradients are least correlated"
    )
    lr: PositiveFloat = Field(default=5e-3, description="largest learning rate")
    weight_decay: NonNegativeFloat = 1e-6
    amsgrad: bool = False
    clip: NonNegativeFloat = Field(
        default=10.0, description="largest norm of the gradient; 0 is off"
    )
    warmup_epochs: NonNegativeFloat = Field(
        default=1.0, le=1e9, description="linear rise of the learning rate"
    )
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    final_factor: NonNegativeFloat = Field(
        default=0.01, le=1, description="cosine: last lr over `lr`"
    )
    plateau_factor: PositiveFloat = Field(
        default=0.5, lt=1, description="plateau: each drop of the lr"
    )
    plateau_patience: PositiveInt = Field(
        default=10, description="plateau: epochs without progress"
    )

    @model_validator(mode="after")
    def _possible(self) -> OptimizerBlock:
        if self.amsgrad and self.name == "soap":
            raise ValueError("must not have amsgrad with soap, only with `name: adamw` or adam")
        return self


class TrainingBlock(Block):
    """How long, in which precision, where, and what is shown."""

    epochs: PositiveInt = 200
    batch_size: PositiveInt = Field(default=5, description="structures per batch")
    accumulate: PositiveInt = Field(
        default=1, description="batches per step, whose gradients are added up"
    )
    max_edges: PositiveInt | None = Field(
        default=None, description="edges at once, by memory: a batch with more is divided"
    )
    steps_per_epoch: PositiveInt | None = Field(
        default=None, description="steps between validations; by default one pass of the data"
    )
    workers: NonNegativeInt = Field(
        default=0, le=1024, description="processes that prepare batches, for data in a cache"
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    dtype: Literal["float32", "float64"] = "float32"
    ema: NonNegativeFloat = Field(
        default=0.99, lt=1, description="averaging of the weights; 0 is off"
    )
    early_stopping: PositiveInt | None = Field(
        default=None, description="stop after so many epochs without a better validation loss"
    )
    device: str | None = Field(default=None, description="cpu, cuda or cuda:1; by default the best")
    n_threads: PositiveInt | None = Field(
        default=None, le=1024, description="CPU threads; by default torch's"
    )
    loggers: tuple[Literal["csv", "tensorboard", "wandb"], ...] = ()
    progress: bool = Field(
        default=True, description="a bar in a terminal, a line per epoch elsewhere"
    )

    @field_validator("loggers", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else (value or ())

    @field_validator("device")
    @classmethod
    def _device(cls, value: str | None) -> str | None:
        if value is None or value == "cpu" or value == "cuda":
            return value
        if value.startswith("cuda:") and value[5:].isdigit():
            return value
        raise ValueError("must be cpu, cuda or cuda:<number>")


class LoraBlock(Block):
    """Fine-tuning by updates of low rank."""

    rank: PositiveInt = Field(default=4, description="terms of the update of each weight")


class StartBlock(Block):
    """What to begin from: fine-tuning of a model that was trained before."""

    model: Path | None = Field(
        default=None, description="model file whose weights to begin with; same `model` settings"
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="parameters that stay, as patterns: embedding, layers.0.*"
    )
    lora: LoraBlock | None = Field(
        default=None, description="train updates of low rank only: {rank: 4}"
    )

    @field_validator("model", mode="before")
    @classmethod
    def _file(cls, value: Any, info: ValidationInfo) -> Any:
        return path_of_value(value, _folder(info))

    @field_validator("freeze", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else (value or ())


class Recipe(Block):
    """A training run. The smallest recipe names a model and a training file.

    Made by `load_recipe` or `recipe_from`, which say what is wrong in one line. What each setting
    means stands beside it in this file.

    Args:
        model: The architecture, by ``name``, and its settings.
        data: Which structures to use, and where their labels are.
        loss: Weights of the errors.
        start: A model to begin from, for fine-tuning.
        optimizer: How the weights move.
        training: How long, in which precision, where, and what is shown.
    """

    model: SerializeAsAny[BaseModel]
    data: DataBlock
    loss: LossBlock = LossBlock()
    start: StartBlock = StartBlock()
    optimizer: OptimizerBlock = OptimizerBlock()
    training: TrainingBlock = TrainingBlock()

    @field_validator("model", mode="before")
    @classmethod
    def _model(cls, value: Any) -> BaseModel:
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, Mapping):
            raise ValueError("must be a block like {name: tdn, cutoff: 5.0}")
        return model_config_of(value)

    def to_yaml(self) -> str:
        """Write every setting out, defaults too, so that the text is a recipe again.

        Returns:
            YAML with absolute paths.
        """
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def _folder(info: ValidationInfo) -> Path:
    folder: Path = (info.context or {}).get("folder", Path.cwd())
    return folder
