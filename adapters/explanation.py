"""Explanations: what the next answer of a stream leans on and why, as numbers and in words."""

from __future__ import annotations

from typing import NamedTuple

from adapters.evidence import Evidence


class Averages(NamedTuple):
    """The images behind the running averages of a stream.

    >>> Averages(images=200.0, independent=81.0, horizon=200.0).independent
    81.0
    """

    images: float  # the averages stand for
    independent: float  # that these count as where they are weighed against the trained statistics
    horizon: float | None = None  # they look back on, where they let go of older ones at a change; None: they do not


class Leaning(NamedTuple):
    """The weights of what the next single image of a stream is normalized with; the first three sum up to 1.

    >>> Leaning(request=0.1, memory=0.7, trained=0.2).memory
    0.7
    """

    request: float  # the image's own statistics
    memory: float  # what the stream remembers
    trained: float  # the statistics of the training data
    averages: Averages | None = None  # the images behind the memory, of an adapter that counts them


class CorrectorActivity(NamedTuple):
    """The state of a corrector.

    >>> CorrectorActivity("lame", is_active=False, condition="predictions repeat").name
    'lame'
    """

    name: str
    is_active: bool  # whether it changes answers now
    condition: str = ""  # under which it does, as a clause; empty where there is none


class ChangeAlarm(NamedTuple):
    """The state of the change alarm of a stream.

    >>> ChangeAlarm(layers=0.6, is_raised=True).is_raised
    True
    """

    layers: float  # share of the adapting layers whose averages have let go of most of the older images
    is_raised: bool  # whether these are more than chance lets go of


class Explanation(NamedTuple):
    """The reasons for the next answer of a stream.

    >>> correction = CorrectorActivity("lame", is_active=True, condition="predictions repeat")
    >>> print(Explanation(Leaning(0.002, 0.798, 0.2), corrections=(correction,)).in_words())
    The next image is normalized with statistics of the training data (20 %), of this stream (80 %) and of the image \
itself (under 1 %). Answers are corrected by lame, because predictions repeat.
    """

    leaning: Leaning | None = None  # mean over the layers; None where a strategy has no such weights
    evidence: Evidence | None = None  # of a strategy that reads it
    corrections: tuple[CorrectorActivity, ...] = ()  # of the correctors that can tell
    images: int = 0  # that the stream has learned from
    alarm: ChangeAlarm | None = None  # of a strategy that has one, once there are images
    is_mixture: bool | None = None  # whether domains are taken to be mixed; None of a strategy that does not tell

    @property
    def is_corrected(self) -> bool | None:
        """True if a corrector changes answers now; None without one that can tell."""
        return any(part.is_active for part in self.corrections) if self.corrections else None

    def in_words(self) -> str:
        """Return the explanation in a few sentences."""
        averages = None if self.leaning is None else self.leaning.averages
        sentences = [_leaning_in_words(self.leaning)]
        if self.alarm is not None and self.alarm.is_raised:
            share = _percent(self.alarm.layers)
            sentences.append(
                f"Change alarm: the images look different from before, so {share} of the adapting layers have dropped "
                "most older ones from their averages"
            )
        if self.is_mixture:
            sentences.append(
                "The contrast of images differs by more than their content explains, as where domains are mixed, so "
                "each is drawn to its own statistics"
            )
        if averages is not None:
            sentences.append(_averages_in_words(averages, self.images, self.evidence))
        elif self.evidence is not None and self.images:
            sentences.append(_capitalized(_evidence_in_words(self.evidence)))
        if self.corrections:
            sentences.append(_corrections_in_words(self.corrections))
        return ". ".join(sentences) + "."


def _leaning_in_words(leaning: Leaning | None) -> str:
    if leaning is None:
        return "The strategy does not say how far it leans on training data, stream and image"
    names = ("the training data", "this stream", "the image itself")
    weights = (leaning.trained, leaning.memory, leaning.request)
    parts = [f"of {name} ({_percent(weight)})" for weight, name in zip(weights, names, strict=True) if weight > 0]
    return f"The next image is normalized with statistics {_enumerate(parts)}"


def _averages_in_words(averages: Averages, images: int, evidence: Evidence | None) -> str:
    # Formatted rather than rounded: a plugin's numbers may be infinite or NaN.
    count, independent = f"{averages.images:,.0f}", f"{averages.independent:,.0f}"
    part = f"its {count}" if averages.images > images - 0.5 else f"{count} of its {images:,}"
    objects = "image, which counts" if images == 1 else "images, which count"
    start = f"This stream's statistics average {part} {objects} as"
    reason = "" if evidence is None else f": {_evidence_in_words(evidence)}"
    return f"{start} {independent} independent {'one' if independent == '1' else 'ones'}{reason}"


def _evidence_in_words(evidence: Evidence) -> str:
    images, independence, persistence, diversity, *_ = map(float, evidence)
    if not images:
        return "there are too few answers yet to tell how mixed the classes are"
    spread = f"{_percent(diversity)} of full class diversity"
    if not independence:
        return f"the last {images:.0f} answers show too few classes ({spread}) to tell content from appearance"
    news = "nearly every image" if persistence < 1.2 else f"one image in {persistence:.1f}"
    return f"{news} shows something new (the last {images:.0f} answers have {spread})"


def _corrections_in_words(corrections: tuple[CorrectorActivity, ...]) -> str:
    active = [part for part in corrections if part.is_active]
    conditions = [part.condition for part in active or corrections if part.condition]
    if active:
        reason = f", because {_enumerate(conditions)}" if conditions else ""
        return f"Answers are corrected by {_enumerate([part.name for part in active])}{reason}"
    names = _enumerate([part.name for part in corrections])
    return "Answers are not corrected" + (
        f": {names} corrects only while {_enumerate(conditions)}" if conditions else ""
    )


def _capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _percent(share: float) -> str:
    if 0 < share < 0.005:
        return "under 1 %"
    return "over 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def _enumerate(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
