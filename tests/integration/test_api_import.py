"""Importing through the API: documents, pictures, options, refusals."""

import io
import json
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from support.comfyui import graph
from support.control import API, Control

IMPORT = f"{API}/workflows:import"


def png(**texts: str) -> bytes:
    info, out = PngInfo(), io.BytesIO()
    for keyword, text in texts.items():
        info.add_text(keyword, text, zip=True)
    Image.new("RGB", (4, 4)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


async def test_an_imported_graph_is_valid(staffed: Control) -> None:
    response = await staffed.http.post(IMPORT, json=graph())
    assert response.status_code == 200, response.text
    found = response.json()
    assert found["dialect"] == "comfyui"
    assert {note["code"] for note in found["notes"]} <= {"model-named"}
    valid = await staffed.http.post(f"{API}/workflows:validate", json=found["workflow"])
    assert valid.status_code == 200, valid.text


async def test_a_picture_is_read(staffed: Control) -> None:
    headers = {"Content-Type": "image/png"}
    text = json.dumps(graph()).replace('"inputs"', '"is_changed": [NaN], "inputs"')
    kept = await staffed.http.post(IMPORT, content=png(prompt=text, workflow="{}"), headers=headers)
    assert kept.json()["workflow"] == (await staffed.http.post(IMPORT, json=graph())).json()["workflow"]
    editors = await staffed.http.post(IMPORT, content=png(workflow="{}"), headers=headers)
    assert (editors.status_code, editors.json()["errors"][0]["code"]) == (422, "ui-format")
    nothing = await staffed.http.post(IMPORT, content=png(), headers=headers)
    assert (nothing.status_code, nothing.json()["errors"][0]["code"]) == (422, "no-output")
    bomb = await staffed.http.post(IMPORT, content=png(prompt=" " * 20_000_000), headers=headers)
    assert (bomb.status_code, "larger than" in bomb.json()["detail"]) == (400, True)
    for broken in (b"", b"no picture", png(prompt="{")[:-30], png(prompt="{"), png(prompt="[" * 100_000)):
        assert (await staffed.http.post(IMPORT, content=broken, headers=headers)).status_code in {400, 422}


async def test_options_stand_around_the_document(staffed: Control) -> None:
    mapped = {"document": graph(), "dialect": "comfyui", "models": {"tiny.safetensors": "tiny"}}
    assert (await staffed.http.post(IMPORT, json=mapped)).json()["notes"] == []
    mistaken: list[dict[str, Any]] = [{"dialect": "basic"}, {"models": {"a": 1}}, {"models": []}, {"services": 7}]
    for wrong in mistaken:
        refused = await staffed.http.post(IMPORT, json={"document": graph(), **wrong})
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["pointer"] == "/" + next(iter(wrong))


async def test_what_is_in_the_way_is_told_at_once(staffed: Control) -> None:
    unknown = {"class_type": "Nobody's", "inputs": {}}
    changes: dict[str, Any] = {"2": unknown, "3": unknown | {"class_type": "ControlNetLoader"}}
    refused = await staffed.http.post(IMPORT, json={"prompt": graph(**changes)})
    assert refused.status_code == 422
    assert refused.headers["Content-Type"] == "application/problem+json"
    errors = [(each["pointer"], each["code"]) for each in refused.json()["errors"] if each["severity"] == "error"]
    assert errors == [("/prompt/2/class_type", "unknown-class"), ("/prompt/3/class_type", "not-yet")]
