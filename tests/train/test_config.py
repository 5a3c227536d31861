"""Settings: every wrong file or option is one sentence that names file, key and remedy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sptmod_dist import settings
from sptmod_dist.errors import UserError
from sptmod_dist.model.config import PRESETS, gain_tcn, sptmod24, sptmod25, tiny
from sptmod_dist.train.config import TrainConfig, from_dict, to_dict, to_yaml
from sptmod_dist.train.options import load_config, parse_train

SHIPPED = Path(__file__).parents[2] / "launch/configs"
CONFIGS = sorted(set(SHIPPED.glob("*.yaml")) - set(SHIPPED.glob("study_*")))
DATA = "data: {train: a, validation: b}\n"


def refusal(tmp_path: Path, text: str, *argv: str) -> str:
    """The sentence with which a file of this text is refused, after the file's path."""
    path = tmp_path / "hostile.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        parse_train(["--config", str(path), *argv])
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence.replace(str(path), "hostile.yaml")


HOSTILE = {
    # unknown keys, with the closest right one
    "batchsize: 16": "hostile.yaml: there is no setting batchsize: did you mean batch_size?",
    "hidden_size: 3": "there is no setting hidden_size: did you mean model.hidden_size?",
    "model: {spn: {chanels: [1]}}": "model.spn.chanels: did you mean model.spn.channels?",
    "optimiser: {learning_rate: 1}": "optimiser: did you mean optimizer?",
    "model: {optimizer: {}}": "model.optimizer: did you mean optimizer?",
    "3: 4": "there is no setting 3",
    "qqq: 4": "there is no setting qqq: `sptmod-dist train --help` lists all keys",
    # wrong types: no value is bent to fit
    'batch_size: "16"': "hostile.yaml: batch_size is '16', but must be a whole number",
    "batch_size: 1.5": "batch_size is 1.5, but must be a whole number",
    "batch_size: 1e3": "batch_size is 1000.0, but must be a whole number",
    "batch_size: true": "batch_size is true, but must be a whole number",
    "batch_size:": "batch_size is null, but must be a whole number",
    "batch_size: {}": "batch_size is {}, but must be a whole number",
    "name: 3": "name is 3, but must be text",
    "deterministic: 1": "deterministic is 1, but must be true or false",
    "optimizer: {learning_rate: fast}": "learning_rate is 'fast', but must be a number",
    "optimizer: {learning_rate: .nan}": "learning_rate is nan, but must be a number",
    "optimizer: {learning_rate: true}": "learning_rate is true, but must be a number",
    "optimizer: 5e-4": "optimizer is 0.0005, but must be keys with values",
    "lengths: 8192": "lengths is 8192, but must be a list such as [8, 8], each value a whole",
    "lengths: [8192, 8192.0]": "lengths is [8192, 8192.0], but must be a list",
    "model:": "model is null, but must be keys with values",
    "model: {spn: [1]}": "model.spn is [1], but must be keys with values",
    "model: {rnn_cell: RNN}": "model.rnn_cell is 'RNN', but must be one of LSTM, GRU",
    "distributed: {processes: two}": "processes is 'two', but must be a whole number or null",
    "precision: fp16": "precision is 'fp16', but must be one of float32, bf16, float64 or null; "
    "weights are float32",
    "optimizer: {schedule: {kind: linear}}": "kind is 'linear', but must be one of",
    # values that no training could take
    DATA + "lengths: [8192, 8200]": "lengths[1] is 8200, but every length after the first must be "
    "a multiple of model.pooling_size = 64: take 8192 or 8256",
    DATA + "lengths: [2000]": "lengths[0] is 2000, shorter than the loss's longest window of 2048",
    DATA + "lengths: []": "lengths is empty",
    DATA + "batch_size: 0": "batch_size is 0, but must be at least 1",
    DATA + "optimizer: {clip_norm: 0}": "optimizer.clip_norm is 0.0, but must be greater than 0",
    DATA + "optimizer: {weight_decay: -1}": "optimizer.weight_decay is -1.0, but must be finite",
    DATA + "optimizer: {average: 1}": "optimizer.average is 1.0, but must be from 0 to below 1",
    DATA + "optimizer: {schedule: {kind: cosine}}": "optimizer.schedule.iterations is missing",
    DATA + "optimizer: {schedule: {kind: cosine, iterations: 5, warmup: 5}}": "is 5, but must "
    "be more than optimizer.schedule.warmup = 5",
    DATA + "distributed: {micro_batches: 0}": "distributed.micro_batches is 0, but must",
    DATA + "distributed: {virtual_shards: 3}": "batch_size is 16, which "
    "distributed.virtual_shards = 3 does not divide: take 15 or 18",
    DATA + "distributed: {virtual_shards: 4, micro_batches: 2}": "virtual shards are micro-batches",
    DATA + "distributed: {timeout: 0}": "distributed.timeout is 0.0, but must be greater than 0",
    DATA + "stopping: {skips: 0}": "stopping.skips is 0, but must be at least 1",
    DATA + "seed: -1": "seed is -1, but must be at least 0",
    DATA + "optimizer: {learning_rate: 0}": "learning_rate is 0.0, but must be greater than 0",
    DATA + "checkpoint: {minutes: -1}": "minutes is -1.0, but must be greater than 0",
    DATA + "checkpoint: {keep: 0}": "checkpoint.keep is 0, but must be at least 1",
    DATA + "validation: {every: 0}": "validation.every is 0",
    DATA + "validation: {excerpts: -1}": "validation.excerpts is -1, but must be at least 0",
    DATA + "validation: {excerpts: 101}": "validation.excerpts is 101, but must be at most 100",
    DATA + "validation: {excerpt_seconds: 0}": "excerpt_seconds is 0.0, but must be greater than 0",
    DATA + "validation: {excerpt_seconds: 61}": "excerpt_seconds is 61, but must be at most 60",
    DATA + "name: a/b": "name is 'a/b', but must be a plain folder name",
    DATA + "name: ..": "name is '..', but must be a plain folder name",
    DATA + 'name: ""': "name is '', but must be a plain folder name",
    DATA + "model: {hidden_size: 0}": "model.hidden_size holds 0",
    DATA + "model: {channels: [1]}": "model.kernel_sizes has 4 values, but model.channels has 1",
    DATA + "model: {spn: {dropout: 1}}": "model.spn.dropout is 1.0",
    DATA + "loss: {windows: [3]}": "loss.windows holds 3",
    DATA + "distributed: {processes: 3}": "batch_size is 16, which distributed.processes = 3 "
    "does not divide: take 15 or 18",
    "data: {validation: b}": "data.train is missing: give the folder of a shard set",
    "data: {train: b}": "data.validation is missing",
    # presets
    "model: {preset: sptmod26}": "there is no model.preset 'sptmod26': did you mean sptmod2",
    "model: {preset: 3}": "there is no model.preset 3: choose one of sptmod24, sptmod25, tcn, tiny",
    # kinds
    "model: {kind: wavenet}": "model.kind is 'wavenet', but must be one of sptmod, tcn",
    "model: {kind: [tcn]}": "model.kind is ['tcn'], but must be one of sptmod, tcn",
    "model: {kind: tcn, pooling_size: 64}": "model.pooling_size is a setting of model.kind sptmod, "
    "but model.kind is tcn: leave one of them out",
    "model: {preset: tcn, spn: null}": "model.spn is a setting of model.kind sptmod",
    "model: {preset: tcn, kernels: [3]}": "there is no setting model.kernels: did you mean",
    # files that are no YAML
    "a: [": "hostile.yaml: is not valid YAML in line 1",
    "seed: 1\nbatch_size: 1\nseed: 2": "is not valid YAML in line 3: the key 'seed' stands there",
}


@pytest.mark.parametrize(("text", "sentence"), HOSTILE.items())
def test_a_hostile_file_is_refused_in_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    assert sentence in refusal(tmp_path, text)


OPTIONS = {
    ("--batch_sise", "3"): "there is no option --batch_sise: did you mean --batch_size?",
    ("--hidden_size=3",): "there is no option --hidden_size: did you mean --model.hidden_size?",
    ("--model.spn.chanels", "[3]"): "did you mean --model.spn.channels?",
    ("--batch", "3"): "there is no option --batch: did you mean --batch_size?",
    ("--batch_size", "x"): "command line: --batch_size is 'x', but must be a whole number",
    ("--batch_size", "1.5"): "command line: --batch_size is '1.5', but must be a whole number",
    ("--batch_size=true",): "command line: --batch_size is 'true', but must be a whole number",
    ("--batch_size",): "command line: --batch_size: expected one argument; see --help",
    ("--lengths", "8192"): "--lengths is '8192', but must be a list such as [8, 8]",
    ("--precision", "fp16"): "--precision is 'fp16', but must be one of float32, bf16, float64 or "
    "null; weights are float32",
    ("--model.spn.pooling_type", "min"): "--model.spn.pooling_type is 'min', but must be one of",
    ("--model.preset", "big"): "--model.preset: invalid choice: 'big'",
    ("--batch_size", "0"): "hostile.yaml with command line: batch_size is 0",
    ("--data.workers", "100000"): "data.workers is 100000, but must be at most 256",
    ("--data.cache_gigabytes", "1e300"): "data.cache_gigabytes is 1e+300, but must be at most",
    ("--data.cache_gigabytes", "nan"): "--data.cache_gigabytes is 'nan', but must be a number",
    ("--data.stream_buffer", "0"): "data.stream_buffer is 0, but must be at least 1",
    ("--data.shard_megabytes", "0"): "data.shard_megabytes is 0, but must be at least 1",
    ("--data.sequences_per_record", "-1"): "data.sequences_per_record is -1",
    ("--data.resident", "disk"): "--data.resident is 'disk', but must be one of ram, device or",
    ("--data.sample_format", "mp3"): "--data.sample_format is 'mp3', but must be one of",
    ("--data.stream", "true", "--data.resident", "ram"): "are both set, but what is held in memory",
    ("surplus",): "unrecognized arguments: surplus",
}


@pytest.mark.parametrize(("argv", "sentence"), OPTIONS.items())
def test_a_hostile_option_is_refused_in_one_sentence(
    tmp_path: Path, argv: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refusal(tmp_path, DATA, *argv)


def test_numbers_and_texts_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text(
        DATA + "name: 2026-11-22\noptimizer: {learning_rate: 5e-4}\n"
        "loss: {mae: 1, esr: 1.5e3}\nstopping: {patience: 76_800}\n"
    )
    config = load_config([path], {})
    assert config.name == "2026-11-22"
    assert config.optimizer.learning_rate == 5e-4
    assert (config.loss.mae, config.loss.esr) == (1.0, 1500.0)
    assert isinstance(config.loss.mae, float)
    assert config.stopping.patience == 76_800


def test_later_layers_win(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(DATA + "batch_size: 4\nseed: 1\nmodel: {hidden_size: 5, spn: null}")
    second.write_text("seed: 2\nmodel: {n_params: 3}")
    files = ["--config", str(first), "--config", str(second)]
    config = parse_train([*files, "--model.hidden_size", "7"]).config
    assert (config.batch_size, config.seed) == (4, 2)
    assert (config.model.hidden_size, config.model.n_params) == (7, 3)
    assert config.model.spn is None
    again = parse_train([*files, "--model.spn.dropout", "0.5"]).config
    assert again.model.spn is not None and again.model.spn.dropout == 0.5


def test_a_preset_is_expanded_before_what_stands_beside_it() -> None:
    model = {"n_params": 2, "hidden_size": 8, "preset": "sptmod24"}
    config = load_config([], {"model": model}, complete=False)
    assert config.model == replace(sptmod24(2), hidden_size=8)
    assert "preset" not in to_yaml(config)


def test_a_later_preset_keeps_what_fits_the_model_to_its_data(tmp_path: Path) -> None:
    path = tmp_path / "first.yaml"
    path.write_text(DATA + "model: {preset: tiny, n_params: 1, hidden_size: 5}")
    config = parse_train(["--config", str(path), "--model.preset", "sptmod25"]).config
    assert config.model == sptmod25(1)


def test_every_configuration_that_is_shipped_is_whole() -> None:
    assert [path.stem for path in CONFIGS] == ["demo", "sptmod24", "sptmod25", "tcn"]
    models = {path.stem: load_config([path], {}).model for path in CONFIGS}
    wanted = {"demo": tiny(1), "sptmod24": sptmod24(7), "sptmod25": sptmod25(7)}
    assert models == wanted | {"tcn": gain_tcn(7)}


@given(
    name=st.text(
        st.characters(exclude_characters="/\\", exclude_categories=["Cs"], min_codepoint=32),
        max_size=50,  # of four bytes each, at most: a folder's name takes 200
    ).filter(lambda name: name.strip() not in ("", ".", "..")),
    rate=st.floats(min_value=1e-300, max_value=1e300),
    seed=st.integers(0, 2**63 - 1),
    preset=st.sampled_from(sorted(PRESETS)),
    spn=st.booleans(),
    lengths=st.lists(st.integers(32, 2000), min_size=1).map(lambda ls: [64 * n for n in ls]),
    test=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
)
def test_the_resolved_yaml_loads_back_to_an_equal_configuration(
    name: str, rate: float, seed: int, preset: str, spn: bool, lengths: list[int], test: str | None
) -> None:
    model = {"preset": preset} if spn or preset == "tcn" else {"preset": preset, "spn": None}
    data = {"train": "a", "validation": "b", "test": test}
    given = {
        "name": name,
        "seed": seed,
        "lengths": lengths,
        "optimizer": {"learning_rate": rate},
        "model": model,
        "data": data,
    }
    config = load_config([], given)
    text = to_yaml(config)
    assert from_dict(yaml.safe_load(text)) == config
    assert from_dict(to_dict(config)) == config


def test_print_config_needs_no_complete_settings_and_can_be_loaded(tmp_path: Path) -> None:
    options = parse_train(["--print_config", "--batch_size", "8"])
    assert options.print_config
    path = tmp_path / "begun.yaml"
    path.write_text(to_yaml(options.config))
    assert load_config([path], {}, complete=False) == options.config


@pytest.mark.parametrize(
    ("argv", "resume"),
    [([], None), (["--resume"], "auto"), (["--resume", "auto"], "auto"), (["--resume=x"], "x")],
)
def test_resume_may_stand_alone_or_with_a_path(argv: list[str], resume: str | None) -> None:
    data = ["--data.train", "a", "--data.validation", "b"]
    assert parse_train([*argv, *data]).resume == resume
    assert parse_train([*argv, "--overwrite", *data]).overwrite


def test_every_setting_has_its_description_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_train(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for key in settings.dotted_keys(TrainConfig):
        assert f"--{key}" in text or key.startswith("model.spn.")
    assert "over all processes together" in text  # a docstring from under a field
