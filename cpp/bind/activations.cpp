#include "fisherfield/activations.hpp"

#include "bind.hpp"

namespace {

using fisherfield::Activation;
using fisherfield::Index;

Activation make_activation(const std::string& name, double parameter) {
  for (const auto& [known, kind] : fisherfield::activation_names)
    if (name == known) return {kind, parameter};
  throw std::invalid_argument("fisherfield kernel called with an unknown activation: " + name);
}

// (phi, phi', ...) up to the given order, each of the shape of u.
template <class T>
py::tuple evaluate(const Activation& phi, const Array<T>& u, int order) {
  require(order >= 0 && order <= 2, "order");
  const std::vector<py::ssize_t> shape(u.shape(), u.shape() + u.ndim());
  py::tuple result(order + 1);
  T* out[3] = {};
  for (int k = 0; k <= order; ++k) {
    Array<T> array(shape);
    out[k] = array.mutable_data();
    result[k] = std::move(array);
  }
  const T* in = u.data();
  const Index n = u.size();
  py::gil_scoped_release release;
  fisherfield::evaluate<T>(phi, n, in, out[0], out[1], out[2]);
  return result;
}

}  // namespace

void bind_activations(py::module_& m) {
  py::class_<Activation>(m, "Activation", "A built-in activation function.")
      .def(py::init(&make_activation), py::arg("name"), py::arg("parameter") = 0.0)
      .def_property_readonly("kinks",
                             [](const Activation& phi) { return py::tuple(py::cast(fisherfield::kinks(phi))); })
      .def_property_readonly("is_odd", &fisherfield::is_odd)
      .def_property_readonly("kind", [](const Activation& phi) { return static_cast<int>(phi.kind); })
      .def_readonly("parameter", &Activation::parameter)
      .def("evaluate", &evaluate<double>, py::arg("u").noconvert(), py::arg("order") = 1,
           "Values and derivatives up to the order (0, 1 or 2) at every entry of u.")
      .def("evaluate", &evaluate<float>, py::arg("u").noconvert(), py::arg("order") = 1);
  py::tuple names(fisherfield::activation_names.size());
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = fisherfield::activation_names[i].first;
  m.attr("activation_names") = names;
}
