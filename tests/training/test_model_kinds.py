"""Another `model.kind` over a settings file: keys it does not read are left out, those beside it are refused."""

from __future__ import annotations

import pytest

from softbellman import config
from softbellman.cli.settings import find_config, load_settings
from softbellman.cli.train import main as train
from softbellman.training.settings import Settings


def test_another_kind_over_a_settings_file_leaves_its_keys_out(tmp_path):
    """Those that the kind does not read; what is given beside the kind is refused."""
    base = tmp_path / "base.yaml"
    base.write_text(
        "model: {embedding: 9, init_range: 0.3, hidden: 64}\ncritic: {attention: dot}\nactor: {dropout: 0.1}"
    )
    left_out: dict[str, str] = {}
    own = config.load(Settings, base, overrides=[("model.kind", "transformer")], left_out=left_out)
    assert own.model.hidden == 64 and own.actor.dropout == 0.1 and own.model.embedding == 256
    assert set(left_out) == {"model.embedding", "model.init_range", "critic.attention"}
    child = tmp_path / "child.yaml"
    child.write_text("base: base.yaml\nmodel: {kind: transformer, heads: 2}")
    assert config.load(Settings, child).model.heads == 2
    back = config.load(Settings, child, overrides=[("model.kind", "lstm")])
    assert back.model.heads == 4 and back.model.embedding == 9  # as the base has it
    with pytest.raises(
        config.ConfigError, match=r"transformer does not read model.embedding \(7\): leave it out"
    ):
        config.load(Settings, child, overrides=[("model.embedding", "7")])
    with pytest.raises(config.ConfigError, match=r"model\.kind lstm does not read model\.heads"):
        config.load(Settings, base, overrides=[("model.heads", "2")])


def test_options_of_a_model_of_ones_own_are_left_out_by_another_kind(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("model: {kind: './my.py:Net', options: {width: 3}}")
    assert config.load(Settings, file, overrides=[("model.kind", "lstm")]).model.options == {}
    both = [("model.kind", "./other.py:Net"), ("model.options.depth", "2")]
    assert config.load(Settings, file, overrides=both).model.options == {"width": 3, "depth": 2}


@pytest.mark.parametrize("kind", ["transformer", "hf"])
def test_every_shipped_file_of_lstms_can_be_the_base_of_another_kind(kind):
    pretrained = [("model.path", "folder"), ("data.tokenizer", "hf"), ("actor.embedding_dropout", "0")]
    for name in ("builtin_erac", "builtin_erac_returns", "multi30k_erac", "multi30k_vaml"):
        load_settings([find_config(name)], [("model.kind", kind), *(pretrained if kind == "hf" else ())])


def test_train_says_what_it_left_out(capsys):
    assert train(["--model.kind", "transformer", "--print-config"]) == 0
    said = capsys.readouterr()
    assert "model.embedding, model.attention_size, model.init_range of builtin_erac.yaml left out" in said.err
    assert "does not read them" not in said.out
