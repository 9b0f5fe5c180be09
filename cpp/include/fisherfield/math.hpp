// Elementary functions without branches or tables, so that loops over them vectorise at every instruction-set level.
//
// Compiles for the host and for CUDA (NVRTC included). Polynomials are minimax on the interval stated beside them;
// "error" is their relative error before rounding.
#pragma once

#if !defined(__CUDACC_RTC__)
#include <math.h>
#include <string.h>
#endif

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define FISHERFIELD_HD __host__ __device__
#else
#define FISHERFIELD_HD
#endif

// A call left in a loop would keep the loop scalar.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define FISHERFIELD_INLINE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define FISHERFIELD_INLINE inline __attribute__((always_inline))
#else
#define FISHERFIELD_INLINE inline
#endif

namespace fisherfield::math {

FISHERFIELD_INLINE double abs(double x) { return ::fabs(x); }
FISHERFIELD_INLINE float abs(float x) { return ::fabsf(x); }
FISHERFIELD_INLINE double copysign(double x, double sign) { return ::copysign(x, sign); }
FISHERFIELD_INLINE float copysign(float x, float sign) { return ::copysignf(x, sign); }
FISHERFIELD_INLINE double standard_sin(double x) { return ::sin(x); }
FISHERFIELD_INLINE float standard_sin(float x) { return ::sinf(x); }
FISHERFIELD_INLINE double standard_cos(double x) { return ::cos(x); }
FISHERFIELD_INLINE float standard_cos(float x) { return ::cosf(x); }

namespace detail {

template <class T>
struct Format;

template <>
struct Format<double> {
  using Bits = unsigned long long;
  using SignedBits = long long;
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr Bits upper_half = ~0ULL << 27;  // keeps 26 significant bits: their square is exact
  static constexpr double integer = 0x1.8p52;      // adding it rounds to an integer, left in the low bits
  static constexpr double exp_underflow = 746.0, gauss_underflow = 27.3;  // e^-x and e^-x^2 are 0 beyond
  static constexpr int shift = 64;  // results near underflow are computed times 2^shift
  static constexpr double unshift = 0x1p-64;
  static constexpr double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 1.9082149292705877e-10;
  static constexpr double erfcx_center = 4;
};

template <>
struct Format<float> {
  using Bits = unsigned int;
  using SignedBits = int;
  static constexpr int mantissa = 23, bias = 127;
  static constexpr Bits upper_half = ~0U << 12;
  static constexpr float integer = 0x1.8p23f;
  static constexpr float exp_underflow = 104.5f, gauss_underflow = 10.2f;
  static constexpr int shift = 32;
  static constexpr float unshift = 0x1p-32f;
  static constexpr float ln2_high = 0.693115234375f, ln2_low = 3.1946183e-05f;
  static constexpr float erfcx_center = 3;
};

template <class T>
FISHERFIELD_INLINE typename Format<T>::Bits as_bits(T x) {
  typename Format<T>::Bits bits;
  memcpy(&bits, &x, sizeof x);
  return bits;
}

template <class T>
FISHERFIELD_INLINE T from_bits(typename Format<T>::Bits bits) {
  T x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

template <class T>
FISHERFIELD_INLINE T upper_half(T x) {
  return from_bits<T>(as_bits(x) & Format<T>::upper_half);
}

// min(x, limit) for x >= 0, whose order is that of the bits. Arithmetic, because compilers turn a comparison with a
// constant into two copies of all that follows, and the unused copy runs into slow denormal numbers.
template <class T>
FISHERFIELD_INLINE T at_most(T x, T limit) {
  using F = Format<T>;
  const typename F::SignedBits excess = as_bits(x) - as_bits(limit);
  return from_bits<T>(as_bits(limit) + (excess & (excess >> (8 * sizeof(T) - 1))));
}

// c0 + c2 z + c4 z^2 + ..., every second coefficient
template <class T>
FISHERFIELD_INLINE T even_part(T, T c0) {
  return c0;
}
template <class T>
FISHERFIELD_INLINE T even_part(T, T c0, T) {
  return c0;
}
template <class T, class... Rest>
FISHERFIELD_INLINE T even_part(T z, T c0, T, Rest... rest) {
  return c0 + z * even_part(z, rest...);
}

// c0 + c1 x + c2 x^2 + ...; even and odd powers apart, which halves the chain of dependent operations.
template <class T, class... Rest>
FISHERFIELD_INLINE T polynomial(T x, T c0, Rest... rest) {
  const T z = x * x;
  return even_part(z, c0, rest...) + x * even_part(z, rest...);
}

// (e^r - 1 - r) / r^2 for |r| < 0.3467; errors of e^r - 1: 1.8e-17, 1.3e-8.
FISHERFIELD_INLINE double expm1_tail(double r) {
  return polynomial(r, 0.5000000000000006, 0.16666666666666588, 0.041666666666576604, 0.00833333333338966,
                    0.0013888888931618388, 0.00019841269718816424, 2.480150520532669e-05, 2.7557407653634895e-06,
                    2.7626066555791714e-07, 2.5053763210772305e-08);
}
FISHERFIELD_INLINE float expm1_tail(float r) {
  return polynomial(r, 0.49999997f, 0.16666543f, 0.041667204f, 0.008366534f, 0.001388221f);
}

// (2 atanh(s) - 2 s) / s^3 in z = s^2 < 1/9; errors of 2 atanh(s): 1.3e-18, 4.6e-9.
FISHERFIELD_INLINE double atanh_tail(double z) {
  return polynomial(z, 0.6666666666666631, 0.40000000000157243, 0.2857142854785405, 0.22222223969720797,
                    0.18181743925309737, 0.15386559914320005, 0.1330097370876921, 0.12106085226663213,
                    0.08340106209216885, 0.17018566278688752);
}
FISHERFIELD_INLINE float atanh_tail(float z) {
  return polynomial(z, 0.6666641f, 0.40021694f, 0.27999172f, 0.28024453f);
}

// erf(x) / x in z = x^2 < 0.64; errors 3.2e-18, 3.0e-9.
FISHERFIELD_INLINE double erf_core(double z) {
  return polynomial(z, 1.1283791670955126, -0.3761263890318362, 0.11283791670946901, -0.02686617064314079,
                    0.005223977600678095, -0.0008548325221736377, 0.00012055251031355898, -1.4923247465562522e-05,
                    1.6416585658489276e-06, -1.5824216326417378e-07, 1.1068265544154635e-08);
}
FISHERFIELD_INLINE float erf_core(float z) {
  return polynomial(z, 1.1283791f, -0.37612602f, 0.11283113f, -0.026820807f, 0.005085127f, -0.0006535204f);
}

// (x + a) e^(x^2) erfc(x) in t = (x - a) / (x + a), a = erfcx_center, 0 <= x <= gauss_underflow;
// errors 1.8e-17, 2.2e-9.
FISHERFIELD_INLINE double erfcx_core(double t) {
  return polynomial(t, 1.095995661000491, -0.9765487290808824, 0.7732087022652407, -0.5408538313131871,
                    0.33085158787779195, -0.17401093724150468, 0.07638151491420112, -0.02637005331622721,
                    0.006112055602269265, -0.00028095907401071293, -0.0004550523601093148, 0.00017681393048809486,
                    -3.636313662494534e-06, -1.8864686454714938e-05, 4.696715320897476e-06, 1.4325368045584183e-06,
                    -8.484649604899561e-07, -8.69013331327164e-08, 1.2428274468515076e-07, 9.60976215627178e-09,
                    -1.3811587663356767e-08, -2.755714905693975e-09);
}
FISHERFIELD_INLINE float erfcx_core(float t) {
  return polynomial(t, 1.0740069f, -0.8833945f, 0.5902283f, -0.31046596f, 0.11952917f, -0.026840061f, -0.0012270455f,
                    0.0030805788f, -0.0004819948f, -0.0003247198f);
}

// (sin r - r) / r^3 and (cos r - 1 + r^2/2) / r^4 in z = r^2, |r| <= pi/4; errors of sin r and cos r below 4e-18, 4e-9.
FISHERFIELD_INLINE double sin_tail(double z) {
  return polynomial(z, -0.1666666666666663, 0.008333333333322104, -0.00019841269829575192, 2.755731361556281e-06,
                    -2.5050746730215135e-08, 1.5896164075212897e-10);
}
FISHERFIELD_INLINE float sin_tail(float z) { return polynomial(z, -0.16666655f, 0.008332159f, -0.00019515117f); }
FISHERFIELD_INLINE double cos_tail(double z) {
  return polynomial(z, 0.041666666666666595, -0.0013888888888873023, 2.480158728882882e-05, -2.755731417222024e-07,
                    2.0875699827002087e-09, -1.1358481617513741e-11);
}
FISHERFIELD_INLINE float cos_tail(float z) { return polynomial(z, 0.041666646f, -0.0013887315f, 2.4433046e-05f); }

// x - k pi/2, with pi/2 in pieces so short that their products with k are exact (Cody and Waite).
FISHERFIELD_INLINE double minus_quarter_turns(double x, double k) {
  return ((x - k * 1.5707963267341256) - k * 6.077100506303966e-11) - k * 2.0222662487959555e-21;
}
FISHERFIELD_INLINE float minus_quarter_turns(float x, float k) {
  const float r = ((x - k * 1.5703125f) - k * 0.0004825592041015625f) - k * 1.2665987014770508e-06f;
  return ((r - k * 9.89530235528946e-10f) - k * 2.5579538487363607e-12f) - k * 5.390302529957765e-15f;
}

// e^-(high + low) = 2^k (1 + expm1) with |expm1| < 1/2.
template <class T>
struct ExpParts {
  T scale;  // 2^(k + shift)
  T expm1;
};

template <class T>
FISHERFIELD_INLINE ExpParts<T> exp_neg_parts(T high, T low) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  const T x = at_most(high, F::exp_underflow);
  const T rounder = F::integer - x * T(1.4426950408889634074);
  const T k = rounder - F::integer;
  const T r = (-x - k * F::ln2_high) - k * F::ln2_low - low;
  return {from_bits<T>((as_bits(rounder) + Bits(F::bias + F::shift)) << F::mantissa), r + r * r * expm1_tail(r)};
}

template <class T>
FISHERFIELD_INLINE T exp_neg(T high, T low) {
  const ExpParts<T> parts = exp_neg_parts(high, low);
  return (parts.scale + parts.scale * parts.expm1) * Format<T>::unshift;
}

// e^-(scale x^2), the square carried in two parts; vanishes for |x| >= limit.
template <class T>
FISHERFIELD_INLINE T gaussian(T x, T scale, T limit) {
  const T a = at_most(abs(x), limit);
  const T h = upper_half(a);
  return exp_neg(scale * (h * h), scale * ((a - h) * (a + h)));
}

// e^(x^2) erfc(x) for x >= 0, held beyond gauss_underflow.
template <class T>
FISHERFIELD_INLINE T erfcx(T x) {
  constexpr T a = Format<T>::erfcx_center, limit = Format<T>::gauss_underflow;
  const T y = at_most(x, limit);
  const T inverse = T(1) / (y + a);
  return inverse * erfcx_core((y - a) * inverse);
}

// sin(x + quarters pi/2) for |x| <= trigonometric_limit.
template <class T>
FISHERFIELD_INLINE T sin_quarters(T x, unsigned quarters) {
  using F = Format<T>;
  using Bits = typename F::Bits;
  const T rounder = x * T(0.63661977236758134308) + F::integer;
  const Bits turn = as_bits(rounder) + quarters;
  const T r = minus_quarter_turns(x, rounder - F::integer);
  const T z = r * r;
  const T sine = r + r * z * sin_tail(z);
  const T cosine = (T(1) - T(0.5) * z) + z * z * cos_tail(z);
  const Bits sign = (turn & 2) << (8 * sizeof(T) - 2);
  return from_bits<T>(as_bits((turn & 1) ? cosine : sine) ^ sign);
}

}  // namespace detail

// e^-x for x >= 0.
template <class T>
FISHERFIELD_INLINE T exp_neg(T x) {
  return detail::exp_neg(x, T(0));
}

// 1 - e^-x for x >= 0.
template <class T>
FISHERFIELD_INLINE T one_minus_exp_neg(T x) {
  const detail::ExpParts<T> parts = detail::exp_neg_parts(x, T(0));
  const T scale = parts.scale * detail::Format<T>::unshift;
  return (T(1) - scale) - scale * parts.expm1;
}

// log(1 + x) for 0 <= x <= 1.
template <class T>
FISHERFIELD_INLINE T log1p_unit(T x) {
  const T s = x / (T(2) + x);
  const T z = s * s;
  return T(2) * s + s * z * detail::atanh_tail(z);
}

// e^(-x^2)
template <class T>
FISHERFIELD_INLINE T exp_neg_square(T x) {
  return detail::gaussian(x, T(1), detail::Format<T>::gauss_underflow);
}

// e^(-x^2/2)
template <class T>
FISHERFIELD_INLINE T exp_neg_half_square(T x) {
  return detail::gaussian(x, T(0.5), T(1.41421356237309504880) * detail::Format<T>::gauss_underflow);
}

template <class T>
FISHERFIELD_INLINE T erf(T x) {
  const T a = abs(x);
  const T small = x * detail::erf_core(x * x);
  const T large = T(1) - exp_neg_square(x) * detail::erfcx(a);
  return a < T(0.8) ? small : copysign(large, x);
}

// Distribution function of the standard normal, with full relative accuracy in the left tail.
template <class T>
FISHERFIELD_INLINE T normal_cdf(T x) {
  const T tail = T(0.5) * exp_neg_half_square(x) * detail::erfcx(T(0.70710678118654752440) * abs(x));
  return x < 0 ? tail : T(1) - tail;
}

// Bound on |x| for sin and cos below; larger arguments are for the exact functions of the standard library.
template <class T>
inline constexpr T trigonometric_limit = sizeof(T) == 8 ? T(1e6) : T(1e5);

template <class T>
FISHERFIELD_INLINE T sin(T x) {
  return detail::sin_quarters(x, 0);
}

template <class T>
FISHERFIELD_INLINE T cos(T x) {
  return detail::sin_quarters(x, 1);
}

}  // namespace fisherfield::math
