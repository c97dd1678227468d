"""Results of forwards as the predictions that doors get."""

from __future__ import annotations

from typing import Any

from app.serving.tickets import ForwardResult, Ticket
from app.types import Prediction, Timing


def prediction_of(result: ForwardResult, strategy: str, params: dict[str, Any], timing: Timing) -> Prediction:
    """Return the prediction of a request with that strategy and those hyperparameters."""
    return Prediction(
        **result.output._asdict(),
        strategy=strategy,
        params=params,
        step=result.step,
        updated=result.updated,
        outliers=result.outliers,
        weight=result.weight,
        drift=result.drift,
        adaptation=result.adaptation,
        timing=timing,
        state_origin=result.state_origin,
        explanation=result.explanation,
        commit_ms=result.commit_ms,
    )


def timing_of(ticket: Ticket) -> Timing:
    """Return the time that a finished request spent in each stage."""
    decode, queue = ticket.ready - ticket.arrived, ticket.started - ticket.ready
    forward, total = ticket.finished - ticket.started, ticket.finished - ticket.arrived
    return Timing(*(round(1000 * seconds, 3) for seconds in (decode, queue, forward, total)))
