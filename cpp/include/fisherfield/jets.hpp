// Jets of the activation functions: value, first and second derivative at a point, for the host and for CUDA.
//
// Conventions where a derivative does not exist: relu, leaky_relu, elu and selu take the left derivative at 0, abs
// takes 0, hard_tanh takes 0 at -1 and 1 and shifted_relu 0 at -1/2. Second derivatives leave out the delta functions
// of the kinks.
//
// Errors stay within 6 units of the last place for values, 8 for first and 10 for second derivatives, tails included;
// where the terms of a derivative of gelu or silu cancel, the unit is that of the larger term, and results below the
// smallest normal number carry its absolute error.
#pragma once

#include "math.hpp"

namespace fisherfield {

enum class ActivationKind : int {
  linear,
  relu,
  leaky_relu,
  erf,
  tanh,
  sigmoid,
  hard_tanh,
  shifted_relu,
  gelu,
  silu,
  softplus,
  elu,
  selu,
  sin,
  cos,
  abs
};

// parameter: slope of leaky_relu, alpha of elu; ignored by the others.
struct Activation {
  ActivationKind kind;
  double parameter = 0.0;
};

template <class T>
struct Jet {
  T value, first, second;
};

namespace jets {

// Largest magnitude that factors of a vanishing exponential may take: keeps inf * 0 out of the tails.
template <class T>
FISHERFIELD_INLINE T clamp_tail(T u) {
  return math::copysign(math::detail::at_most(math::abs(u), T(1e9)), u);
}

struct Linear {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    return {u, T(1), T(0)};
  }
};

struct LeakyRelu {
  double slope;
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const T s = T(slope);
    return {u > 0 ? u : s * u, u > 0 ? T(1) : s, T(0)};
  }
};

struct Relu {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    return {u > 0 ? u : T(0), u > 0 ? T(1) : T(0), T(0)};
  }
};

struct HardTanh {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const bool inside = math::abs(u) < 1;
    return {inside ? u : math::copysign(T(1), u), inside ? T(1) : T(0), T(0)};
  }
};

// max(u, -1/2)
struct ShiftedRelu {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const bool above = u > T(-0.5);
    return {above ? u : T(-0.5), above ? T(1) : T(0), T(0)};
  }
};

struct Abs {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    return {math::abs(u), u > 0 ? T(1) : (u < 0 ? T(-1) : T(0)), T(0)};
  }
};

struct Erf {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const T first = T(1.12837916709551257390) * math::exp_neg_square(u);
    return {math::erf(u), first, T(-2) * clamp_tail(u) * first};
  }
};

struct Tanh {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const T x = T(2) * math::abs(u);
    const T e = math::exp_neg(x);
    const T inverse = T(1) / (T(1) + e);
    const T value = math::copysign(math::one_minus_exp_neg(x) * inverse, u);
    const T first = T(4) * e * inverse * inverse;  // sech^2: no cancellation in the tails
    return {value, first, T(-2) * value * first};
  }
};

struct Sigmoid {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const T x = math::abs(u);
    const T e = math::exp_neg(x);
    const T inverse = T(1) / (T(1) + e);
    const T first = e * inverse * inverse;
    const T tanh_half = math::copysign(math::one_minus_exp_neg(x) * inverse, u);
    return {u < 0 ? e * inverse : inverse, first, -tanh_half * first};
  }
};

// u sigmoid(u)
struct Silu {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const T x = math::abs(u), v = clamp_tail(u);
    const T e = math::exp_neg(x);
    const T inverse = T(1) / (T(1) + e);
    const T up = u < 0 ? e * inverse : inverse;    // sigmoid(u)
    const T down = u < 0 ? inverse : e * inverse;  // sigmoid(-u)
    const T tanh_half = math::copysign(math::one_minus_exp_neg(x) * inverse, u);
    return {(u > 0 ? u : v) * up, up * (T(1) + v * down), up * down * (T(2) - v * tanh_half)};
  }
};

// log(1 + e^u)
struct Softplus {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const Jet<T> s = Sigmoid{}(u);
    return {(u > 0 ? u : T(0)) + math::log1p_unit(math::exp_neg(math::abs(u))), s.value, s.first};
  }
};

// u Phi(u), Phi the distribution function of the standard normal
struct Gelu {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const T v = clamp_tail(u);
    const T density = T(0.39894228040143267794) * math::exp_neg_half_square(u);
    const T distribution = math::normal_cdf(u);
    return {(u > 0 ? u : v) * distribution, distribution + v * density, density * (T(2) - v * v)};
  }
};

struct Elu {
  double alpha, scale;
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    const T a = T(scale * alpha);
    const T below = T(0.5) * (math::abs(u) - u);  // max(-u, 0)
    const T e = a * math::exp_neg(below);
    return {u > 0 ? T(scale) * u : -a * math::one_minus_exp_neg(below), u > 0 ? T(scale) : e, u > 0 ? T(0) : e};
  }
};

struct Sin {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    return {math::sin(u), math::cos(u), -math::sin(u)};
  }
};

struct Cos {
  template <class T>
  FISHERFIELD_INLINE Jet<T> operator()(T u) const {
    return {math::cos(u), -math::sin(u), -math::cos(u)};
  }
};

// Whether a jet holds for these arguments only up to trigonometric_limit, and what it is beyond, by the standard
// library.
template <class J>
inline constexpr bool is_trigonometric = false;
template <>
inline constexpr bool is_trigonometric<Sin> = true;
template <>
inline constexpr bool is_trigonometric<Cos> = true;

template <class T>
FISHERFIELD_HD Jet<T> beyond_limit(const Sin&, T u) {
  const T s = math::standard_sin(u), c = math::standard_cos(u);
  return {s, c, -s};
}
template <class T>
FISHERFIELD_HD Jet<T> beyond_limit(const Cos&, T u) {
  const T s = math::standard_sin(u), c = math::standard_cos(u);
  return {c, -s, -c};
}

// The jet at any u: that of a NaN is NaN.
template <class J, class T>
FISHERFIELD_INLINE Jet<T> at(const J& jet, T u) {
  if (!(u == u)) return {u, u, u};
  if constexpr (is_trigonometric<J>)
    if (!(math::abs(u) <= math::trigonometric_limit<T>)) return beyond_limit(jet, u);
  return jet(u);
}

}  // namespace jets

// Calls f with the jet functor of phi, on the host or in a kernel: f says where.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#pragma nv_exec_check_disable
#endif
template <class F>
FISHERFIELD_HD auto dispatch(const Activation& phi, F&& f) {
  switch (phi.kind) {
    case ActivationKind::relu:
      return f(jets::Relu{});
    case ActivationKind::leaky_relu:
      return f(jets::LeakyRelu{phi.parameter});
    case ActivationKind::erf:
      return f(jets::Erf{});
    case ActivationKind::tanh:
      return f(jets::Tanh{});
    case ActivationKind::sigmoid:
      return f(jets::Sigmoid{});
    case ActivationKind::hard_tanh:
      return f(jets::HardTanh{});
    case ActivationKind::shifted_relu:
      return f(jets::ShiftedRelu{});
    case ActivationKind::gelu:
      return f(jets::Gelu{});
    case ActivationKind::silu:
      return f(jets::Silu{});
    case ActivationKind::softplus:
      return f(jets::Softplus{});
    case ActivationKind::elu:
      return f(jets::Elu{phi.parameter, 1.0});
    case ActivationKind::selu:
      return f(jets::Elu{1.6732632423543772848170429916717, 1.0507009873554804934193349852946});
    case ActivationKind::sin:
      return f(jets::Sin{});
    case ActivationKind::cos:
      return f(jets::Cos{});
    case ActivationKind::abs:
      return f(jets::Abs{});
    case ActivationKind::linear:
      break;
  }
  return f(jets::Linear{});
}

}  // namespace fisherfield
