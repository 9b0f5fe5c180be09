"""Shared settings: reproducible property tests, sized so that the suite stays short on two processors; the device."""

import pytest
from hypothesis import HealthCheck, settings

import device_mode

settings.register_profile(
    "fisherfield",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("device", settings.get_profile("fisherfield"), max_examples=10)  # kernels run by hand
settings.load_profile("fisherfield")


def pytest_addoption(parser):
    parser.addoption(
        "--device", choices=["cpu", "simulated", "cuda"], default="cpu", help="where the tests of measurements run"
    )


def pytest_configure(config):
    if config.getoption("--device") != "cpu":
        device_mode.load(config.getoption("--device"))
        device_mode.switch_on()
        settings.load_profile("device")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--device") == "cpu":
        return
    for item in items:
        if reason := device_mode.reason_to_skip(item.nodeid):
            item.add_marker(pytest.mark.skip(reason=f"not on a device: {reason}"))


@pytest.fixture(scope="session")
def cuda():
    """CuPy if a GPU works, else the stand-in for it."""
    return device_mode.best()
