// Activation functions with first and second derivative, evaluated over arrays.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "jets.hpp"

namespace fisherfield {

using Index = std::ptrdiff_t;

inline constexpr std::array<std::pair<const char*, ActivationKind>, 16> activation_names{{
    {"linear", ActivationKind::linear},
    {"relu", ActivationKind::relu},
    {"leaky_relu", ActivationKind::leaky_relu},
    {"erf", ActivationKind::erf},
    {"tanh", ActivationKind::tanh},
    {"sigmoid", ActivationKind::sigmoid},
    {"hard_tanh", ActivationKind::hard_tanh},
    {"shifted_relu", ActivationKind::shifted_relu},
    {"gelu", ActivationKind::gelu},
    {"silu", ActivationKind::silu},
    {"softplus", ActivationKind::softplus},
    {"elu", ActivationKind::elu},
    {"selu", ActivationKind::selu},
    {"sin", ActivationKind::sin},
    {"cos", ActivationKind::cos},
    {"abs", ActivationKind::abs},
}};

// Points where phi or its derivatives jump (integration splits there), ascending.
inline std::vector<double> kinks(const Activation& phi) {
  switch (phi.kind) {
    case ActivationKind::relu:
    case ActivationKind::leaky_relu:
    case ActivationKind::elu:
    case ActivationKind::selu:
    case ActivationKind::abs:
      return {0.0};
    case ActivationKind::hard_tanh:
      return {-1.0, 1.0};
    case ActivationKind::shifted_relu:
      return {-0.5};
    default:
      return {};
  }
}

// phi(-u) = -phi(u) for all u.
inline bool is_odd(const Activation& phi) {
  switch (phi.kind) {
    case ActivationKind::linear:
    case ActivationKind::erf:
    case ActivationKind::tanh:
    case ActivationKind::hard_tanh:
    case ActivationKind::sin:
      return true;
    case ActivationKind::leaky_relu:
      return phi.parameter == 1.0;
    default:
      return false;
  }
}

namespace detail {

template <class T>
inline constexpr Index block = 1024 / sizeof(T);

// sin and cos leave large arguments to the standard library.
template <class J, class T>
void patch_large(const J& jet, const T* x, T (*y)[block<T>]) {
  const auto large = [](T u) { return !(math::abs(u) <= math::trigonometric_limit<T>); };
  typename math::detail::Format<T>::Bits any = 0;
  for (Index i = 0; i < block<T>; ++i) any |= large(x[i]) ? 1 : 0;
  for (Index i = 0; any && i < block<T>; ++i) {
    if (!large(x[i])) continue;
    const Jet<T> at = jets::beyond_limit(jet, x[i]);
    y[0][i] = at.value, y[1][i] = at.first, y[2][i] = at.second;
  }
}

template <class T>
void copy_block(const T* from, Index count, T* to) {
  if (count == block<T>)
    std::memcpy(to, from, sizeof(T) * block<T>);
  else
    std::copy_n(from, count, to);
}

// Entries pass through buffers of a fixed size, so that one and the same vector loop serves every entry: the answer for
// u[i] depends neither on i nor on n, and outputs may alias u.
template <int order, class T, class J>
void evaluate_blocks(const J& jet, Index n, const T* u, T* value, T* first, T* second) {
  alignas(64) T x[block<T>] = {}, y[3][block<T>];
  for (Index start = 0; start < n; start += block<T>) {
    const Index count = std::min(block<T>, n - start);
    copy_block(u + start, count, x);
    for (Index i = 0; i < block<T>; ++i) {
      const Jet<T> at = jet(x[i]);
      const bool valid = x[i] == x[i];
      y[0][i] = valid ? at.value : x[i];
      if constexpr (order >= 1) y[1][i] = valid ? at.first : x[i];
      if constexpr (order >= 2) y[2][i] = valid ? at.second : x[i];
    }
    if constexpr (jets::is_trigonometric<J>) patch_large(jet, x, y);
    T* const out[] = {value, first, second};
    for (int k = 0; k <= order; ++k)
      if (out[k]) copy_block(y[k], count, out[k] + start);
  }
}

}  // namespace detail

// Values and derivatives of phi at u[0..n); any of the three outputs may be null, each may be u itself.
template <class T>
void evaluate(const Activation& phi, Index n, const T* u, T* value, T* first, T* second) {
  dispatch(phi, [=](const auto& jet) {
    if (second)
      detail::evaluate_blocks<2>(jet, n, u, value, first, second);
    else if (first)
      detail::evaluate_blocks<1>(jet, n, u, value, first, second);
    else
      detail::evaluate_blocks<0>(jet, n, u, value, first, second);
  });
}

}  // namespace fisherfield
