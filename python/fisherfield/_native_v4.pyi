from ._native_generic import *  # noqa: F403
