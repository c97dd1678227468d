"""The explanation of a stream as JSON, in answers with `explain=true` and on the stream's page."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue

EXAMPLE: dict[str, JsonValue] = {
    "words": "The next image is normalized with statistics of the training data (33 %) and of this stream (67 %). "
    "Change alarm: the images look different from before, so 38 % of the adapting layers have dropped most older ones "
    "from their averages. This stream's statistics average 137 of its 192 images, which count as 60 independent ones: "
    "one image in 2.3 shows something new (the last 192 answers have 99 % of full class diversity). Answers are not "
    "corrected: lame corrects only while predictions repeat more often than by chance.",
    "request": 0.0,
    "memory": 0.6702,
    "trained": 0.3298,
    "averaged_images": 136.5,
    "independent_images": 59.58,
    "changed_layers": 0.375,
    "change_alarm": True,
    "is_mixture": False,
    "images": 192,
    "independence": 0.4292,
    "persistence": 2.33,
    "diversity": 0.9868,
    "is_corrected": False,
    "corrector": None,
}


class ExplanationResponse(BaseModel):
    """The reasons for the next answer of a stream; null where a strategy has no such number."""

    model_config = ConfigDict(frozen=True, from_attributes=True, json_schema_extra={"examples": [EXAMPLE]})

    words: str = Field(description="the same in a few sentences")
    request: FiniteFloat | None = Field(description="weight of an image's own statistics; the three sum up to 1")
    memory: FiniteFloat | None = Field(description="weight of what the stream remembers")
    trained: FiniteFloat | None = Field(description="weight of the trained statistics")
    averaged_images: FiniteFloat | None = Field(
        None, description="images that the stream's averages stand for, as a mean over the layers that adapt"
    )
    independent_images: FiniteFloat | None = Field(
        None, description="independent images that these count as where the weights are chosen"
    )
    changed_layers: FiniteFloat | None = Field(
        None, description="share of the adapting layers whose averages have dropped most older images"
    )
    change_alarm: bool | None = Field(
        None, description="whether these are more layers than chance lets go of: the images have changed"
    )
    is_mixture: bool | None = Field(
        None, description="whether images differ by more than their content explains, as where domains are mixed"
    )
    images: int | None = Field(description="answers that the evidence is of, at most 300")
    independence: FiniteFloat | None = Field(description="share of the images that count as independent")
    persistence: FiniteFloat | None = Field(description="images for one that shows something new")
    diversity: FiniteFloat | None = Field(description="of the predicted classes, from 0 to 1")
    is_corrected: bool | None = Field(description="whether a corrector changes the answers now")
    corrector: str | None = Field(None, description="the corrector that does")
