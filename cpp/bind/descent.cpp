// Bindings of training: runs of gradient descent, and the team of threads that share their work.
#include <fisherfield/descent.hpp>
#include <fisherfield/team.hpp>
#include <optional>
#include <vector>

#include "bind.hpp"

using fisherfield::Index;
using fisherfield::Team;

namespace {

template <class T>
using Optional = std::optional<Array<T>>;

// (W, b, vW, vb, phi, skip, out, slope, pre, delta)
template <class T>
using Layer = std::tuple<Array<T>, Optional<T>, Array<T>, Optional<T>, std::optional<fisherfield::Activation>, bool,
                         Array<T>, Optional<T>, Optional<T>, Array<T>>;

// (inputs, losses, gradient, transposed)
template <class T>
using Workspace = std::tuple<Optional<T>, Array<double>, Array<T>, Array<T>>;

template <class T>
T* pointer(Optional<T>& array) {
  return array ? array->mutable_data() : nullptr;
}

template <class T>
std::vector<fisherfield::DescentLayer<T>> read_layers(std::vector<Layer<T>>& layers, Index batch) {
  std::vector<fisherfield::DescentLayer<T>> found;
  for (auto& [W, b, vW, vb, phi, skip, out, slope, pre, delta] : layers) {
    require(W.ndim() == 2 && vW.size() == W.size(), "W, vW");
    const Index inputs = W.shape(1), outputs = W.shape(0);
    require(found.empty() || found.back().outputs == inputs, "W of successive layers");
    require(!b == !vb && (!b || (b->size() == outputs && vb->size() == outputs)), "b, vb");
    require(out.size() == batch * outputs && delta.size() == out.size(), "out, delta");
    require((!slope || slope->size() == out.size()) && (!pre || pre->size() == out.size()), "slope, pre");
    require(!skip || (inputs == outputs && !found.empty() && found.back().pre), "skip");
    found.push_back({inputs, outputs, W.mutable_data(), pointer(b), vW.mutable_data(), pointer(vb),
                     phi ? &*phi : nullptr, skip, out.mutable_data(), pointer(slope), pointer(pre),
                     delta.mutable_data()});
  }
  require(!found.empty(), "layers");
  for (std::size_t l = 0; l + 1 < found.size(); ++l) require(found[l].slope, "slope of a hidden layer");
  return found;
}

template <class T>
fisherfield::Workspace<T> read_workspace(Workspace<T>& workspace,
                                         const std::vector<fisherfield::DescentLayer<T>>& layers, Index batch,
                                         bool gathers) {
  auto& [inputs, losses, gradient, transposed] = workspace;
  Index weights = 0, outputs = 0;
  for (const auto& layer : layers) {
    weights = std::max(weights, layer.inputs * layer.outputs);
    outputs = std::max(outputs, layer.outputs);
  }
  require(!gathers || (inputs && inputs->size() == batch * layers.front().inputs), "inputs");
  require(losses.size() == batch && gradient.size() >= weights && transposed.size() == 2 * batch * outputs,
          "workspace");
  T* const t = transposed.mutable_data();
  return {pointer(inputs), losses.mutable_data(), gradient.mutable_data(), {t, t + batch * outputs}};
}

template <class T>
Index descend(std::vector<Layer<T>> layers, Workspace<T> workspace, const Array<T>& X, const Optional<T>& targets,
              const Optional<std::int64_t>& labels, const Optional<std::int64_t>& rows, const Array<double>& rates,
              double momentum, double limit, Array<double>& losses, Index threads, Team& team) {
  const Index steps = rates.size();
  require(X.ndim() == 2 && (!rows || (rows->ndim() == 2 && rows->shape(0) == steps)), "X, rows");
  const Index batch = rows ? rows->shape(1) : X.shape(0);
  const auto read = read_layers<T>(layers, batch);
  require(X.shape(1) == read.front().inputs, "X");
  require(!targets != !labels, "targets or labels");
  require(!targets || targets->size() == X.shape(0) * read.back().outputs, "targets");
  require(!labels || labels->size() == X.shape(0), "labels");
  require(losses.size() == steps && threads >= 1 && 2 * threads <= Team::max_blocks, "losses, threads");
  const auto work = read_workspace<T>(workspace, read, batch, rows.has_value());
  const fisherfield::Samples<T> samples{X.data(), targets ? targets->data() : nullptr,
                                        labels ? labels->data() : nullptr};
  const std::int64_t* const order = rows ? rows->data() : nullptr;
  const double* const rate = rates.data();
  double* const loss = losses.mutable_data();
  py::gil_scoped_release release;
  fisherfield::Descent<T> descent(read, batch, samples, work, threads, team);
  for (Index k = 0; k < steps; ++k) {
    loss[k] =
        descent.step(order ? order + k * batch : nullptr, static_cast<T>(rate[k]), static_cast<T>(momentum), limit);
    if (!(loss[k] <= limit)) return k;
  }
  return steps;
}

template <class T>
void register_descent(py::module_& m) {
  m.def("descend", &descend<T>, py::arg("layers").noconvert(), py::arg("workspace").noconvert(),
        py::arg("X").noconvert(), py::arg("targets").noconvert(), py::arg("labels").noconvert(),
        py::arg("rows").noconvert(), py::arg("rates").noconvert(), py::arg("momentum"), py::arg("limit"),
        py::arg("losses").noconvert(), py::arg("threads"), py::arg("team"),
        "Steps of gradient descent in place, one per rate, until a loss is above the limit; returns how many were "
        "taken. losses[k] is the loss before step k.");
}

}  // namespace

void bind_descent(py::module_& m) {
  py::class_<Team>(m, "Team", "Threads that share the work of one call.")
      .def(py::init<>())
      .def("help", &Team::help, py::call_guard<py::gil_scoped_release>(), "Work until dismissed.")
      .def("dismiss", &Team::dismiss, "Send the helpers home; the call they help must be over.");
  register_descent<double>(m);
  register_descent<float>(m);
}
