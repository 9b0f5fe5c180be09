// Activation functions with first and second derivative, evaluated over arrays.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace fisherfield {

using Index = std::ptrdiff_t;

enum class ActivationKind : int {
  linear, relu, leaky_relu, erf, tanh, sigmoid, hard_tanh, gelu, silu, softplus, elu, selu, sin, cos, abs
};

// parameter: slope of leaky_relu, alpha of elu; ignored by the others.
struct Activation {
  ActivationKind kind;
  double parameter = 0.0;
};

// Values and derivatives of phi at u[0..n); any of the three outputs may be null.
template <class T>
void evaluate(const Activation& phi, Index n, const T* u, T* value, T* first, T* second);

// Points where phi or its derivatives jump (integration splits there), ascending.
inline std::vector<double> kinks(const Activation& phi);

}  // namespace fisherfield
