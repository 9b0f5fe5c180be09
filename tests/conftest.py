"""Shared settings: reproducible property tests, sized so that the suite stays short on two processors."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fisherfield",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("fisherfield")
