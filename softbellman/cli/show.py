"""`softbellman show RUN`: what a run was made of, how far it is, what happened to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softbellman.cli.common import Parser

if TYPE_CHECKING:
    from softbellman.training.diagnosis import Diagnosis
    from softbellman.training.record import RunRecord
    from softbellman.training.runfolder import RunFolder

DESCRIPTION = """\
Prints the record of a run: how far its stages are, versions, machine and data. Of each stage it
says whether it is normal or broken, what to change, and what was measured. Then come all starts and
ends, changed settings, and the settings that differ from the defaults.

example:
  softbellman show runs/erac-20260101-120000
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman show", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and prints the record."""
    options = build_parser().parse_args(arguments)

    from softbellman.training.files import DamagedFile
    from softbellman.training.record import RunRecord
    from softbellman.training.runfolder import RunFolder

    folder = RunFolder.open(options.run)
    record = RunRecord.read(folder.path)
    if options.json:
        stages = {stage: vars(newest) for stage, newest in _stages(folder, record)}
        results = folder.test_records()
        health = {diagnosis.stage: diagnosis.as_record() for diagnosis in _health(folder, record)}
        shown = {**record.content, "stages": stages, "health": health, "results": results}
        print(json.dumps(shown, indent=1, ensure_ascii=False))
        return 0
    try:
        lines = list(describe(folder, record))
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{record.path} is damaged: it is not the record of a run ({error!r})") from None
    print("\n".join(lines))
    return 0


def describe(folder: RunFolder, record: RunRecord) -> Iterator[str]:
    """The record as lines of text."""
    from softbellman.report.health import health_lines

    session = record.sessions[-1]
    yield f"run         {folder.path}"
    yield f"algorithm   {record.settings['algorithm']}, seed {record.settings['seed']}"
    yield f"state       {_state(session)}"
    yield ""
    yield from _stage_lines(folder, record)
    yield ""
    if health := _health(folder, record):
        yield from health_lines(health)
        yield ""
    for name, keys in (
        ("software", ("softbellman", "source", "native", "commit", "torch", "python")),
        ("machine", ("host", "processor", "device", "processes", "threads", "environment")),
    ):
        facts = [f"{key} {_text(session[key])}" for key in keys if session.get(key) not in (None, {})]
        yield f"{name:<11} {', '.join(facts)}"
    for number, (name, digest) in enumerate(record.data.items()):
        yield f"{'' if number else 'data':<11} {name.replace('_', ' ')} {digest[:16]}"
    for number, one in enumerate(record.objects):
        known = [f"version {one['version']}" if one["version"] else "", one["digest"][:16], one["path"]]
        aside = ", ".join(fact for fact in known if fact)
        yield f"{'' if number else 'brought':<11} {one['name']}{f' ({aside})' if aside else ''}"
    yield ""
    yield "starts:"
    for session in record.sessions:
        yield f"  {session['started']}  {_state(session)}  {session['command']}"
    if record.changes:
        yield "changed settings:"
    for change in record.changes:
        place = f"{change['stage']} at update {change['step']}"
        yield f"  {change['at']}  {change['key']} from {_text(change['from'])} to {_text(change['to'])}, {place}"
    yield "settings that differ from the defaults:"
    yield from _own_settings(record)


def _health(folder: RunFolder, record: RunRecord) -> list[Diagnosis]:
    from softbellman.training.diagnosis import diagnose_run
    from softbellman.training.own_algorithm import find_algorithm

    return diagnose_run(folder, find_algorithm(record.settings["algorithm"]).specs)


def _own_settings(record: RunRecord) -> Iterator[str]:
    from softbellman import config
    from softbellman.training.settings import Settings

    defaults = config.flatten(Settings())
    for key, value in record.settings.items():
        if key not in defaults or defaults[key] != value:
            yield f"  {key}: {_text(value)}"


def _stages(folder: RunFolder, record: RunRecord) -> Iterator[tuple[str, Any]]:
    from softbellman.training.own_algorithm import find_algorithm

    for stage in find_algorithm(record.settings["algorithm"]).stages:
        newest = folder.newest_checkpoint(stage)
        if newest is not None:
            yield stage, newest


def _stage_lines(folder: RunFolder, record: RunRecord) -> Iterator[str]:
    from softbellman.report.tables import format_table

    scores = {entry["stage"]: entry.get("test_bleu") for entry in folder.test_records()}
    rows = [
        {
            "stage": stage,
            "updates": newest.step,
            "seconds": f"{newest.seconds:.0f}",
            "selected at": newest.best_step,
            "selection score": newest.score,
            "ended by": newest.ended or "goes on",
            "test BLEU": scores.get(stage),
        }
        for stage, newest in _stages(folder, record)
    ]
    yield format_table(rows) if rows else "no checkpoint yet"


def _state(session: dict[str, Any]) -> str:
    if session["status"] == "running":
        return f"running, or killed, since {session['started']}"
    reason = f": {session['reason']}" if session.get("reason") else ""
    return f"{session['status']} {session['ended']}{reason}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={entry}" for key, entry in value.items())
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
