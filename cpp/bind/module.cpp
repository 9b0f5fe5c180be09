// One extension module per instruction-set level; every area registers its functions in a file of its own.
#include "bind.hpp"

PYBIND11_MODULE(FISHERFIELD_MODULE, m, pybind11::mod_gil_not_used()) {
  m.doc() = "Compiled kernels of fisherfield.";
  m.attr("isa") = FISHERFIELD_ISA;
  m.attr("compiler") = FISHERFIELD_COMPILER;
  m.attr("eigen") = EIGEN_VERSION_STRING;
  bind_activations(m);
  bind_theory(m);
  bind_fisher(m);
  bind_descent(m);
}
