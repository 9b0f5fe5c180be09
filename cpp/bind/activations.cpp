#include "bind.hpp"

void bind_activations(py::module_&) {}
