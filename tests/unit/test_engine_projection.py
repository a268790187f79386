"""Products: a row's result is its own, however many rows are multiplied beside it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reflectory.models.engine.projection import MANY_ROWS, ROW_STEP, Product

FORMATS = [torch.float32, torch.bfloat16]
ROWS = torch.randn(2 * MANY_ROWS, 48, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(70, 48, generator=torch.Generator().manual_seed(1))
BIAS = torch.randn(70, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@given(
    count=st.one_of(
        st.integers(1, MANY_ROWS), st.integers(MANY_ROWS + 1, MANY_ROWS + 2 * ROW_STEP)
    ),
    first=st.integers(0, 32),
)
@settings(max_examples=40, deadline=None)
def test_a_row_does_not_depend_on_how_many_there_are(
    dtype: torch.dtype, count: int, first: int
) -> None:
    product = Product(WEIGHT.to(dtype), BIAS.to(dtype))
    rows = ROWS.to(dtype)[first : first + count]
    found = product(rows)
    assert found.shape == (count, 70) and found.is_contiguous()
    assert torch.allclose(found, product(ROWS.to(dtype))[first : first + count], atol=1e-5)
    wanted = rows.double() @ WEIGHT.to(dtype).double().T + BIAS.to(dtype).double()
    close = 1e-4 if dtype == torch.float32 else 0.1
    assert torch.allclose(found.double(), wanted, atol=close)
