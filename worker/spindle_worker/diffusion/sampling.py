"""From a request to latents or a picture, whoever owns the loop."""

from dataclasses import replace

from PIL import Image

from spindle_common.problems import BadInput
from spindle_worker.diffusion.codec import decode_latents, encode_picture, latent_space
from spindle_worker.diffusion.foreign import run_pipeline, run_pipeline_latents
from spindle_worker.diffusion.loop import DenoiseState, begin, finished_latents, new_generator, tick
from spindle_worker.diffusion.preview import Previews
from spindle_worker.diffusion.requests import LatentBatch, Request, Watch
from spindle_worker.models.loading import LoadedModel


def sample(model: LoadedModel, request: Request, watch: Watch) -> LatentBatch:
    """Make latents. Raises BadInput; Cancelled between steps."""
    check_size(model, request)
    if model.layout == "pipeline":
        return run_pipeline_latents(model, request, watch)
    return _finish(model, request, begin(model, request), watch)


def generate(model: LoadedModel, request: Request, watch: Watch) -> Image.Image:
    """Make a picture. Raises BadInput, NodeFailed; Cancelled between steps."""
    check_size(model, request)
    if model.layout == "pipeline":
        return run_pipeline(model, request, watch)
    return decode_latents(model, _finish(model, request, begin(model, request), watch))


def edit(model: LoadedModel, request: Request, picture: Image.Image, watch: Watch) -> Image.Image:
    """Make a picture out of an RGB one of the request's size. Raises as `generate`."""
    check_size(model, request)
    if model.layout == "pipeline":
        return run_pipeline(model, request, watch, picture)
    generator = new_generator(request.seed)
    start = encode_picture(model, picture, generator)
    state = begin(model, _starting_from(request, start), generator)
    return decode_latents(model, _finish(model, request, state, watch))


def check_size(model: LoadedModel, request: Request) -> None:
    """Refuse sizes that do not come out even in latent cells."""
    for name, pixels in (("width", request.width), ("height", request.height)):
        if pixels % model.scale:
            raise BadInput(f"For this model the {name} must be a multiple of {model.scale}, not {pixels}")


def _finish(model: LoadedModel, request: Request, state: DenoiseState, watch: Watch) -> LatentBatch:
    with Previews(model, request, watch) as previews:
        while not state.finished:
            show = previews.wanted()
            tick(model, [state], clean=show)
            watch.progress(state.steps_done, state.steps)
            if show and state.clean is not None and not state.finished:
                previews.offer(state.clean)
    made = finished_latents(state, request)
    return LatentBatch(model.recipe, made, request.width, request.height, space=latent_space(model))


def _starting_from(request: Request, start: LatentBatch) -> Request:
    return replace(request, start=start)
