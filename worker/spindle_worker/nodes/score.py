"""image.score: measures of a picture from its pixels, the same for the same pixels.

longest side brought to 512 pixels -> grey levels and colours -> four measures from 0 to 1 -> their weighted mean
"""

from typing import TYPE_CHECKING, Any

from PIL import Image as Pillow
from pydantic import BaseModel, ConfigDict

from spindle_common.problems import BadInput
from spindle_worker.node import Context, Field, Image, Inputs, Outputs, node
from spindle_worker.pictures import flat_rgb, read_picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Plane = NDArray[np.float64]

MAX_SIDE = 512
HALF_SHARP = 500.0
"""Variance of the Laplacian of 8-bit grey levels that counts as 0.5; a picture in focus has some hundreds."""
EXTREMELY_COLOURFUL = 109.0
"""Hasler and Süsstrunk's M of what their observers called extremely colourful (their table 2)."""
_LUMA = (0.299, 0.587, 0.114)
_DIGITS = 6


class Weights(BaseModel):
    """How much each measure counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sharpness: float = Field(0, ge=0, le=1000)
    contrast: float = Field(0, ge=0, le=1000)
    colour: float = Field(0, ge=0, le=1000)
    exposure: float = Field(0, ge=0, le=1000)


class ScoreInputs(Inputs):
    """A picture, and what counts."""

    image: Image = Field(description="The picture to measure.")
    weights: Weights = Field(
        Weights(sharpness=2, contrast=1, colour=1, exposure=1),
        description="How much each of sharpness, contrast, colour and exposure counts in `value`; one left out: 0.",
    )


class ScoreOutputs(Outputs):
    """Measures, each from 0 to 1."""

    value: float = Field(description="Weighted mean of sharpness, contrast, colour and exposure.")
    sharpness: float = Field(description="v / (v + 500), of the variance v of the Laplacian; noise is sharp too.")
    contrast: float = Field(description="Root mean square contrast, doubled: 1 is half black and half white.")
    colour: float = Field(description="Colourfulness after Hasler and Süsstrunk, 1 from 109 on; grey is 0.")
    brightness: float = Field(description="Mean luma; 0 is black, 1 is white.")
    exposure: float = Field(description="Nearness of brightness to the middle: 1 - |2 · brightness - 1|.")


@node("image.score@1", queue="cpu", title="Measure a picture", timeout="2m")
def score(inputs: ScoreInputs, ctx: Context) -> ScoreOutputs:
    """Measures sharpness, contrast, colour and brightness, and gives one number to compare pictures by.

    It looks at pixels only, not at what they show. Larger pictures are brought to 512 pixels at their longest side
    first, and transparency is laid over white.
    """
    weights = inputs.weights.model_dump()
    if not any(weights.values()):
        raise BadInput("All weights are 0: let one of sharpness, contrast, colour and exposure count")
    measures = measured(_reduced(flat_rgb(read_picture(ctx, inputs.image))))
    value = sum(weight * measures[name] for name, weight in weights.items()) / sum(weights.values())
    return ScoreOutputs(value=round(value, _DIGITS), **{name: round(one, _DIGITS) for name, one in measures.items()})


def _reduced(picture: Pillow.Image) -> Pillow.Image:
    """Bring a larger picture to the size at which all are measured; a smaller one gains nothing by growing."""
    factor = MAX_SIDE / max(picture.size)
    if factor >= 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Pillow.Resampling.LANCZOS, reducing_gap=3.0)


def measured(picture: Pillow.Image) -> dict[str, float]:
    """Measure an RGB picture: sharpness, contrast, colour, brightness, exposure, each from 0 to 1."""
    import numpy as np

    red, green, blue = np.moveaxis(np.asarray(picture, dtype=np.float64), -1, 0)
    grey = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    brightness = float(grey.mean()) / 255
    variance = float(_laplacian(grey).var())
    return {
        "sharpness": variance / (variance + HALF_SHARP),
        "contrast": min(1.0, 2 * float(grey.std()) / 255),
        "colour": min(1.0, _colourfulness(red, green, blue) / EXTREMELY_COLOURFUL),
        "brightness": brightness,
        "exposure": 1 - abs(2 * brightness - 1),
    }


def _laplacian(grey: "Plane") -> "Plane":
    """Second differences in both directions, the edges repeated. Its variance measures focus.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study", ICPR 2000.
    """
    import numpy as np

    wide = np.pad(grey, 1, mode="edge")
    around: Any = wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]
    laplacian: Plane = around - 4 * grey
    return laplacian


def _colourfulness(red: "Plane", green: "Plane", blue: "Plane") -> float:
    """M: how far colours spread, and lie, from grey, in 8-bit levels.

    Hasler and Süsstrunk, "Measuring colourfulness in natural images", SPIE 5007 (2003), section 5.
    """
    import numpy as np

    across, along = red - green, (red + green) / 2 - blue
    return float(np.hypot(across.std(), along.std()) + 0.3 * np.hypot(across.mean(), along.mean()))
