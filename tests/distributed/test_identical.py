"""The bit-identical mode: 1, 2 and 4 processes give the same bytes."""

from __future__ import annotations

import pytest
from parity import ONE, digests, last, launch
from variants import IDENTICAL

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.system)])
def label(one_process, request):
    label = f"identical{request.param}"
    launch(request.param, one_process, label, list(IDENTICAL))
    return label


@pytest.mark.parametrize("name", IDENTICAL)
def test_any_number_of_processes_gives_the_same_bytes(one_process, label, name):
    assert last(one_process, name, ONE).state["progress"]["iteration"] == 60  # 20 groups
    assert digests(one_process, name, ONE) == digests(one_process, name, label)
