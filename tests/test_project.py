"""What several files of the project say about the same thing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

import softbellman

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> str:
    path = ROOT / name
    if not path.is_file():
        pytest.skip(f"{name} is part of the repository, not of the source distribution")
    return path.read_text(encoding="utf-8")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_pre_commit_runs_the_versions_that_the_extra_dev_installs() -> None:
    import tomllib

    extra = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]["dev"]
    pinned = dict(requirement.split("==") for requirement in extra if "==" in requirement)
    revisions = {
        repository["repo"]: repository.get("rev", "").removeprefix("v")
        for repository in yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    }
    for tool in ("ruff", "clang-format"):
        (revision,) = (rev for repo, rev in revisions.items() if tool in repo)
        assert revision == pinned[tool]


def test_the_citation_names_this_version() -> None:
    assert yaml.safe_load(read("CITATION.cff"))["version"] == softbellman.__version__.removesuffix(".dev0")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_oldest_torch_and_every_python_claimed_are_tested() -> None:
    import tomllib

    project = tomllib.loads(read("pyproject.toml"))
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    tested = workflow["jobs"]["tests"]["strategy"]["matrix"]["include"]
    (oldest,) = (
        text.removeprefix("torch>=")
        for text in project["project"]["dependencies"]
        if text.startswith("torch")
    )
    assert {line["torch"] for line in tested} >= {f"torch=={oldest}.0", "torch"}
    wheels = set(re.findall(r"cp3(\d+)-", project["tool"]["cibuildwheel"]["build"]))
    assert wheels == {line["python"].removeprefix("3.") for line in tested}
    assert f">=3.{min(map(int, wheels))}" == project["project"]["requires-python"]
