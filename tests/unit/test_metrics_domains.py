import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import UserError
from reflectory.evaluation.metrics.domains import generalisation

shares = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_the_score_is_the_mean_over_domains_that_were_not_trained_on():
    values = {"law": [1.0, 1.0, 0.5, 0.5], "medicine": [0.2], "physics": [0.4, 0.6]}
    found = generalisation(values, trained=["law"])
    assert found.score == pytest.approx((0.2 + 0.5) / 2)
    assert found.domains == pytest.approx({"law": 0.75, "medicine": 0.2, "physics": 0.5})
    assert found.counts == {"law": 4, "medicine": 1, "physics": 2}
    assert (found.trained, found.worst) == (0.75, "medicine")
    assert found.gap == pytest.approx(0.4)
    assert found.spread == pytest.approx(statistics.stdev([0.2, 0.5]))


def test_one_domain_has_no_spread_and_nothing_trained_no_gap():
    found = generalisation({"law": [0.25, 0.75]})
    assert (found.score, found.spread, found.trained, found.gap) == (0.5, None, None, None)


@given(st.dictionaries(st.sampled_from("abcdef"), shares, min_size=1), st.integers(1, 4))
def test_how_many_answers_a_domain_has_does_not_matter(values, times):
    found = generalisation(values)
    repeated = {domain: given * (times if domain == "a" else 1) for domain, given in values.items()}
    assert generalisation(repeated).score == pytest.approx(found.score)
    means = [statistics.fmean(given) for given in values.values()]
    assert found.score == pytest.approx(statistics.fmean(means))
    assert min(means) - 1e-9 <= found.score <= max(means) + 1e-9
    assert found.domains[found.worst] == min(found.domains.values())


@pytest.mark.parametrize(
    ("values", "trained", "message"),
    [
        ({}, (), "not trained on"),
        ({"a": [1.0]}, ["a"], "not trained on"),
        ({"a": []}, (), "no answer"),
        ({"a": [float("nan")]}, (), "not finite"),
        ({"a": [1.0]}, ["b"], "no domain 'b'"),
    ],
)
def test_what_gives_no_score_is_an_error(values, trained, message):
    with pytest.raises(UserError, match=message):
        generalisation(values, trained=trained)
