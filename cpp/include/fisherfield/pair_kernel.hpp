// Moments of a nonlinearity over pairs of correlated Gaussian inputs of given variances: closed forms.
//
// A kernel is made once for the variances of all inputs and then asked for rows of pairs.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "math.hpp"
#include "moments.hpp"

namespace fisherfield {

// Row-major numbers.
struct Table {
  Index rows = 0, columns = 0;
  std::vector<double> entries;
  Table() = default;
  Table(Index r, Index c, double fill = 0.0) : rows(r), columns(c), entries(r * c, fill) {}
  // Keeps the rows there are, new ones are zero.
  void resize(Index r, Index c) { rows = r, columns = c, entries.resize(r * c, 0.0); }
  double* row(Index i) { return entries.data() + i * columns; }
  const double* row(Index i) const { return entries.data() + i * columns; }
};

class PairKernel {
 public:
  explicit PairKernel(std::vector<double> variances) : variances_(std::move(variances)), roots_(variances_.size()) {
    std::transform(variances_.begin(), variances_.end(), roots_.begin(), [](double q) { return std::sqrt(q); });
  }
  virtual ~PairKernel() = default;

  // E phi(u_s)^2 and E phi'(u_s)^2 for every s.
  virtual void diagonal(double* square, double* square_first) const = 0;

  // E phi(u_s)phi(u_t) and E phi'(u_s)phi'(u_t) for t in [begin, end), with cov[t - begin] = E u_s u_t.
  virtual Accuracy row(Index s, Index begin, Index end, const double* cov, double* value, double* first) const = 0;

  Index size() const { return Index(variances_.size()); }
  const Accuracy& accuracy() const { return accuracy_; }

 protected:
  // Rows are worked in aligned blocks, so that an answer does not depend on where its row begins.
  static constexpr Index lanes = 32;
  static Index next_block(Index t) { return (t / lanes + 1) * lanes; }
  Index padded() const { return (size() + lanes - 1) / lanes * lanes; }

  const double& variance(Index s) const { return variances_[s]; }
  double root(Index s) const { return roots_[s]; }

  Accuracy accuracy_;

 private:
  std::vector<double> variances_, roots_;
};

// A closed form gives (value, first) from the two variances and the covariance; the kernel maps it over rows.
template <class Form>
class ClosedFormKernel final : public PairKernel {
 public:
  ClosedFormKernel(Form form, std::vector<double> variances) : PairKernel(std::move(variances)), form_(form) {}

  void diagonal(double* square, double* square_first) const override {
    for (Index s = 0; s < size(); ++s) {
      const auto [value, first] = form_(variance(s), variance(s), variance(s), root(s), root(s));
      square[s] = value;
      square_first[s] = first;
    }
  }

  Accuracy row(Index s, Index begin, Index end, const double* cov, double* value, double* first) const override {
    const double a = variance(s), su = root(s);
    for (Index t = begin; t < end; ++t) {
      const auto [f, d] = form_(a, cov[t - begin], variance(t), su, root(t));
      value[t - begin] = f;
      first[t - begin] = d;
    }
    return {};
  }

 private:
  Form form_;
};

using Pair = std::pair<double, double>;

// Angle in [-pi/2, pi/2] from its sine and its cosine >= 0, accurate at both ends.
inline double angle(double sine, double cosine) {
  const double size = std::abs(sine);
  const bool steep = size > 0.5;
  // asin(x) = pi/2 - 2 asin(sqrt((1-x)/2)) brings the argument below 1/2; minimax polynomial in x^2 there.
  const double z = steep ? 0.5 * cosine * cosine / (1 + size) : size * size, x = steep ? std::sqrt(z) : size;
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
  return std::copysign(steep ? 0.5 * pi - 2 * y : y, sine);
}

// phi(u) = linear * u + absolute * |u|: linear, relu, leaky_relu, abs. An input of variance zero has derivative
// phi'(0).
struct HomogeneousForm {
  double linear, absolute, first_at_zero;
  Pair operator()(double, double b, double, double su, double sv) const {
    const double scale = su * sv, rho = correlation(b, scale), even = absolute * absolute * (2 / pi);
    const double root = std::sqrt((1 - rho) * (1 + rho)), arcsine = angle(rho, root);
    const double first = scale == 0 ? (su == 0 ? first_at_zero : linear) * (sv == 0 ? first_at_zero : linear)
                                    : linear * linear + even * arcsine;
    return {linear * linear * b + even * scale * (root + rho * arcsine), first};
  }
};

struct ErfForm {
  Pair operator()(double a, double b, double c, double, double) const {
    // (1 + 2a)(1 + 2c) - 4b^2, positive
    const double rest = 4 * (a * c - b * b) + 2 * (a + c) + 1;
    const double root = std::sqrt(rest), scale = 1 / std::sqrt((1 + 2 * a) * (1 + 2 * c));
    return {2 / pi * angle(2 * b * scale, root * scale), 4 / pi / root};
  }
};

// E sin u sin v = exp(-(a+c)/2) sinh b and E cos u cos v = exp(-(a+c)/2) cosh b.
struct SineForm {
  bool cosine;
  Pair operator()(double a, double b, double c, double, double) const {
    const double size = std::abs(b), leading = 0.5 * std::exp(size - 0.5 * (a + c)), ratio = std::expm1(-2 * size);
    const double odd = std::copysign(-leading * ratio, b), even = leading * (2 + ratio);
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
  KinkIntegrals(double x, double y, double rho, const Density& density) {
    const double end = std::asin(rho);
    if (end > 0)
      for (double low = 0, width = 0.25 * pi; low < end && width > 1e-17; low += width, width /= 2)
        add_panel(x, y, rho, low, std::min(low + width, end), density);
  }

 private:
  template <class Density>
  void add_panel(double x, double y, double rho, double low, double high, const Density& density) {
    static const Quadrature legendre = gauss_legendre(16);
    const double half = 0.5 * (high - low), apart = 0.5 * (x - y) * (x - y), together = x * y;
    double sine[16], weight[16];
    for (int i = 0; i < 16; ++i) {
      const double t = low + half * (1 + legendre.nodes[i]), s = math::sin(t), c = math::cos(t), over = 1 / (c * c);
      const double like = apart * over + together / (1 + s), unlike = (apart + together * (1 + s)) * over;
      sine[i] = s;
      weight[i] = half / pi * legendre.weights[i] * density(like, unlike);
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
struct HardTanhForm {
  Pair operator()(double, double b, double, double su, double sv) const {
    const double scale = su * sv, rho = correlation(b, scale), size = std::abs(rho);
    const double apart = std::erf(std::sqrt(0.5) / su) * std::erf(std::sqrt(0.5) / sv);
    const KinkIntegrals add(1 / su, 1 / sv, size,
                            [](double like, double unlike) { return math::exp_neg(like) - math::exp_neg(unlike); });
    return {std::copysign(scale * (size * apart + add.tilted), rho), apart + add.flat};
  }
};

// shifted_relu, a kink at -1/2: with I the integral of e^-like / 2, or of -e^-unlike / 2 up to |rho| for negative rho,
// and I' the tilted one, whose sign stays,
//
//   E phi'phi' = E phi' E phi' + I,   E phi phi = E phi E phi + sqrt(ac) (rho E phi' E phi' + I').
struct ShiftedReluForm {
  Pair operator()(double, double b, double, double su, double sv) const {
    const double scale = su * sv, rho = correlation(b, scale);
    const double apart = above(su) * above(sv);
    const KinkIntegrals add(0.5 / su, 0.5 / sv, std::abs(rho),
                            [rho](double like, double unlike) { return 0.5 * math::exp_neg(rho < 0 ? unlike : like); });
    return {mean(su) * mean(sv) + scale * (rho * apart + add.tilted), apart + std::copysign(add.flat, rho)};
  }

 private:
  // P(u > -1/2) and E phi(u) for u ~ N(0, s^2).
  static double above(double s) { return 0.5 * std::erfc(-std::sqrt(0.125) / s); }
  static double mean(double s) {
    return s * std::exp(-0.125 / (s * s)) / std::sqrt(2 * pi) - 0.25 * std::erfc(std::sqrt(0.125) / s);
  }
};

}  // namespace fisherfield
