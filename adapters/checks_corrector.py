"""The former place of `adapters.checks.corrector`, for plugins that import it."""

from adapters.checks.corrector import CHECKS, check_corrector

__all__ = ["CHECKS", "check_corrector"]
