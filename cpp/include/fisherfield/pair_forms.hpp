// Moments of a nonlinearity over one pair of correlated Gaussian inputs, for the host and for CUDA (NVRTC included):
// closed forms, and what Mehler's series becomes once it is summed.
//
// A closed form takes E u^2, E uv, E v^2 and the roots of E u^2 and E v^2.
#pragma once

#include "jets.hpp"
#include "math.hpp"

namespace fisherfield {

// Correlation from a covariance: within rounding of +-1 it is +-1, and 0 where a variance vanishes.
FISHERFIELD_INLINE double correlation(double cov, double scale) {
  if (scale == 0) return 0;
  const double rho = cov / scale;
  return 1 - math::abs(rho) < 1e-15 ? math::copysign(1.0, rho) : rho;
}

namespace pair_forms {

inline constexpr double pi = 3.14159265358979323846;

// E phi(u)phi(v) and E phi'(u)phi'(v).
struct Pair {
  double value, first;
};

// Angle in [-pi/2, pi/2] from its sine and its cosine >= 0, accurate at both ends.
FISHERFIELD_INLINE double angle(double sine, double cosine) {
  const double size = math::abs(sine);
  const bool steep = size > 0.5;
  // asin(x) = pi/2 - 2 asin(sqrt((1-x)/2)) brings the argument below 1/2; minimax polynomial in x^2 there.
  const double z = steep ? 0.5 * cosine * cosine / (1 + size) : size * size, x = steep ? ::sqrt(z) : size;
  double p = 0.0287578513674215647;
  p = p * z - 0.0148518870712472032;
  p = p * z + 0.0174008794426940224;
  p = p * z + 0.0054575067186403583;
  p = p * z + 0.0103228143501857793;
  p = p * z + 0.0114791774151849059;
  p = p * z + 0.0139712129735529333;
  p = p * z + 0.0173523927208699729;
  p = p * z + 0.0223721729421498879;
  p = p * z + 0.0303819441385312473;
  p = p * z + 0.0446428571463554298;
  p = p * z + 0.0749999999999843293;
  p = p * z + 0.166666666666666678;
  const double y = x + x * z * p;
  return math::copysign(steep ? 0.5 * pi - 2 * y : y, sine);
}

// phi(u) = linear * u + absolute * |u|: linear, relu, leaky_relu, abs. An input of variance zero has derivative
// phi'(0).
struct Homogeneous {
  double linear, absolute, first_at_zero;
  FISHERFIELD_INLINE Pair operator()(double, double b, double, double su, double sv) const {
    const double scale = su * sv, rho = correlation(b, scale), even = absolute * absolute * (2 / pi);
    const double root = ::sqrt((1 - rho) * (1 + rho)), arcsine = angle(rho, root);
    const double first = scale == 0 ? (su == 0 ? first_at_zero : linear) * (sv == 0 ? first_at_zero : linear)
                                    : linear * linear + even * arcsine;
    return {linear * linear * b + even * scale * (root + rho * arcsine), first};
  }
};

struct Erf {
  FISHERFIELD_INLINE Pair operator()(double a, double b, double c, double, double) const {
    // (1 + 2a)(1 + 2c) - 4b^2, positive
    const double rest = 4 * (a * c - b * b) + 2 * (a + c) + 1;
    const double root = ::sqrt(rest), scale = 1 / ::sqrt((1 + 2 * a) * (1 + 2 * c));
    return {2 / pi * angle(2 * b * scale, root * scale), 4 / pi / root};
  }
};

// E sin u sin v = exp(-(a+c)/2) sinh b and E cos u cos v = exp(-(a+c)/2) cosh b.
struct Sine {
  bool cosine;
  FISHERFIELD_INLINE Pair operator()(double a, double b, double c, double, double) const {
    const double size = math::abs(b), leading = 0.5 * ::exp(size - 0.5 * (a + c)), ratio = ::expm1(-2 * size);
    const double odd = math::copysign(-leading * ratio, b), even = leading * (2 + ratio);
    return cosine ? Pair{even, odd} : Pair{odd, even};
  }
};

// Where phi'' is delta functions at kinks, Price's theorem leaves single integrals over the correlation rho = sin(end).
// With kinks at distances x and y from the mean, in standard deviations, and on one side of it or on both,
//
//   like(t) = (x^2 - 2 x y sin t + y^2) / (2 cos^2 t),   unlike(t) = (x^2 + 2 x y sin t + y^2) / (2 cos^2 t),
//
// the normal density at the two kinks is e^-like or e^-unlike up to a factor.
struct KinkIntegrals {
  double flat = 0, tilted = 0;  // (1/pi) int_0^end density dt, (1/pi) int_0^end density (rho - sin t) dt

  // The integrand, density(like, unlike), is smooth, but may fall off within |x - y| of t = pi/2: panels halve towards
  // there. rho in [0, 1].
  template <class Density>
  FISHERFIELD_HD KinkIntegrals(double x, double y, double rho, const Density& density) {
    const double end = ::asin(rho);
    if (end > 0)
      for (double low = 0, width = 0.25 * pi; low < end && width > 1e-17; low += width, width /= 2)
        add_panel(x, y, rho, low, low + width < end ? low + width : end, density);
  }

 private:
  // The Gauss-Legendre rule of 16 points.
  template <class Density>
  FISHERFIELD_HD void add_panel(double x, double y, double rho, double low, double high, const Density& density) {
    constexpr double nodes[16] = {-0.9894009349916499, -0.9445750230732326,  -0.8656312023878318, -0.755404408355003,
                                  -0.6178762444026438, -0.45801677765722737, -0.2816035507792589, -0.09501250983763744,
                                  0.09501250983763744, 0.2816035507792589,   0.45801677765722737, 0.6178762444026438,
                                  0.755404408355003,   0.8656312023878318,   0.9445750230732326,  0.9894009349916499};
    constexpr double weights[16] = {
        0.027152459411754096, 0.062253523938647894, 0.09515851168249279,  0.12462897125553388,
        0.14959598881657674,  0.16915651939500254,  0.18260341504492358,  0.1894506104550685,
        0.1894506104550685,   0.18260341504492358,  0.16915651939500254,  0.14959598881657674,
        0.12462897125553388,  0.09515851168249279,  0.062253523938647894, 0.027152459411754096};
    const double half = 0.5 * (high - low), apart = 0.5 * (x - y) * (x - y), together = x * y;
    double sine[16], weight[16];
    for (int i = 0; i < 16; ++i) {
      const double t = low + half * (1 + nodes[i]), s = math::sin(t), c = math::cos(t), over = 1 / (c * c);
      const double like = apart * over + together / (1 + s), unlike = (apart + together * (1 + s)) * over;
      sine[i] = s;
      weight[i] = half / pi * weights[i] * density(like, unlike);
    }
    for (int i = 0; i < 16; ++i) {
      flat += weight[i];
      tilted += weight[i] * (rho - sine[i]);
    }
  }
};

// hard_tanh, kinks at -1 and 1: with I the integral of e^-like - e^-unlike and I' the tilted one,
//
//   E phi'phi' = E phi' E phi' + I,   E phi phi = sqrt(ac) (rho E phi' E phi' + I').
struct HardTanh {
  FISHERFIELD_HD Pair operator()(double, double b, double, double su, double sv) const {
    const double scale = su * sv, rho = correlation(b, scale), size = math::abs(rho);
    const double apart = ::erf(::sqrt(0.5) / su) * ::erf(::sqrt(0.5) / sv);
    const KinkIntegrals add(1 / su, 1 / sv, size,
                            [](double like, double unlike) { return math::exp_neg(like) - math::exp_neg(unlike); });
    return {math::copysign(scale * (size * apart + add.tilted), rho), apart + add.flat};
  }
};

// shifted_relu, a kink at -1/2: with I the integral of e^-like / 2, or of -e^-unlike / 2 up to |rho| for negative rho,
// and I' the tilted one, whose sign stays,
//
//   E phi'phi' = E phi' E phi' + I,   E phi phi = E phi E phi + sqrt(ac) (rho E phi' E phi' + I').
struct ShiftedRelu {
  FISHERFIELD_HD Pair operator()(double, double b, double, double su, double sv) const {
    const double scale = su * sv, rho = correlation(b, scale);
    const double apart = above(su) * above(sv);
    const KinkIntegrals add(0.5 / su, 0.5 / sv, math::abs(rho),
                            [rho](double like, double unlike) { return 0.5 * math::exp_neg(rho < 0 ? unlike : like); });
    return {mean(su) * mean(sv) + scale * (rho * apart + add.tilted), apart + math::copysign(add.flat, rho)};
  }

 private:
  // P(u > -1/2) and E phi(u) for u ~ N(0, s^2).
  FISHERFIELD_HD static double above(double s) { return 0.5 * ::erfc(-::sqrt(0.125) / s); }
  FISHERFIELD_HD static double mean(double s) {
    return s * ::exp(-0.125 / (s * s)) / ::sqrt(2 * pi) - 0.25 * ::erfc(::sqrt(0.125) / s);
  }
};

// Calls f with the closed form of phi and returns true, or returns false where there is none.
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#pragma nv_exec_check_disable
#endif
template <class F>
FISHERFIELD_HD bool dispatch(const Activation& phi, F&& f) {
  switch (phi.kind) {
    case ActivationKind::linear:
      f(Homogeneous{1, 0, 1});
      return true;
    case ActivationKind::relu:
      f(Homogeneous{0.5, 0.5, 0});
      return true;
    case ActivationKind::abs:
      f(Homogeneous{0, 1, 0});
      return true;
    case ActivationKind::leaky_relu:
      f(Homogeneous{(1 + phi.parameter) / 2, (1 - phi.parameter) / 2, phi.parameter});
      return true;
    case ActivationKind::erf:
      f(Erf{});
      return true;
    case ActivationKind::sin:
      f(Sine{false});
      return true;
    case ActivationKind::cos:
      f(Sine{true});
      return true;
    case ActivationKind::hard_tanh:
      f(HardTanh{});
      return true;
    case ActivationKind::shifted_relu:
      f(ShiftedRelu{});
      return true;
    default:
      return false;
  }
}

// Tails of Mehler's series (mehler.hpp) are known after every so many terms.
inline constexpr int mehler_step = 16;

// Its sums even = sum_k c_2k x^k and odd = sum_k c_(2k+1) x^k, with c_n = e_n(a) e_n(c) / (n + 1) and x = rho^2, and
// their derivatives by x.
struct MehlerSums {
  double even, even_slope, odd, odd_slope;
  // means = E phi(u) E phi(v), scale = sqrt(ac).
  FISHERFIELD_INLINE Pair pair(double means, double scale, double rho, double x) const {
    return {means + scale * (rho * even + x * odd), even + 2 * x * even_slope + 2 * rho * (odd + x * odd_slope)};
  }
};

}  // namespace pair_forms
}  // namespace fisherfield
