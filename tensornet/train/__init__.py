"""Training: recipes, the loop on Lightning, exact resumption, errors and pictures.

Read first `recipe.py`, all settings of a run, and `fit.py`, a run from its recipe to its results.
Networks for equations are trained without data, in `residual.py` and `direction.py`.
"""

from tensornet.train.cache import Cache as Cache
from tensornet.train.cache import prepare_cache as prepare_cache
from tensornet.train.committee import Calibration as Calibration
from tensornet.train.committee import calibration as calibration
from tensornet.train.committee import fit_committee as fit_committee
from tensornet.train.direction import DirectionFit as DirectionFit
from tensornet.train.direction import fit_direction as fit_direction
from tensornet.train.fit import Interrupted as Interrupted
from tensornet.train.fit import fit as fit
from tensornet.train.metrics import Metrics as Metrics
from tensornet.train.metrics import Predictions as Predictions
from tensornet.train.metrics import evaluate as evaluate
from tensornet.train.metrics import predict as predict
from tensornet.train.plots import learning_curve as learning_curve
from tensornet.train.plots import parity as parity
from tensornet.train.reading import load_recipe as load_recipe
from tensornet.train.reading import recipe_from as recipe_from
from tensornet.train.recipe import Recipe as Recipe
from tensornet.train.recipe import RecipeError as RecipeError
from tensornet.train.recipe import TrainingError as TrainingError
from tensornet.train.residual import ResidualFit as ResidualFit
from tensornet.train.residual import fit_residual as fit_residual
from tensornet.train.residual_flows import FlowRollouts as FlowRollouts
