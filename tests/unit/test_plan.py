"""The plan of a run: tokens against loops that are run, probes, and the plan beside the facts."""

import json

import pytest
from worlds import world_loop

from reflectory import ReflectiveLoop, RunConfig
from reflectory.background import BACKGROUND
from reflectory.cli.common import DONE, USAGE
from reflectory.cli.main import run_command
from reflectory.config import LoopConfig
from reflectory.errors import IntegrityError
from reflectory.models.local import LocalModel
from reflectory.models.prices import Price
from reflectory.planning import compare, plan_run, probe_run, read_plan
from reflectory.planning.forecast import Need, flops_of
from reflectory.planning.making import plan_of_names, plan_of_parts
from reflectory.runner import run_config_of
from reflectory.runs import RunView
from reflectory.testing.models import ScriptedModel
from reflectory.testing.tiny import tiny_model
from reflectory.testing.world import ConstantEmbedder, SyntheticWorld

WORLD = SyntheticWorld(levels=2)
ASKED = [f"What is known of case {n}?" for n in range(5)]


def talkative(name):
    """Return a model that says as much as it may, in words."""

    def say(request):
        if request.role == "teacher.ask":
            words = ["What", "is", "said", "in", f"case {request.seed}"]
            return " ".join([*words, *["now"] * (request.sampling.max_tokens - 7)]) + "?"
        if request.role == "teacher.grade":
            return " ".join(["well"] * (request.sampling.max_tokens - 2)) + "\nScore: 7"
        return " ".join([str(request.seed), *["word"] * (request.sampling.max_tokens - 1)])

    return ScriptedModel(say, name=name)


def spoken_loop(**config):
    return ReflectiveLoop(
        WORLD.documents(),
        teacher=talkative("t"),
        student=talkative("s"),
        embedder=ConstantEmbedder(),
        config=WORLD.config(**config),
        stop_rules=[],
    )


def plan_of(loop, **options):
    parts = BACKGROUND.run(loop.aopen())
    settings = run_config_of(loop.sources, loop.config)
    return plan_of_parts(settings, parts, loop.sources, **options), parts


def test_texts_as_long_as_they_may_get_stay_within_the_plan(tmp_path):
    loop = spoken_loop(max_iterations=2, retrieval={"context_tokens": 64})
    list(loop.map(ASKED[:1], output=tmp_path / "run"))
    view = RunView.read(tmp_path / "run")
    found = compare(view, read_plan(tmp_path / "run"))
    assert found.loops == found.planned == 1
    for role, fact in found.fact.items():
        planned = found.predicted["usual"][role]
        assert 0 < fact.prompt_tokens <= planned.prompt_tokens, role
        assert fact.completion_tokens <= planned.completion_tokens, role
        assert fact.completion_tokens >= 0.9 * planned.completion_tokens, role
        assert fact.calls <= planned.calls <= found.predicted["most"][role].calls
    assert found.hours["fact"] >= 0 and found.hours["usual"] is None
    assert found.cost == {"least": 0, "usual": 0, "most": 0, "fact": 0}


def test_a_run_keeps_the_plan_it_was_begun_with(tmp_path):
    loop = world_loop(WORLD, max_iterations=1)
    list(loop.map(ASKED[:2], output=tmp_path / "run"))
    first = read_plan(tmp_path / "run")
    assert first.instructions == 2 and first.grader == "function" and first.probe is None
    list(loop.map(ASKED, output=tmp_path / "run"))
    assert read_plan(tmp_path / "run") == first
    found = compare(RunView.read(tmp_path / "run"), first)
    assert (found.loops, found.planned) == (5, 2)
    # As many for each loop as the plan says, but scripts say the same to all of them, and
    # what was recorded is not asked again.
    assert found.predicted["usual"]["student.respond"].calls == 5
    assert found.fact["student.respond"].calls == 5 > found.fact["student.answer"].calls


def test_a_damaged_plan_is_named(tmp_path):
    assert read_plan(tmp_path) is None
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(IntegrityError, match="is no plan"):
        read_plan(tmp_path)


def test_cost_is_that_of_each_models_tokens():
    plan = plan_run(
        LoopConfig(),
        instructions=10,
        concurrency=1,
        grader="spoken",
        prices={"teacher": Price(input=1, output=2), "student": Price(input=0, output=0)},
    )
    for forecast in plan.cases.values():
        roles = forecast.roles
        due = sum(
            roles[role].prompt_tokens + 2 * roles[role].completion_tokens
            for role in ("teacher.ask", "teacher.grade")
        )
        assert forecast.cost == pytest.approx(due / 1e6, rel=1e-3)
    none = plan_run(LoopConfig(), instructions=10, concurrency=1, grader="spoken")
    assert none.cases["usual"].cost is None and none.cases["usual"].seconds is None


def test_a_teacher_that_is_never_asked_needs_no_size():
    needs = {"student.answer": Need(calls=1, prompt_tokens=90, completion_tokens=10)}
    assert flops_of(needs, {"student": 1000}) == 2 * 1000 * 100  # 2 N per token
    needs["teacher.ask"] = Need(calls=1, prompt_tokens=1)
    assert flops_of(needs, {"student": 1000}) is None


def test_a_probe_brings_the_plan_to_what_is_really_said():
    """Students that say three words where they may say 96."""

    def short(request):
        if request.role == "teacher.ask":
            return f"What is needed in case {request.seed}?"
        return "Yes.\nScore: 8" if request.role == "teacher.grade" else f"so {request.seed} is"

    loop = ReflectiveLoop(
        WORLD.documents(),
        teacher=ScriptedModel(short, name="t", delay_s=0.01),
        student=ScriptedModel(short, name="s", delay_s=0.02),
        embedder=ConstantEmbedder(),
        config=WORLD.config(max_iterations=3),
        stop_rules=[],
    )
    plain, parts = plan_of(loop, instructions=4)
    probe = BACKGROUND.run(probe_run(parts, ASKED[0]))
    assert probe.calls == sum(role.calls for role in probe.roles.values()) == 7
    assert probe.flops is None and probe.roles["student.answer"].completion_tokens == 3
    probed, _ = plan_of(loop, instructions=4, probe=probe)
    for case in ("least", "usual", "most"):
        assert probed.cases[case].total.calls == plain.cases[case].total.calls
        assert probed.cases[case].total.tokens < 0.3 * plain.cases[case].total.tokens
    answers = probed.cases["usual"].roles["student.answer"]
    assert answers.completion_tokens == pytest.approx(3 * answers.calls)
    # One after the other: R_0, then per iteration ask, answer, grade, reflect and grade.
    took = {role: seen.seconds for role, seen in probe.roles.items()}
    ask, answer, grade = (took[r] for r in ("teacher.ask", "student.answer", "teacher.grade"))
    wait = (
        took["student.respond"] + 3 * (ask + answer + took["student.reflect"] + 2 * grade) + grade
    )
    assert probed.cases["usual"].seconds == pytest.approx(wait)
    assert took["student.respond"] >= 0.02 and ask >= 0.01
    together, _ = plan_of(loop, instructions=400, probe=probe)
    assert together.cases["usual"].seconds == pytest.approx(
        probed.cases["usual"].seconds * 400 / 8, rel=0.01
    )


def test_models_of_this_process_are_timed_by_their_operations():
    model = LocalModel(*tiny_model(0), fingerprint="tiny@0/float32")
    # 2 layers, 32 wide, 300 words, which are multiplied with at the output alone
    assert 300 * 32 < model.parameters < 40_000
    loop = ReflectiveLoop(
        WORLD.documents(),
        teacher=talkative("t"),
        student=model,
        embedder=ConstantEmbedder(),
        grader=lambda task: 0.5,
        config=WORLD.config(
            max_iterations=1,
            sampling={"answer_tokens": 4, "response_tokens": 4, "question_tokens": 12},
            retrieval={"layers": ("dense", "lexical"), "context_tokens": 64},
        ),
    )
    _, parts = plan_of(loop, instructions=1)
    try:
        probe = BACKGROUND.run(probe_run(parts, ASKED[0]))
    finally:
        BACKGROUND.run(model.aclose())
    assert probe.flops is None  # the teacher has no size
    seen = probe.roles["student.answer"]
    assert seen.calls == 1 and seen.completion_tokens <= 4 and seen.prompt_tokens > 20


def test_operations_and_the_probe_give_the_time():
    from reflectory.planning import Probe, RoleProbe

    mean = RoleProbe(calls=1, prompt_tokens=100, reused_tokens=0, completion_tokens=10, seconds=1.0)
    sizes = {"teacher": 1_000_000, "student": 1_000_000}
    probe = Probe(roles={"student.respond": mean}, seconds=2.0, flops=4e9)
    plan = plan_run(
        LoopConfig(),
        instructions=10,
        concurrency=4,
        grader="likelihood",
        parameters=sizes,
        probe=probe,
    )
    usual = plan.cases["usual"]
    assert usual.flops == pytest.approx(2e6 * usual.total.tokens)
    assert usual.seconds == pytest.approx(usual.flops / 2e9)


def test_training_takes_six_n_d_at_most():
    from reflectory.planning import plan_learning

    settings = RunConfig(training={"epochs": 2, "batch_size": 4, "max_length": 512})
    forecast = plan_of_names(settings, instructions=10, instruction_tokens=40).cases["usual"]
    need = plan_learning(settings, forecast, instructions=10, parameters=1000)
    assert need.rows == 10 + 10 * 4 * 3  # R_final, and an answer per level and iteration
    assert need.steps == 2 * -(-need.rows // 4)
    assert need.tokens <= 2 * need.rows * 512 and need.flops == 6 * 1000 * need.tokens
    capped = settings.model_copy(
        update={"training": settings.training.model_copy(update={"max_steps": 3})}
    )
    few = plan_learning(capped, forecast, instructions=10, parameters=None)
    assert few.steps == 3 and few.tokens < need.tokens and few.flops is None


def said(capfd, *arguments):
    code = run_command(["plan", *map(str, arguments)])
    captured = capfd.readouterr()
    return code, captured.out, " ".join(captured.err.split())


def test_a_plan_without_a_probe_loads_nothing(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, out, err = said(
        capfd, "--no-probe", "--count", 1000, "--teacher", "openai:gpt-4o-mini", "-o", tmp_path
    )
    assert code == DONE, err
    assert "1,000 instructions, spoken grader" in out and "$" in out
    assert "Time is unknown without a probe" in out
    assert "Training on all of it, at most: 13,000 rows" in out
    plan = read_plan(tmp_path)
    expected = plan_of_names(
        RunConfig(teacher="openai:gpt-4o-mini"), instructions=1000, instruction_tokens=40
    )
    assert plan == expected and 0.1 < plan.cases["usual"].cost < 100


def test_an_unknown_price_and_a_small_budget_are_said(capfd, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("teacher: anthropic:unheard-of\nbudget: {calls: 100}")
    code, out, _ = said(capfd, "-c", file, "--no-probe", "--count", 50)
    assert code == DONE
    assert "no price is known for anthropic:unheard-of" in out
    assert "The budget of 100 calls may not be enough." in out


def test_a_plan_with_a_probe_and_then_beside_the_facts(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    for verb in ("plan", "run"):
        monkeypatch.setattr(
            f"reflectory.cli.{verb}.loop_from", lambda config: world_loop(WORLD, max_iterations=1)
        )
    options = ["-d", tmp_path, "-i", ASKED[0], "-i", ASKED[1], "--max-iterations", 1]
    options += ["-o", tmp_path / "run"]
    code, out, err = said(capfd, *options, "--json")
    assert code == DONE, err
    plan = json.loads(out)
    assert plan["instructions"] == 2 and plan["probe"]["roles"]["teacher.ask"]["calls"] == 1
    assert run_command(["run", *map(str, options)]) == DONE
    capfd.readouterr()
    code, out, _ = said(capfd, tmp_path / "run", "--json")
    found = json.loads(out)
    assert code == DONE and found["loops"] == 2
    assert found["fact"]["student.respond"]["calls"] == 2
    assert found["hours"]["usual"] is not None  # the probed plan was kept
    code, out, _ = said(capfd, tmp_path / "run")
    assert "2 of 2 loops are over" in out and "fact" in out
    (tmp_path / "run" / "plan.json").unlink()
    assert said(capfd, tmp_path / "run")[0] == DONE


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "no instructions were named"),
        (["--count", "5"], "nothing to probe with"),
        (["--count", "0", "--no-probe"], "at least 1"),
        (["-i", "a"], "nothing to probe with"),
        (["no-such-run"], "no run directory"),
    ],
)
def test_mistakes_are_usage_errors(capfd, options, says):
    code, out, err = said(capfd, *options)
    assert code == USAGE and says in err and out == ""
