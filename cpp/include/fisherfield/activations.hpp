// Activation functions with first and second derivative, evaluated over arrays.
#pragma once

#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "jets.hpp"

namespace fisherfield {

using Index = std::ptrdiff_t;

inline constexpr std::array<std::pair<const char*, ActivationKind>, 15> activation_names{{
    {"linear", ActivationKind::linear},       {"relu", ActivationKind::relu},
    {"leaky_relu", ActivationKind::leaky_relu}, {"erf", ActivationKind::erf},
    {"tanh", ActivationKind::tanh},           {"sigmoid", ActivationKind::sigmoid},
    {"hard_tanh", ActivationKind::hard_tanh}, {"gelu", ActivationKind::gelu},
    {"silu", ActivationKind::silu},           {"softplus", ActivationKind::softplus},
    {"elu", ActivationKind::elu},             {"selu", ActivationKind::selu},
    {"sin", ActivationKind::sin},             {"cos", ActivationKind::cos},
    {"abs", ActivationKind::abs},
}};

// Points where phi or its derivatives jump (integration splits there), ascending.
inline std::vector<double> kinks(const Activation& phi) {
  switch (phi.kind) {
    case ActivationKind::relu:
    case ActivationKind::leaky_relu:
    case ActivationKind::elu:
    case ActivationKind::selu:
    case ActivationKind::abs: return {0.0};
    case ActivationKind::hard_tanh: return {-1.0, 1.0};
    default: return {};
  }
}

// phi(-u) = -phi(u) for all u.
inline bool is_odd(const Activation& phi) {
  switch (phi.kind) {
    case ActivationKind::linear:
    case ActivationKind::erf:
    case ActivationKind::tanh:
    case ActivationKind::hard_tanh:
    case ActivationKind::sin: return true;
    case ActivationKind::leaky_relu: return phi.parameter == 1.0;
    default: return false;
  }
}

// Values and derivatives of phi at u[0..n); any of the three outputs may be null, each may be u itself.
template <class T>
void evaluate(const Activation& phi, Index n, const T* u, T* value, T* first, T* second) {
  dispatch(phi, [=](const auto& jet) {
    for (Index i = 0; i < n; ++i) {
      const T x = u[i];
      const Jet<T> at = jet(x);
      const bool valid = x == x;
      if (value) value[i] = valid ? at.value : x;
      if (first) first[i] = valid ? at.first : x;
      if (second) second[i] = valid ? at.second : x;
    }
  });
}

}  // namespace fisherfield
