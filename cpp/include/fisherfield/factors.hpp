// The factored Jacobian: for a dense layer the gradient of seed r at sample t is the outer product B[r, t] (x) A[t].
#pragma once

#include <fisherfield/product.hpp>
#include <vector>

namespace fisherfield {

// One layer: inputs A (samples x inputs) and backpropagated seeds B (seeds x samples x outputs), row-major.
// A layer with biases has one more input that is constantly 1.
template <class T>
struct LayerFactors {
  const T* A;
  const T* B;
  Index inputs, outputs;
  bool bias;
};

template <class T>
struct Factors {
  Index seeds, samples;
  std::vector<LayerFactors<T>> layers;
};

}  // namespace fisherfield
