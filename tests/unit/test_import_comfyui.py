"""ComfyUI's workflows, written for these tests, and what becomes of them."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import check
from spindle_control.importers import Imported, Options, import_document
from spindle_control.importers.comfyui import tables
from spindle_control.importers.comfyui.classes import CLASSES, NOT_YET
from spindle_control.importers.comfyui.translate import HANDLERS
from spindle_worker.diffusion import SCHEDULER_NAMES
from support.offered import offered

Json = dict[str, Any]
CATALOG = offered("tiny")


def node(class_type: str, title: str = "", /, **inputs: Any) -> Json:
    found: Json = {"class_type": class_type, "inputs": inputs}
    return found | ({"_meta": {"title": title}} if title else {})


def sampler(**changes: Any) -> Json:
    usual = {"seed": 5, "steps": 8, "cfg": 6.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0]}
    return node("KSampler", **(usual | links | changes))


def plain(**changes: Any) -> Json:
    """Text to picture; `changes` replace nodes by id (`n5` is node 5), None takes one out."""
    document: Json = {
        "1": node("CheckpointLoaderSimple", ckpt_name="tiny.safetensors"),
        "2": node("CLIPTextEncode", text="a red (circle:1.2)", clip=["1", 1]),
        "3": node("CLIPTextEncode", text="blurred", clip=["1", 1]),
        "4": node("EmptyLatentImage", width=64, height=96, batch_size=1),
        "5": sampler(),
        "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
        "7": node("SaveImage", images=["6", 0], filename_prefix="sub/round"),
    }
    document |= {id_.removeprefix("n"): body for id_, body in changes.items()}
    return {id_: body for id_, body in document.items() if body is not None}


def imported(document: object, **options: Any) -> Imported:
    found = import_document(document, options=Options(**options), catalog=CATALOG)
    check(found.workflow, CATALOG)
    return found


def refused(document: object) -> list[tuple[str, str]]:
    with pytest.raises(InvalidWorkflow) as problem:
        import_document(document, catalog=CATALOG)
    return [(each.pointer, each.code) for each in problem.value.errors if each.severity == "error"]


def notes(found: Imported) -> set[tuple[str, str]]:
    return {(note.pointer, note.code) for note in found.notes}


def test_the_plain_workflow_becomes_this() -> None:
    workflow = imported(plain()).workflow
    assert workflow["nodes"] == {
        "clip_text_encode": {
            "type": "text.encode@1",
            "inputs": {"prompt": {"$from": "inputs.prompt"}, "model": {"$from": "inputs.model"}, "syntax": "weights"},
        },
        "clip_text_encode_2": {
            "type": "text.encode@1",
            "inputs": {
                "prompt": {"$from": "inputs.negative_prompt"},
                "model": {"$from": "inputs.model"},
                "syntax": "weights",
            },
        },
        "k_sampler": {
            "type": "image.sample@1",
            "inputs": {
                "model": {"$from": "inputs.model"},
                "conditioning": {"$from": "clip_text_encode.conditioning"},
                "negative": {"$from": "clip_text_encode_2.conditioning"},
                "width": 64,
                "height": 96,
                "steps": 8,
                "guidance": 6.5,
                "scheduler": "euler",
                "spacing": "linspace",
                "seed": {"$from": "inputs.seed"},
            },
        },
        "vae_decode": {"type": "image.decode@1", "inputs": {"latents": {"$from": "k_sampler.latents"}}},
        "save_image": {"type": "image.save@1", "inputs": {"image": {"$from": "vae_decode.image"}}},
    }
    assert workflow["outputs"] == {"round": {"$from": "save_image.image"}}
    defaults = {name: spec["default"] for name, spec in workflow["inputs"].items()}
    assert defaults == {"prompt": "a red (circle:1.2)", "negative_prompt": "blurred", "seed": 5, "model": "tiny"}


def test_wrapped_documents_point_into_the_wrapper() -> None:
    assert imported({"prompt": plain(), "client_id": "x"}).workflow == imported(plain()).workflow
    assert refused({"prompt": plain(n5=node("Nothing")), "client_id": "x"})[0][0] == "/prompt/5/class_type"


def test_ids_come_from_titles_and_are_unique() -> None:
    titled = plain(n2=node("CLIPTextEncode", "What I want!", text="a", clip=["1", 1]))
    assert "what_i_want" in imported(titled).workflow["nodes"]
    reserved = plain(n6=node("VAEDecode", "Index", samples=["5", 0], vae=["1", 2]))
    assert "index_1" in imported(reserved).workflow["nodes"]
    odd = plain(n6=node("VAEDecode", "解码 12:4", samples=["5", 0], vae=["1", 2]))
    assert "node_12_4" in imported(odd).workflow["nodes"]


def test_models_by_mapping_or_by_the_files_name() -> None:
    file = "SD XL\\v1 (best).safetensors"
    document = plain(n1=node("CheckpointLoaderSimple", ckpt_name=file))
    found = imported(document)
    assert found.workflow["inputs"]["model"]["default"] == "v1-best"
    assert {("/1/inputs/ckpt_name", "model-named"), ("/1/inputs/ckpt_name", "unknown-model")} <= notes(found)
    mapped = imported(document, models={file: "tiny"})
    assert mapped.workflow["inputs"]["model"]["default"] == "tiny"
    assert notes(mapped) == set()


@pytest.mark.parametrize(("denoise", "steps", "first"), [(1, 8, None), (0.5, 16, 8), (0.6, 13, 5), (0.99995, 8, None)])
def test_denoise_is_the_last_steps_of_more(denoise: float, steps: int, first: int | None) -> None:
    changes = {
        "n4": node("VAEEncode", pixels=["8", 0], vae=["1", 2]),
        "n5": sampler(denoise=denoise),
        "n8": node("LoadImage", image="in/photo.png", upload="image"),
    }
    found = imported(plain(**changes))
    inputs = found.workflow["nodes"]["k_sampler"]["inputs"]
    assert inputs["steps"] == steps
    assert inputs.get("first_step") == first
    assert inputs["latents"] == {"$from": "vae_encode.latents"}
    assert "photo.png" in found.workflow["inputs"]["image"]["description"]
    assert found.workflow["inputs"]["image"]["artifact"] == "image/*"
    assert "default" not in found.workflow["inputs"]["image"]
    assert ("/8/inputs/upload", "ignored") in notes(found)


def test_denoising_nothing_gives_what_it_gets() -> None:
    changes = {
        "n4": node("VAEEncode", pixels=["8", 0], vae=["1", 2]),
        "n5": sampler(denoise=0),
        "n8": node("LoadImage", image="a.png"),
    }
    found = imported(plain(**changes))
    assert found.workflow["nodes"]["vae_decode"]["inputs"] == {"latents": {"$from": "vae_encode.latents"}}


def test_two_samplers_share_the_steps() -> None:
    common = {"steps": 10, "cfg": 4, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["3", 0]}
    first = {"start_at_step": 0, "end_at_step": 6, "add_noise": "enable", "return_with_leftover_noise": "enable"}
    second = {"start_at_step": 6, "end_at_step": 10000, "add_noise": "disable", "return_with_leftover_noise": "disable"}
    changes = {
        "n5": node("KSamplerAdvanced", noise_seed=3, latent_image=["4", 0], **common, **links, **first),
        "n8": node("KSamplerAdvanced", noise_seed=0, latent_image=["5", 0], **common, **links, **second),
        "n6": node("VAEDecode", samples=["8", 0], vae=["1", 2]),
    }
    nodes = imported(plain(**changes)).workflow["nodes"]
    one, two = nodes["k_sampler_advanced"]["inputs"], nodes["k_sampler_advanced_2"]["inputs"]
    assert (one["last_step"], one["leftover_noise"], one["seed"]) == (6, True, {"$from": "inputs.seed"})
    assert "first_step" not in one
    assert "add_noise" not in one
    assert (two["first_step"], two["add_noise"], two["seed"]) == (6, False, 0)
    assert "last_step" not in two
    assert (two["scheduler"], two["spacing"]) == ("dpmpp_2m", "karras")


def test_a_batch_is_written_out() -> None:
    found = imported(plain(n4=node("EmptyLatentImage", width=64, height=64, batch_size=3)))
    samplers = [each["inputs"] for each in found.workflow["nodes"].values() if each["type"] == "image.sample@1"]
    assert [each.get("noise_index") for each in samplers] == [None, 1, 2]
    assert {json.dumps(each["seed"]) for each in samplers} == {'{"$from": "inputs.seed"}'}
    assert len(found.workflow["outputs"]["round"]) == 3


def test_adapters_over_both_parts_make_one_recipe() -> None:
    loras = {
        "n8": node(
            "LoraLoader",
            lora_name="a.safetensors",
            strength_model=0.8,
            strength_clip=0.5,
            model=["1", 0],
            clip=["1", 1],
        ),
        "n9": node("LoraLoaderModelOnly", lora_name="b.safetensors", strength_model=0.25, model=["8", 0]),
        "n2": node("CLIPTextEncode", text="a", clip=["8", 1]),
        "n3": node("CLIPTextEncode", text="b", clip=["8", 1]),
        "n5": sampler(model=["9", 0]),
    }
    nodes = imported(plain(**loras)).workflow["nodes"]
    assert nodes["model"] == {
        "type": "model.load@1",
        "inputs": {
            "model": {"$from": "inputs.model"},
            "adapters": [
                {"adapter": "a", "weight": 0.8, "text_weight": 0.5},
                {"adapter": "b", "weight": 0.25, "text_weight": 0.0},
            ],
        },
    }
    users = [each["inputs"]["model"] for id_, each in nodes.items() if id_ != "model" and "model" in each["inputs"]]
    assert users == [{"$from": "model.model"}] * 3


def test_two_chains_of_adapters_make_two_recipes() -> None:
    lora = {"lora_name": "a.safetensors", "strength_clip": 0, "model": ["1", 0], "clip": ["1", 1]}
    changes = {
        "n8": node("LoraLoader", strength_model=0.8, **lora),
        "n9": node("LoraLoader", strength_model=0.4, **lora),
        "n5": sampler(model=["8", 0]),
        "n10": sampler(model=["9", 0]),
        "n11": node("VAEDecode", samples=["10", 0], vae=["1", 2]),
        "n12": node("PreviewImage", images=["11", 0]),
    }
    nodes = imported(plain(**changes)).workflow["nodes"]
    weights = [each["inputs"]["adapters"][0]["weight"] for each in nodes.values() if each["type"] == "model.load@1"]
    assert weights == [0.8, 0.4]
    assert nodes["clip_text_encode"]["inputs"]["model"] == {"$from": "inputs.model"}


def test_inpainting() -> None:
    changes = {
        "n4": node("VAEEncodeForInpaint", pixels=["8", 0], vae=["1", 2], mask=["8", 1], grow_mask_by=4),
        "n8": node("LoadImage", "The photo", image="hole.png"),
    }
    nodes = imported(plain(**changes)).workflow["nodes"]
    assert nodes["the_photo_mask"]["inputs"] == {"image": {"$from": "inputs.the_photo"}, "channel": "alpha"}
    encoded = nodes["vae_encode_for_inpaint"]["inputs"]
    assert encoded["mask"] == {"$from": "the_photo_mask.mask"}
    assert encoded["grow_mask"] == 4


def test_what_is_done_to_prompts() -> None:
    changes = {
        "n2": node("CLIPTextEncode", "Wanted", text="a", clip=["8", 0]),
        "n8": node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["1", 1]),
        "n9": node("ConditioningCombine", conditioning_1=["2", 0], conditioning_2=["3", 0]),
        "n10": node("ConditioningZeroOut", conditioning=["2", 0]),
        "n11": node("FluxGuidance", guidance=2.5, conditioning=["9", 0]),
        "n5": sampler(positive=["11", 0], negative=["10", 0]),
    }
    nodes = imported(plain(**changes)).workflow["nodes"]
    assert nodes["wanted"]["inputs"]["layer"] == -2
    assert nodes["k_sampler"]["inputs"]["conditioning"] == {"$from": "flux_guidance.conditioning"}
    assert nodes["k_sampler"]["inputs"]["negative"] == {"$from": "conditioning_zero_out.conditioning"}
    assert nodes["flux_guidance"]["inputs"]["guidance"] == 2.5
    assert nodes["conditioning_combine"]["inputs"]["other"] == {"$from": "clip_text_encode.conditioning"}


def test_resizing_latents_and_pictures() -> None:
    up = {"upscale_method": "nearest-exact", "width": 128, "height": 0, "crop": "disabled"}
    image = {"upscale_method": "lanczos", "width": 50, "height": 60, "crop": "center"}
    changes = {
        "n8": node("LatentUpscale", samples=["5", 0], **up),
        "n9": node("VAEDecode", samples=["8", 0], vae=["1", 2]),
        "n10": node("ImageScale", image=["9", 0], **image),
        "n11": node("ImageScaleBy", image=["10", 0], upscale_method="area", scale_by=2),
        "n12": node("PreviewImage", images=["11", 0]),
    }
    nodes = imported(plain(**changes)).workflow["nodes"]
    assert nodes["latent_upscale"]["inputs"] == {
        "latents": {"$from": "k_sampler.latents"},
        "method": "nearest",
        "width": 128,
    }
    assert nodes["image_scale"]["inputs"] | {"image": 0} == {
        "image": 0,
        "method": "lanczos",
        "width": 50,
        "height": 60,
        "fit": "cover",
    }
    assert nodes["image_scale_by"]["inputs"]["scale"] == 2
    assert refused(
        plain(
            n8=node("LatentUpscale", samples=["5", 0], **(up | {"upscale_method": "bislerp"})),
            n9=node("VAEDecode", samples=["8", 0], vae=["1", 2]),
            n12=node("PreviewImage", images=["9", 0]),
        )
    ) == [("/8/inputs/upscale_method", "not-yet")]


def flux(**changes: Any) -> Json:
    parts = {
        "n1": node("UNETLoader", unet_name="flux1-dev.sft", weight_dtype="default"),
        "n8": node("DualCLIPLoader", clip_name1="t5.safetensors", clip_name2="l.safetensors", type="flux"),
        "n9": node("VAELoader", vae_name="ae.safetensors"),
        "n2": node("CLIPTextEncode", text="a", clip=["8", 0]),
        "n3": node("CLIPTextEncode", text="", clip=["8", 0]),
        "n4": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
        "n5": sampler(cfg=1, scheduler="simple"),
        "n6": node("VAEDecode", samples=["5", 0], vae=["9", 0]),
    }
    return plain(**(parts | changes))


def test_parts_from_files_of_their_own_are_the_models() -> None:
    found = imported(flux(), models={"flux1-dev.sft": "tiny"})
    assert {("/8/inputs/clip_name1", "assumed"), ("/9/inputs/vae_name", "assumed")} <= notes(found)
    nodes = found.workflow["nodes"]
    assert nodes["vae_decode"]["inputs"] == {"latents": {"$from": "k_sampler.latents"}}
    assert [name for name in found.workflow["inputs"] if name.startswith("model")] == ["model"]
    # ComfyUI tells a distilled model 3.5 where the workflow does not
    assert nodes["k_sampler_guidance"]["inputs"]["guidance"] == 3.5
    assert nodes["k_sampler"]["inputs"]["conditioning"] == {"$from": "k_sampler_guidance.conditioning"}


def test_a_vae_beside_a_checkpoint_is_a_model_of_its_own() -> None:
    changes = {"n8": node("VAELoader", vae_name="mse.pt"), "n6": node("VAEDecode", samples=["5", 0], vae=["8", 0])}
    found = imported(plain(**changes))
    assert found.workflow["nodes"]["vae_decode"]["inputs"]["vae"] == {"$from": "inputs.model_2"}
    assert found.workflow["inputs"]["model_2"]["default"] == "mse"


def test_custom_sampling() -> None:
    changes = {
        "n10": node("RandomNoise", noise_seed=11),
        "n11": node("BasicGuider", model=["1", 0], conditioning=["2", 0]),
        "n12": node("KSamplerSelect", sampler_name="euler"),
        "n13": node("BasicScheduler", scheduler="simple", steps=4, denoise=0.5, model=["1", 0]),
        "n5": node(
            "SamplerCustomAdvanced",
            noise=["10", 0],
            guider=["11", 0],
            sampler=["12", 0],
            sigmas=["13", 0],
            latent_image=["4", 0],
        ),
        "n3": None,
    }
    found = imported(flux(**changes))
    inputs = found.workflow["nodes"]["sampler_custom_advanced"]["inputs"]
    assert (inputs["steps"], inputs["first_step"], inputs["guidance"]) == (8, 4, 1.0)
    assert found.workflow["inputs"]["seed"]["default"] == 11


@pytest.mark.parametrize(("seed", "default"), [(2**53 - 1, 2**53 - 1), (2**53 + 7, 7), ("12", 12)])
def test_seeds(seed: object, default: int) -> None:
    found = imported(plain(n5=sampler(seed=seed)))
    assert found.workflow["inputs"]["seed"]["default"] == default
    assert (("/5/inputs/seed", "seed-reduced") in notes(found)) == (seed == 2**53 + 7)


def test_seeds_below_nothing_are_drawn() -> None:
    spec = imported(plain(n5=sampler(seed=-1))).workflow["inputs"]["seed"]
    assert spec["optional"] is True
    assert "default" not in spec


def test_what_leads_to_no_output_is_left_out() -> None:
    found = imported(
        plain(
            n8=node("LoadImage", image="x.png"),
            n9=node("NobodyKnows", image=["8", 0]),
            n10=node("InvertMask", mask=["9", 0]),
        )
    )
    assert {("/8", "left-out"), ("/9", "left-out"), ("/10", "left-out")} <= notes(found)
    assert "image" not in found.workflow["inputs"]


def test_a_class_that_nobody_knows_at_an_end_may_be_an_output() -> None:
    assert refused(plain(n8=node("SendSomewhere", images=["6", 0]))) == [("/8/class_type", "unknown-class")]


def test_everything_is_told_at_once() -> None:
    document = plain(
        n2=node("Mystery/1~", text="a"),
        n3=node("CLIPTextEncode", text="b"),
        n4=node("EmptyLatentImage", width="wide", height=64, batch_size=1),
        n5=sampler(sampler_name="dpm_fast", scheduler="beta", steps=0),
        n8=node("ControlNetLoader", control_net_name="x"),
        n9=node("ControlNetApply", control_net=["8", 0]),
    )
    assert sorted(refused(document)) == [
        ("/2/class_type", "unknown-class"),
        ("/3", "missing-input"),
        ("/4/inputs/width", "bad-literal"),
        ("/5/inputs/sampler_name", "no-equivalent"),
        ("/5/inputs/scheduler", "no-equivalent"),
        ("/5/inputs/steps", "bad-literal"),
        ("/8/class_type", "not-yet"),
        ("/9/class_type", "not-yet"),
    ]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, ("", "unknown-dialect")),
        ([], ("", "unknown-dialect")),
        (None, ("", "unknown-dialect")),
        ({"nodes": [], "links": [], "last_node_id": 3}, ("", "ui-format")),
        ({"prompt": {"nodes": [], "links": [], "x": {"class_type": "a"}}}, ("/prompt", "ui-format")),
        (plain(n7=None), ("", "no-output")),
        (plain(extra={"a": 1}), ("/extra", "missing-key")),
        (plain(extra=3), ("/extra", "wrong-type")),
        (plain(n5=sampler(model=["77", 0])), ("/5/inputs/model", "bad-link")),
        (plain(n5=sampler(model=["1", 5])), ("/5/inputs/model", "bad-link")),
        (plain(n5=sampler(model=["1", 1])), ("/5/inputs/model", "type-mismatch")),
        (plain(n5=sampler(model="tiny")), ("/5/inputs/model", "type-mismatch")),
        (plain(n5=sampler(latent_image=["6", 0])), ("/5", "cycle")),
        (
            plain(n5=sampler(sampler_name="euler_ancestral", scheduler="karras")),
            ("/5/inputs/scheduler", "no-equivalent"),
        ),
        (plain(n4=node("EmptyLatentImage", width=64, height=64, batch_size=65)), ("/4/inputs/batch_size", "too-large")),
        (plain(n4=node("EmptyLatentImage", width=4096, height=64)), ("/5/inputs/latent_image", "bad-literal")),
        (plain(n5=sampler(steps=5000)), ("/5/inputs/steps", "bad-literal")),
        (plain(n5=sampler(cfg=float("nan"))), ("/5/inputs/cfg", "bad-literal")),
        (plain(n2=node("CLIPTextEncode", text="embedding:bad", clip=["1", 1])), ("/2/inputs/text", "not-yet")),
    ],
)
def test_refusals_point_at_what_is_wrong(document: object, expected: tuple[str, str]) -> None:
    assert expected in refused(document)


def test_the_clip_of_two_models_is_nobodys() -> None:
    second = {"n10": node("UNETLoader", unet_name="other.sft"), "n11": sampler(model=["10", 0])}
    second |= {"n12": node("VAEDecode", samples=["11", 0], vae=["9", 0]), "n13": node("PreviewImage", images=["12", 0])}
    assert ("/8/inputs/clip_name1", "ambiguous-model") in refused(flux(**second))


def test_values_from_primitive_nodes() -> None:
    changes = {
        "n8": node("PrimitiveString", value="from afar"),
        "n9": node("PrimitiveInt", value=13),
        "n2": node("CLIPTextEncode", text=["8", 0], clip=["1", 1]),
        "n5": sampler(steps=["9", 0]),
    }
    found = imported(plain(**changes))
    assert found.workflow["inputs"]["prompt"]["default"] == "from afar"
    assert found.workflow["nodes"]["k_sampler"]["inputs"]["steps"] == 13


def test_every_class_has_a_translation_and_none_is_refused_too() -> None:
    assert set(HANDLERS) == set(CLASSES)
    assert not set(NOT_YET) & set(CLASSES)
    for spec in CLASSES.values():
        assert all(spec.outputs) or spec.is_output


def test_every_sampler_of_the_table_is_one_of_ours() -> None:
    assert set(tables.SAMPLERS.values()) <= set(SCHEDULER_NAMES)
    assert not set(tables.REFUSED_SAMPLERS) & set(tables.SAMPLERS)
    assert not set(tables.REFUSED_SPACINGS) & set(tables.SPACINGS)


@pytest.mark.parametrize("name", list(tables.SAMPLERS))
@pytest.mark.parametrize("scheduler", list(tables.SPACINGS))
def test_each_pair_is_translated_or_refused(name: str, scheduler: str) -> None:
    document = plain(n5=sampler(sampler_name=name, scheduler=scheduler))
    if tables.knows(tables.SAMPLERS[name], tables.SPACINGS[scheduler]):
        imported(document)
    else:
        assert refused(document) == [("/5/inputs/scheduler", "no-equivalent")]


def test_a_large_document_takes_little_time() -> None:
    document: Json = {"1": node("LoadImage", image="a.png")}
    for at in range(2, 1998):
        document[str(at)] = node("ImageScaleBy", image=[str(at - 1), 0], upscale_method="area", scale_by=1)
    document["end"] = node("PreviewImage", images=["1997", 0])
    assert len(imported(document).workflow["nodes"]) == 1996
    assert (
        refused(document | {str(at): node("PreviewImage", images=["1", 0]) for at in range(5000, 5010)})[0][1]
        == "too-large"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
LINKS = st.tuples(st.sampled_from([str(at) for at in range(1, 9)]), st.integers(-1, 3)).map(list)
NODES = st.sampled_from(sorted(CLASSES)).flatmap(
    lambda name: st.fixed_dictionaries(
        {"class_type": st.just(name)},
        optional={
            "inputs": st.fixed_dictionaries({}, optional=dict.fromkeys(CLASSES[name].inputs, LINKS | JSON)),
            "_meta": JSON,
        },
    )
)


@settings(max_examples=300, deadline=1000, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from([str(at) for at in range(1, 9)]), NODES | JSON, max_size=8) | JSON)
@example({"1": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}})
def test_any_json_becomes_a_workflow_or_a_problem(document: Any) -> None:
    found = None
    with suppress(InvalidWorkflow):
        found = import_document(document, catalog=CATALOG)
    if found is not None:
        check(found.workflow, CATALOG)


@settings(max_examples=200, deadline=1000, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_one_changed_value_never_breaks_the_importer(data: st.DataObject) -> None:
    document = json.loads(json.dumps(flux() if data.draw(st.booleans()) else plain()))
    id_ = data.draw(st.sampled_from(sorted(document)))
    inputs = document[id_]["inputs"]
    inputs[data.draw(st.sampled_from(sorted(inputs)))] = data.draw(LINKS | JSON)
    found = None
    with suppress(InvalidWorkflow):
        found = import_document(document, catalog=CATALOG)
    if found is not None:
        check(found.workflow, CATALOG)
