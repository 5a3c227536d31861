"""Generated tests wait for busy machines: time is no fault. What several processes must not divide
among each other stays together: a file, and the one SLURM."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = "slurm" if item.path.parent.name == "slurm" else item.path.stem
        item.add_marker(pytest.mark.xdist_group(group))
