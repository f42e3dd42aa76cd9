import glob
from pathlib import Path

import pytest
import yaml

from tensornet.train import RecipeError, load_recipe

SMALLEST = """\
model: {name: lennard_jones, cutoff: 5.0}
data: {train: train.extxyz, valid: 0.1, test: test.extxyz}
"""


@pytest.fixture
def smallest(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(SMALLEST)
    return path


def test_smallest_recipe_has_good_defaults(smallest: Path) -> None:
    recipe = load_recipe(smallest)
    assert recipe.model.model_dump()["name"] == "lennard_jones"
    assert recipe.loss.energy > 0
    assert recipe.loss.forces > 0
    assert recipe.loss.stress == 0
    assert recipe.data.valid == 0.1
    assert recipe.data.train == (smallest.parent.resolve() / "train.extxyz",)
    assert recipe.training.loggers == ()


def test_overrides_win_and_numbers_of_yaml_1_1_are_numbers(smallest: Path) -> None:
    recipe = load_recipe(
        smallest,
        ["optimizer.lr=1e-3", "training.epochs=7", "data.valid=2e-1", "model.sigma=3.0"],
    )
    assert recipe.optimizer.lr == 1e-3
    assert recipe.training.epochs == 7
    assert recipe.data.valid == 0.2
    assert recipe.model.model_dump()["sigma"] == 3.0


def test_paths_in_overrides_are_relative_to_the_current_folder(
    smallest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    recipe = load_recipe(smallest, ["data.train=[a.xyz, b.xyz]", "data.test=null"])
    assert recipe.data.train == (elsewhere.resolve() / "a.xyz", elsewhere.resolve() / "b.xyz")
    assert recipe.data.test == ()


def test_paths_of_whole_blocks_and_of_models_are_relative_to_the_current_folder_too(
    smallest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere").resolve()
    monkeypatch.chdir(elsewhere)
    recipe = load_recipe(
        smallest, ["data={train: 1e5, valid: 1e-1}", "start.model=old.safetensors"]
    )
    assert recipe.data.train == (elsewhere / "1e5",)
    assert recipe.data.valid == 0.1
    assert recipe.start.model == elsewhere / "old.safetensors"


def test_a_folder_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "run [1] ü"
    folder.mkdir()
    for name in ("a.xyz", "b.xyz", "c [2].xyz"):
        (folder / name).touch()
    (folder / "recipe.yaml").write_text(SMALLEST)
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.data.train == (folder.resolve() / "train.extxyz",)
    (folder / "recipe.yaml").write_text(
        SMALLEST.replace("train.extxyz", '["[ab].xyz", "c [2].xyz"]')
    )
    pattern, plain = load_recipe(folder / "recipe.yaml").data.train
    assert sorted(Path(found).name for found in glob.glob(str(pattern))) == ["a.xyz", "b.xyz"]
    assert plain == folder.resolve() / "c [2].xyz"


def test_resolved_recipe_is_a_recipe(smallest: Path, tmp_path: Path) -> None:
    recipe = load_recipe(smallest, ["data.reference_energies={Ar: -5.0}"])
    other = tmp_path / "elsewhere.yaml"
    other.write_text(recipe.to_yaml())
    assert load_recipe(other) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rate=1", r"`optimizer.learning_rate` is no key .*Did you mean"),
        ("optimizer.lrr=1", r"Did you mean `optimizer.lr`\?"),
        ("lr=1", r"`lr` is no key of a recipe. Did you mean `optimizer.lr`\?"),
        ("trainig.epochs=1", r"Did you mean `training`\?"),
        ("model.cutof=4", r"`model.cutof` .*Did you mean `model.cutoff`\?"),
        ("model.name=lenard_jones", r"Did you mean `lennard_jones`\?"),
        ("training.epochs=many", r"`training.epochs` should be a valid integer.* Got 'many'"),
        ("training.epochs=0", r"`training.epochs` should be greater than 0"),
        ("optimizer.schedule=cosin", r"`optimizer.schedule` .*'cosine'"),
        ("data.valid=1.5", r"`data.valid` must be a fraction"),
        ("data.valid=true", r"`data.valid` must be a file"),
        ("data.train=[]", r"`data.train` must name at least one file"),
        ("data.reference_energies=average", r"must be one of auto, isolated, fit, none"),
        ("loss={energy: 0, forces: 0}", r"`loss` must have a weight above zero"),
        ("training.device=tpu", r"must be cpu, cuda"),
        ("training.loggers=[mlflow]", r"`training.loggers`"),
        ("model=tdn", r"`model` must be a block"),
        ("optimizer.lr", r"must look like"),
        ("optimizer.lr.x=1", r"`optimizer.lr` should be a valid number"),
        ("optimizer.lr=.nan", r"`optimizer.lr` should be a finite number. Got nan"),
        ("optimizer.lr=.inf", r"`optimizer.lr` should be a finite number. Got inf"),
        ("loss.energy=1e400", r"`loss.energy` should be a finite number. Got '1e400'"),
        ("data.reference_energies={Ar: .inf}", r"must be finite energies in eV, not Ar: inf"),
        ("data.reference_energies={Ar: x}", r"`data.reference_energies` must be .* not Ar: 'x'"),
        ("optimizer={name: soap, amsgrad: true}", r"`optimizer` must not have amsgrad with soap"),
        ("optimizer=1", r"`optimizer` must be a block of settings. Got 1"),
        ("model.name=[1]", r"must be one of gaunt, lennard_jones, tdn. Got \[1\]"),
        ("model.cutoff=.inf", r"`model.cutoff` should be a finite number. Got inf"),
        ("model.sigma=true", r"`model.sigma` must not be true or false"),
        ("training.epochs=true", r"`training.epochs` must not be true or false. Got True"),
        ("training.early_stopping=yes", r"`training.early_stopping` must not be true or false"),
        ("training.seed=4294967296", r"`training.seed` should be less than 4294967296"),
        ("optimizer={lr: 1, lr: 2}", "'optimizer={lr: 1, lr: 2}' is not valid YAML"),
        ("training.epochs=2024-13-45", "is not valid YAML"),
        (
            "training.epochs=" + "9" * 5000,
            r"The value in 'training.epochs=9+ \.\.\. is not valid YAML",
        ),
        ("training.epochs=0x" + "f" * 5000, r"`training.epochs` should be less than 2147483648"),
        (
            "training.steps_per_epoch=1000000000000",
            r"`training.steps_per_epoch` should be less than",
        ),
        ("training.n_threads=100000", r"`training.n_threads` should be less than or equal to 1024"),
        (
            "optimizer.warmup_epochs=1e308",
            r"`optimizer.warmup_epochs` should be less than or equal",
        ),
        ("model.sigma=0x" + "f" * 5000, r"`model.sigma` should be a valid number"),
        ("data.valid=0x" + "f" * 5000, r"`data.valid` should be less than 2147483648"),
        ("data.reference_energies={Ar: " + "9" * 400 + "}", r"must be finite energies in eV"),
        ("data.reference_energies={Ar: 0x" + "f" * 5000 + "}", r"not Ar: a number of thousands"),
        ("data.train=~nobody.of.this.name/x", r"`data.train` must be a path that leads somewhere"),
        ("data.train=" + "a" * 300 + "*", r"`data.train` must be a path .*File name too long"),
        (
            "start.model=~nobody.of.this.name/x",
            r"`start.model` must be a path that leads somewhere",
        ),
        ("model={1: 2}", r"recipe.yaml: `model: {name: ...}` must be one of"),
        ("model={name: lennard_jones, 1: 2}", r"`model` keys should be strings. Got 1"),
    ],
)
def test_mistakes_are_said_in_one_line(smallest: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(smallest, [override])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "line 2: not valid YAML|line 1: not valid YAML"),
        ("", "must hold blocks"),
        ("data: {train: a.xyz}", "`model` is missing"),
        (f"{SMALLEST}data: {{train: b.xyz}}", "line 3: not valid YAML .`data` is given twice"),
        (f"1: 2\n{SMALLEST}", "`recipe` keys should be strings. Got 1"),
        ("a: " + "[" * 3000, "nested too deeply"),
        (f"{SMALLEST}training: 2024-13-45", "line 3: not valid YAML .'2024-13-45' is no timestamp"),
        (f"{SMALLEST}training: !!int ''", "line 3: not valid YAML .'' is no int"),
        (f"{SMALLEST}training: !!bool maybe", "line 3: not valid YAML .'maybe' is no bool"),
        (f"{SMALLEST}training: {'9' * 5000}", "line 3: not valid YAML .'9+ is no int"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)


def test_links_in_a_circle(smallest: Path) -> None:
    (smallest.parent / "train.extxyz").symlink_to("train.extxyz")
    with pytest.raises(RecipeError, match=r"`data.train` must be a path that leads somewhere"):
        load_recipe(smallest)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Cannot read the recipe .*none.yaml"):
        load_recipe(tmp_path / "none.yaml")


def test_to_yaml_names_every_default(smallest: Path) -> None:
    content = yaml.safe_load(load_recipe(smallest).to_yaml())
    assert content["optimizer"]["schedule"] == "cosine"
    assert content["model"]["sigma"] == 2.5


def test_a_block_inside_of_the_model(smallest: Path) -> None:
    charged = [
        "model={name: gaunt, long_range: {charges: predicted}}",
        "model.long_range.smearing=0.8",
    ]
    recipe = load_recipe(smallest, charged)
    assert recipe.model.model_dump()["long_range"]["smearing"] == 0.8
    with pytest.raises(RecipeError, match=r"Did you mean `model.long_range.smearing`"):
        load_recipe(smallest, [*charged, "model.long_range.smear=1"])
