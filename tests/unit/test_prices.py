"""Prices: packaged and one's own, by name, date and fingerprint; unknown is never zero."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.models import prices
from reflectory.models.prices import FREE, Price, PriceList
from reflectory.models.protocol import Usage
from reflectory.runs.budget import Ledger
from reflectory.runs.budgeted_model import BudgetedModel
from reflectory.testing.models import ScriptedModel


@pytest.fixture(autouse=True)
def _no_server_of_ones_own(monkeypatch):
    for names in prices._ADDRESSES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)


def test_every_packaged_price_says_where_and_when_it_was_read():
    packaged = PriceList()._packaged
    assert len(packaged) >= 8
    for name, price in packaged.items():
        assert re.fullmatch(r"[a-z]+:[\w.-]+", name)
        assert price.source.startswith("https://")
        assert re.fullmatch(r"20\d\d-\d\d(-\d\d)?", price.date)
        assert 0 < price.cached_input < price.input < price.output


def test_a_call_is_priced_by_what_it_read_reused_and_wrote():
    price = Price(input=1.0, cached_input=0.25, output=4.0)
    usage = Usage(prompt_tokens=1000, reused_tokens=400, completion_tokens=50)
    assert price.of(usage) == pytest.approx((600 + 100 + 200) / 1e6)
    plain = Price(input=1.0, output=4.0)
    assert plain.of(usage) == pytest.approx((1000 + 200) / 1e6)


@given(
    st.builds(
        Usage,
        prompt_tokens=st.integers(0, 10**6),
        reused_tokens=st.integers(0, 10**6),
        completion_tokens=st.integers(0, 10**6),
    )
)
def test_what_is_held_for_a_call_is_never_less_than_it_costs(usage):
    """Nothing reused is the most, and more reused than read is not negative."""
    price = Price(input=3.0, cached_input=0.3, output=15.0)
    most = price.of(usage.model_copy(update={"reused_tokens": 0}))
    assert 0.0 <= price.of(usage) <= most


@pytest.mark.parametrize(
    "name",
    ["openai:gpt-4o-mini", "openai:gpt-4o-mini-2024-07-18", "anthropic:claude-haiku-4-5-20251001"],
)
def test_the_date_behind_a_name_changes_no_price(name):
    bare = re.sub(r"-(2024-07-18|20251001)$", "", name)
    found = PriceList().named(name)
    assert found is not None and found == PriceList().named(bare)


@pytest.mark.parametrize("name", ["local", "local:folder", "vllm:some/model"])
def test_models_of_this_process_are_free(name):
    assert PriceList().named(name) == FREE
    own = PriceList({name: Price(input=1, output=1)})  # electricity, say
    assert own.named(name).input == 1


@pytest.mark.parametrize(
    "name", ["openai:gpt-4o-mini-tuned", "openai:", "nobody:gpt-4o-mini", "gpt-4o-mini", ""]
)
def test_what_nobody_named_is_unknown(name):
    assert PriceList().named(name) is None


def test_a_providers_name_on_another_server_is_another_model(monkeypatch):
    name = "openai:gpt-4o-mini"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert PriceList().named(name) is None
    mine = PriceList({name: Price(input=0, output=0)})
    assert mine.named(name).output == 0
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    assert PriceList().named(name) is not None
    monkeypatch.setenv("OPENAI_BASE_URL", "https://openai.com.example.org/v1")
    assert PriceList().named(name) is None


class Provided(ScriptedModel):
    """Is of no room of this package, as a model of the user's own is."""


def test_an_object_is_found_by_its_fingerprint():
    model = Provided({}, name="langchain_openai.ChatOpenAI:tiny@0123456789ab")
    listed = PriceList({"langchain_openai.ChatOpenAI:tiny": Price(input=1, output=2)})
    assert listed.of(model.fingerprint).output == 2
    for known in (listed, PriceList({model.fingerprint: Price(input=5, output=5)})):
        known.know(model, model)
        assert known.of(model.fingerprint) is not None
        assert known.of(f"{model.fingerprint}+adapter@abc123") == known.of(model.fingerprint)
    unknown = PriceList()
    unknown.know(model, model)
    assert unknown.of(model.fingerprint) is None
    double = ScriptedModel({}, name="double")
    unknown.know(BudgetedModel(double, Ledger.__new__(Ledger)), double)
    assert unknown.of("double") == FREE


def test_a_name_of_the_configuration_decides_over_the_object():
    model = Provided({}, name="langchain_openai.ChatOpenAI:gpt-4o-mini@0")
    known = PriceList()
    known.know(model, "openai:gpt-4o-mini")
    assert known.of(model.fingerprint) == known.named("openai:gpt-4o-mini")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no `models`"),
        ("[1, 2]", "no `models`"),
        ("models: 3", "no `models`"),
        ("models: {a: {input: 1}}", "a: output"),
        ("models: {a: {input: -1, output: 1}, b: {input: x, output: 1}}", "b: input"),
        ("models: {a: {input: .inf, output: 1}}", "a: input"),
        ("models: {a: {input: 1, output: 1, per: hour}}", "a: per"),
        ("models: {a: 5}", "a: "),
        ("models: {a: {input: 1, output: 1, date: [2]}}", "a: date"),
        ("models: [", "not YAML"),
        ("\x00", "not YAML"),
        ("models: {2026-13-45: {input: 1, output: 1}", "not YAML"),
    ],
)
def test_mistakes_in_a_file_of_prices_are_named(tmp_path, text, says):
    file = tmp_path / "prices.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        PriceList.load(file)
    assert str(file) in str(caught.value) and "docs/budget.md" in caught.value.hint


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / "prices.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read the prices .*prices\.yaml"):
        PriceList.load(file)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_no_content_of_a_file_raises_anything_else(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("p") / "prices.yaml"
    file.write_text(yaml.safe_dump({"models": {"a:b": data, "c:d": {"input": data, "output": 1}}}))
    try:
        PriceList.load(file)
    except UserError as error:
        assert "prices.yaml" in str(error)
