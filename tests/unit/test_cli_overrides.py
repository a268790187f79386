"""``--override``: any field of the configuration from the command line, and what is no field."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reflectory.cli.common import DONE, USAGE, config_from
from reflectory.cli.main import run_command
from reflectory.cli.overrides import override
from reflectory.errors import ConfigError, UserError

PARTS = st.lists(st.sampled_from(["a", "b", "c_d"]), min_size=1, max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(PARTS, VALUES)
def test_what_is_written_is_what_is_there(parts, value):
    data = {}
    written = yaml.safe_dump(value, default_flow_style=True)
    override(data, [f"{'.'.join(parts)}={written}"])
    for part in parts:
        data = data[part]
    assert data == value


def test_an_override_is_above_file_and_options(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("loop: {epsilon: 0.2, max_iterations: 4, revision: {fresh: 3}}\n")
    changes = {"loop.max_iterations": 2, "loop.seed": 5}
    texts = [
        "loop.max_iterations=7",
        "loop.revision.fresh=18",
        "loop.revision.fresh = 19",
        "loop.target=null",
        "evaluation.contenders=[direct, loop]",
        "loop.prompts={student.reflect: Think again.}",
    ]
    found = config_from(file, changes, texts)
    assert (found.loop.epsilon, found.loop.seed, found.loop.max_iterations) == (0.2, 5, 7)
    assert found.loop.revision.fresh == 19 and found.loop.target is None
    assert found.evaluation.contenders == ("direct", "loop")
    assert dict(found.loop.prompts) == {"student.reflect": "Think again."}


@pytest.mark.parametrize("text", ["", "loop.seed", "=3", "loop.=3", ".seed=3", "loop..seed=1"])
def test_what_is_no_field_and_value_is_said_to_be_none(text):
    with pytest.raises(UserError, match="is not FIELD=VALUE") as caught:
        config_from(None, {}, [text])
    assert "loop.revision.fresh=18" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("loop.sed=3", r"did you mean seed\?"),
        ("lop.seed=3", r"did you mean loop\?"),
        ("loop.seed=many", "loop.seed: .*integer"),
        ("loop.epsilon=-1", "loop.epsilon"),
    ],
)
def test_a_field_that_there_is_not_and_a_value_that_does_not_fit(text, says):
    with pytest.raises(ConfigError, match=says):
        config_from(None, {}, [text])


def test_what_is_one_value_has_no_fields():
    with pytest.raises(UserError, match=r"loop\.seed is one value and has no fields"):
        config_from(None, {}, ["loop.seed.more=3"])
    with pytest.raises(UserError, match="is not YAML"):
        config_from(None, {}, ["loop.levels=[a"])


@pytest.mark.parametrize("verb", ["run", "check", "plan", "evaluate", "improve", "train"])
def test_every_verb_with_a_configuration_takes_it(capfd, verb):
    assert run_command([verb, "--help"]) == DONE
    assert "--override" in capfd.readouterr().out


def test_on_the_command_line_a_mistake_is_one_message(capfd, tmp_path):
    given_ = ["run", "-o", str(tmp_path / "x"), "-d", "d", "-i", "a"]
    assert run_command([*given_, "--override", "loop.epsilom=0.1"]) == USAGE
    said = capfd.readouterr().err
    assert "loop.epsilom: there is no such field; did you mean epsilon?" in said
    assert not (tmp_path / "x").exists()
