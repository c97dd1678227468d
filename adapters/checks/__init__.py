"""Checks of the contract for plugin authors: of adapters, correctors and learners."""

from adapters.checks.adapter import CHECKS, check_adapter
from adapters.checks.corrector import check_corrector
from adapters.checks.learner import check_learner

__all__ = ["CHECKS", "check_adapter", "check_corrector", "check_learner"]
