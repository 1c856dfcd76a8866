"""Training elastic networks: policies, recipes, objectives, the loop, the run directory."""

from accordion.training.adapting import Adaptation, adapt
from accordion.training.calibrate import Calibration, calibrate
from accordion.training.compiled import straight_line
from accordion.training.config import TrainingConfig, build_network
from accordion.training.evaluation import correct
from accordion.training.finish import finish
from accordion.training.finishing import Finishing, Rounded, Rounding
from accordion.training.loop import TrainingResult, train
from accordion.training.norms import Norms, measure_norms, norm_batches
from accordion.training.policies import POLICY_NAMES, Policy, full_with_probability, uniform
from accordion.training.recipes import MODERN, PAPER, RECIPES, Recipe
from accordion.training.restore import restore
from accordion.training.run_directory import RunDirectory
from accordion.training.runs import load_run

__all__ = [
    "MODERN",
    "PAPER",
    "POLICY_NAMES",
    "RECIPES",
    "Adaptation",
    "Calibration",
    "Finishing",
    "Norms",
    "Policy",
    "Recipe",
    "Rounded",
    "Rounding",
    "RunDirectory",
    "TrainingConfig",
    "TrainingResult",
    "adapt",
    "build_network",
    "calibrate",
    "correct",
    "finish",
    "full_with_probability",
    "load_run",
    "measure_norms",
    "norm_batches",
    "restore",
    "straight_line",
    "train",
    "uniform",
]
