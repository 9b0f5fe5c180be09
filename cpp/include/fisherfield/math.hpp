// Elementary functions of the activations.
#pragma once

#include <cmath>

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define FISHERFIELD_HD __host__ __device__
#else
#define FISHERFIELD_HD
#endif

namespace fisherfield::math {

template <class T>
FISHERFIELD_HD inline T abs(T x) { return std::fabs(x); }
template <class T>
FISHERFIELD_HD inline T copysign(T x, T y) { return std::copysign(x, y); }
template <class T>
FISHERFIELD_HD inline T exp(T x) { return std::exp(x); }
template <class T>
FISHERFIELD_HD inline T expm1(T x) { return std::expm1(x); }
template <class T>
FISHERFIELD_HD inline T log1p(T x) { return std::log1p(x); }
template <class T>
FISHERFIELD_HD inline T erf(T x) { return std::erf(x); }
template <class T>
FISHERFIELD_HD inline T sin(T x) { return std::sin(x); }
template <class T>
FISHERFIELD_HD inline T cos(T x) { return std::cos(x); }

// exp(-x^2), exp(-x^2/2) and the normal distribution function.
template <class T>
FISHERFIELD_HD inline T exp_neg_square(T x) { return std::exp(-x * x); }
template <class T>
FISHERFIELD_HD inline T exp_neg_half_square(T x) { return std::exp(-x * x / 2); }
template <class T>
FISHERFIELD_HD inline T normal_cdf(T x) { return std::erfc(-x * T(0.70710678118654752440)) / 2; }

}  // namespace fisherfield::math
