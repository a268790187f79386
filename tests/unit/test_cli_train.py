"""``reflectory train`` from its options to its exit code."""

import json

import pytest
from training_target import pairs, rows

from reflectory.cli.main import run_command
from reflectory.testing.tiny import save_tiny_model
from reflectory.training import read_adapter_manifest, write_dataset


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    save_tiny_model(folder / "tiny")
    write_dataset(folder / "sft", rows(6))
    write_dataset(folder / "dpo", pairs(6), format="dpo")
    return folder


def command(place, *more):
    settings = ["--device", "cpu", "--dtype", "float32", "--epochs", "1"]
    return ["train", *more, "--base", str(place / "tiny"), *settings]


@pytest.mark.parametrize(
    ("names", "objective"),
    [(("sft",), "sft"), (("dpo",), "dpo"), (("dpo", "sft"), "sft+dpo")],
)
def test_the_data_sets_say_what_is_trained(place, tmp_path, capsys, names, objective):
    folders = [str(place / name) for name in names]
    arguments = command(place, *folders, "-o", str(tmp_path / "a"), "--json")
    assert run_command(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    manifest = read_adapter_manifest(tmp_path / "a")
    assert said["config"]["objective"] == manifest.config.objective == objective
    assert said["plan"]["steps"] == said["steps"] == manifest.steps
    assert said["plan"]["seconds"] > 0 and said["seconds"] > 0


def test_a_plan_trains_nothing(place, tmp_path, capsys):
    arguments = command(place, str(place / "sft"), str(place / "dpo"), "--plan")
    assert run_command(arguments) == 0
    told = capsys.readouterr().out
    assert "sft: 6 rows, 2 steps" in told and "dpo: 6 rows, 2 steps" in told
    assert "6 N D" in told and "of memory" in told
    assert run_command([*arguments, "-o", str(tmp_path / "a"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 4
    assert not list(tmp_path.iterdir())


def test_a_parent_and_a_method_by_name(place, tmp_path, capsys):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    arguments = command(place, str(place / "sft"), "--method", "ia3")
    assert run_command([*arguments, "-o", first]) == 0
    assert run_command([*arguments, "-o", second, "--parent", first]) == 0
    assert capsys.readouterr().out.count("2 steps on 6 rows") == 2
    parent, child = read_adapter_manifest(first), read_adapter_manifest(second)
    assert child.parent_sha256 == parent.weights_sha256
    assert child.config.method == "ia3"


@pytest.mark.parametrize(
    ("more", "culprit"),
    [
        ((), "no place for the adapter"),
        (("-o", "x", "--objective", "dpo"), "0 preference pairs"),
        (("-o", "x", "--objective", "ppo"), "training.objective"),
        (("-o", "x", "--parent", "nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_named(place, tmp_path, monkeypatch, capsys, more, culprit):
    monkeypatch.chdir(tmp_path)
    assert run_command(command(place, str(place / "sft"), *more)) == 2
    assert culprit in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
