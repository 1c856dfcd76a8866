"""Training elastic networks: policies, recipes, objectives, the loop, the run directory."""

from accordion.training.config import TrainingConfig, build_network
from accordion.training.evaluation import correct
from accordion.training.loop import TrainingResult, train
from accordion.training.policies import POLICY_NAMES, Policy, full_with_probability, uniform
from accordion.training.recipes import MODERN, PAPER, RECIPES, Recipe
from accordion.training.run_directory import RunDirectory
from accordion.training.runs import load_run

__all__ = [
    "MODERN",
    "PAPER",
    "POLICY_NAMES",
    "RECIPES",
    "Policy",
    "Recipe",
    "RunDirectory",
    "TrainingConfig",
    "TrainingResult",
    "build_network",
    "correct",
    "full_with_probability",
    "load_run",
    "train",
    "uniform",
]
