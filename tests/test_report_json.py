import json
import unicodedata
from importlib.resources import files
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from kmsdiag import bundle as bundles
from kmsdiag.model.report import Report
from kmsdiag.report import json as rendered
from tests.conftest import World
from tests.labruns import NAMES, NASTY, hostile_report, runs


def schema(kind: str) -> Any:
    return json.loads((files("kmsdiag") / "schemas" / f"{kind}.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["report", "bundle"])
def test_schemas_are_schemas(kind: str) -> None:
    found = schema(kind)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(found)


def test_packaged_schemas_are_the_generated_ones() -> None:
    for kind, text in rendered.schemas().items():
        assert (files("kmsdiag") / "schemas" / f"{kind}.schema.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_is_valid(name: str) -> None:
    run = runs()[name]
    jsonschema.validate(json.loads(rendered.render(run.report)), schema("report"))
    jsonschema.validate(json.loads(bundles.encode(run.bundle)), schema("bundle"))


def test_the_empty_report_is_valid() -> None:
    jsonschema.validate(json.loads(rendered.render(World().report())), schema("report"))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("report", {"verdict": {"state": "fine", "headline": ""}}),
        ("report", {"counts": None}),
        ("bundle", {"facts": [{"request": {"is": "smtp"}, "answer": {}}]}),
        ("bundle", {"target": {"tries": 0}}),
    ],
)
def test_the_schema_refuses_what_is_wrong(kind: str, change: dict[str, Any]) -> None:
    run = runs()["healthy"]
    text = rendered.render(run.report) if kind == "report" else bundles.encode(run.bundle)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**json.loads(text), **change}, schema(kind))


@pytest.mark.parametrize("name", NAMES)
def test_the_report_can_be_read_back(name: str) -> None:
    text = rendered.render(runs()[name].report)
    again = rendered.render(msgspec.json.decode(text, type=Report))
    assert json.loads(again) == json.loads(text)
    assert text.endswith("}\n")


def test_codes_args_and_text_are_all_there() -> None:
    data = json.loads(rendered.render(runs()["refused"].report))
    assert data["kmsdiag_report"] == 1
    (finding,) = (
        finding
        for result in data["results"]
        for finding in result["findings"]
        if finding["code"] == "tcp_reachable.refused"
    )
    assert finding["args"]["address"] == "10.1.0.8"
    assert finding["text"].startswith("kms1.contoso.example (10.1.0.8) refuses TCP 1688")
    assert finding["because"] == ["TCP 10.1.0.8:1688"]


def test_nothing_hostile_acts_and_nothing_is_lost() -> None:
    report = hostile_report()
    shown = rendered.render(report)
    for character in shown.replace("\n", ""):
        assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), repr(character)
    data = json.loads(shown)
    assert data["target"]["domains"] == [f"d{number}{text}.example" for number, text in enumerate(NASTY)]
    assert data["vantage"]["label"] == NASTY[1]
    jsonschema.validate(data, schema("report"))


@pytest.mark.parametrize("character", ["\x7f", "\x9b", "\u202e", "\U000e0041", "\n", '"', "\\", "é", "✔"])
def test_every_character_comes_back(character: str) -> None:
    report = msgspec.structs.replace(World().report(), tool=f"a{character}b")
    assert json.loads(rendered.render(report))["tool"] == f"a{character}b"
