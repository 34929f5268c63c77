"""The manifest of published weights: its form, and that nothing in it leads astray."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from firstframe.errors import WeightsError
from firstframe.weights import LAYOUTS
from firstframe.weights.hub.hints import how_to_get
from firstframe.weights.hub.manifest import FOLDER, bundles, named, published, weight_set

FILES = sorted(file for file in FOLDER.glob("*.json") if file.name != "schema.json")
SCHEMA = json.loads((FOLDER / "schema.json").read_text("utf-8"))
STOCK_NODES = {
    "CheckpointLoaderSimple",
    "VAELoader",
    "LoraLoaderModelOnly",
    "CLIPVisionLoader",
    "UNETLoader",
    "CLIPLoader",
}
STOCK_NODES |= {"ControlNetLoader"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_entry(file: Path) -> None:
    entry = json.loads(file.read_text("utf-8"))
    jsonschema.validate(entry, SCHEMA)
    assert entry["id"] == file.stem
    assert entry["layout"] is None or entry["layout"] in {layout.name for layout in LAYOUTS}
    assert entry["node"] is None or entry["node"] in STOCK_NODES | our_nodes()


def our_nodes() -> set[str]:
    """Ids of the nodes of this pack that the host tests hold to."""
    frozen = Path(__file__).parents[2] / "host" / "object_info.json"
    return set(json.loads(frozen.read_text("utf-8")))


@pytest.mark.parametrize(
    ("field", "value"),
    [("file", "../../evil.safetensors"), ("file", "/etc/x.bin"), ("file", "a/b.bin"), ("folder", ".."), ("id", "../x")],
)
def test_nothing_leads_out_of_its_folder(field: str, value: str) -> None:
    entry = json.loads(FILES[0].read_text("utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**entry, field: value}, SCHEMA)
    with pytest.raises(WeightsError, match="plain name"):
        replace(weight_set(FILES[0].stem), **{field: value})


def test_no_path_in_a_source_leaves_its_folder() -> None:
    entry = json.loads(FILES[0].read_text("utf-8"))
    for path in ("../x.bin", "/x.bin", "a/../../x.bin"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**entry, "sources": [{**entry["sources"][0], "path": path}]}, SCHEMA)


def test_files_and_ids_are_unique() -> None:
    entries = published()
    assert len({entry.id for entry in entries}) == len(entries) == len(FILES)
    assert len({(entry.folder, entry.file) for entry in entries}) == len(entries)


def test_an_unknown_id_names_those_that_there_are() -> None:
    assert weight_set("animatediff-v3").file == "v3_sd15_mm.ckpt"
    with pytest.raises(WeightsError, match=r"animatediff-v4.*animatediff-v3"):
        weight_set("animatediff-v4")


@pytest.mark.parametrize(
    ("bundle", "workflow"),
    [("official", "i2v_adapter_official"), ("community", "community_models"), ("sdxl", "sdxl")],
)
def test_a_bundle_is_what_a_workflow_needs(bundle: str, workflow: str) -> None:
    graph = (FOLDER.parent / "workflows" / "api" / f"{workflow}.json").read_text("utf-8")
    assert bundles()[bundle] == [entry for entry in published() if f'"{entry.file}"' in graph]


def test_names_of_files_and_bundles_go_together() -> None:
    entries = named(["sd15-fp16", "community", "animatediff-v3"])
    assert [entry.id for entry in entries] == ["sd15-fp16", "i2v-adapter", "i2v-adapter-base", "animatediff-v3"]
    assert not bundles().keys() & {entry.id for entry in published()}
    with pytest.raises(WeightsError, match=r"officail.*official"):
        named(["officail"])


def test_a_bundle_that_the_schema_does_not_know() -> None:
    entry = json.loads(FILES[0].read_text("utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**entry, "bundles": ["../x"]}, SCHEMA)


def test_what_is_told_of_a_missing_file() -> None:
    told = how_to_get("animatediff_models", "mm_sd_v15_v2.ckpt")
    assert "models/animatediff_models has no mm_sd_v15_v2.ckpt" in told and "weights fetch animatediff-v2" in told
    told = how_to_get("animatediff_models", "my_own.ckpt")
    assert "my_own.ckpt" in told and "v3_sd15_mm.ckpt (animatediff-v3)" in told


def test_the_editors_download_buttons_are_those_of_the_manifest() -> None:
    """The loaders of the workflow for SDXL tell the editor where their files are."""
    graph = json.loads((FOLDER.parent / "workflows" / "Real images with SDXL.json").read_text("utf-8"))
    told = [model for node in graph["nodes"] for model in node["properties"].get("models", ())]
    assert {model["name"] for model in told} == {entry.file for entry in bundles()["sdxl"]}
    for entry in bundles()["sdxl"]:
        (model,) = [model for model in told if model["name"] == entry.file]
        source = entry.sources[0]
        assert model["url"] == f"https://huggingface.co/{source.repo}/resolve/{source.revision}/{source.path}"
        assert (model["directory"], model["hash"], model["hash_type"]) == (entry.folder, entry.sha256, "SHA256")
