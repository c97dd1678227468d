"""The former place of `adapters.checks.learner`, for plugins that import it."""

from adapters.checks.learner import CHECKS, check_learner

__all__ = ["CHECKS", "check_learner"]
