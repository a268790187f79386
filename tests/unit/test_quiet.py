"""Progress bars of transformers: off while anybody loads, and afterwards as they were."""

import threading

import pytest
from transformers import modeling_gguf_pytorch_utils as reader
from transformers.utils import logging

from reflectory.models.quiet import no_gguf_bar, no_progress_bars


@pytest.fixture(params=[True, False])
def shown(request):
    before = logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if request.param else logging.disable_progress_bar)()
    yield request.param
    (logging.enable_progress_bar if before else logging.disable_progress_bar)()


def test_bars_stay_off_until_the_last_thread_has_loaded(shown):
    inside, may_leave = threading.Event(), threading.Event()

    def load():
        with no_progress_bars():
            inside.set()
            may_leave.wait(10)

    with no_progress_bars():  # begins first, and ends first
        other = threading.Thread(target=load)
        other.start()
        assert inside.wait(10)
    assert not logging.is_progress_bar_enabled()
    may_leave.set()
    other.join()
    assert logging.is_progress_bar_enabled() is shown


def test_bars_are_as_they_were_after_a_failure(shown):
    with pytest.raises(ValueError, match="no model"), no_progress_bars():
        raise ValueError("no model")
    assert logging.is_progress_bar_enabled() is shown


def test_unpacking_draws_no_bar(capsys):
    if not hasattr(reader, "tqdm"):
        pytest.skip("this version of transformers draws none")
    bar = reader.tqdm
    with no_gguf_bar():
        assert list(reader.tqdm([1, 2, 3], desc="Converting")) == [1, 2, 3]
    assert reader.tqdm is bar
    assert capsys.readouterr().err == ""
