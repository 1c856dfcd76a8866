"""Training elastic networks: policies, recipes, objectives, the loop, the run directory."""

from accordion.training.config import TrainingConfig, build_network
from accordion.training.evaluation import correct
from accordion.training.finish import finish
from accordion.training.finishing import Finishing, Rounded, Rounding
from accordion.training.loop import TrainingResult, load_run, train
from accordion.training.policies import POLICY_NAMES, Policy, full_with_probability, uniform
from accordion.training.recipes import MODERN, PAPER, RECIPES, Recipe
from accordion.training.run_directory import RunDirectory

__all__ = [
    "MODERN",
    "PAPER",
    "POLICY_NAMES",
    "RECIPES",
    "Finishing",
    "Policy",
    "Recipe",
    "Rounded",
    "Rounding",
    "RunDirectory",
    "TrainingConfig",
    "TrainingResult",
    "build_network",
    "correct",
    "finish",
    "full_with_probability",
    "load_run",
    "train",
    "uniform",
]
