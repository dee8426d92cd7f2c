"""The health of a run in lines and in a page: the same sentences, the same numbers."""

from __future__ import annotations

from xml.etree import ElementTree

from softbellman.report.health import health_lines, health_section
from softbellman.training import Diagnosis
from softbellman.training.diagnosis import Finding


def test_lines_and_section_say_the_same() -> None:
    finding = Finding("entropy runaway", "the entropy ran away <to> 4.50 nats", "lower credit.tau", 100)
    health = [
        Diagnosis("actor", 50, (), {"bleu": 31.2, "length_ratio": 0.98}),
        Diagnosis("joint", 200, (finding,), {"bleu": 28.0, "entropy": 4.5}, selected=60),
    ]
    lines = list(health_lines(health))
    assert lines[0] == "health of actor: normal: BLEU 31.20, length ratio 0.98"
    assert lines[1].startswith(
        "health of joint: broken: the entropy ran away <to> 4.50 nats; lower credit.tau; the selected"
    )
    table = [line.split() for line in lines[3].splitlines()]
    assert table[0] == ["measure", "actor", "joint", "unit"]
    assert [row[:3] for row in table[2:]] == [
        ["bleu", "31.200", "28.000"], ["length_ratio", "0.980", "-"], ["entropy", "-", "4.500"],
    ]  # fmt: skip
    tree = ElementTree.fromstring(f"<div>{health_section(health)}</div>")
    said = ["".join(item.itertext()) for item in tree.iter("li")]
    assert said == [f"{one.stage}: {one.sentence()}" for one in health]
    assert [item.get("class") for item in tree.iter("li")] == ["normal", "broken"]
    cells = [[cell.text for cell in row] for row in tree.iterfind(".//tbody/tr")]
    assert cells[0] == ["bleu", "31.200", "28.000", "BLEU, 0 to 100"] and cells[2][2] == "4.500"
    empty = ElementTree.fromstring(health_section([Diagnosis("warmup", 1, (), {})]))
    assert (
        empty.tag == "ul"
        and "".join(empty.itertext()) == "warmup: normal: no sign of trouble in what was measured"
    )
