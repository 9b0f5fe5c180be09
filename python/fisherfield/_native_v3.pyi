from ._native_generic import *
