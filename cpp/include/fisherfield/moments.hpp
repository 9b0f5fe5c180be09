// Gaussian moments of a nonlinearity, with error control: the rule grows until two successive answers agree.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "activations.hpp"
#include "quadrature.hpp"

namespace fisherfield {

// What the theory needs to know of an activation function: values, first derivatives, and where to split integrals.
class Nonlinearity {
 public:
  virtual ~Nonlinearity() = default;
  virtual void evaluate(Index n, const double* u, double* value, double* first) const = 0;
  virtual std::vector<double> kinks() const = 0;
  // The built-in function, or null: closed forms are chosen by it.
  virtual const Activation* built_in() const { return nullptr; }
};

class BuiltIn final : public Nonlinearity {
 public:
  explicit BuiltIn(Activation phi) : phi_(phi) {}
  void evaluate(Index n, const double* u, double* value, double* first) const override {
    fisherfield::evaluate<double>(phi_, n, u, value, first, nullptr);
  }
  std::vector<double> kinks() const override { return fisherfield::kinks(phi_); }
  const Activation* built_in() const override { return &phi_; }

 private:
  Activation phi_;
};

// How an answer was reached: largest estimated relative error, and the number of points that gave it.
struct Accuracy {
  double error = 0;
  Index points = 0;
  void include(const Accuracy& other) {
    if (!(other.error <= error)) error = other.error;  // NaN counts as the worst
    points = std::max(points, other.points);
  }
};

inline double relative_change(double now, double before, double scale) {
  const double change = std::abs(now - before);
  return change == 0 ? 0 : change / scale;
}

// Rule of a level for phi(sqrt(q) z): trapezoidal, or piecewise where phi has kinks.
inline SymmetricRule gaussian_rule(int level, const std::vector<double>& kinks, double q) {
  if (kinks.empty()) return trapezoidal_rule(level);
  std::vector<double> breaks;
  if (q > 0)
    for (double kink : kinks) breaks.push_back(kink / std::sqrt(q));
  return piecewise_rule(level, breaks);
}

inline int finest_level(const std::vector<double>& kinks) { return kinks.empty() ? last_level : last_piecewise_level; }

// Values and derivatives at sqrt(q) z for z = +nodes, then -nodes.
struct Samples {
  std::vector<double> u, value, first;
  void take(const Nonlinearity& phi, double q, const std::vector<double>& nodes) {
    const Index n = Index(nodes.size());
    u.resize(2 * n), value.resize(2 * n), first.resize(2 * n);
    for (Index i = 0; i < n; ++i) {
      u[i] = std::sqrt(q) * nodes[i];
      u[n + i] = -u[i];
    }
    phi.evaluate(2 * n, u.data(), value.data(), first.data());
  }
};

// Moments over u ~ N(0, q).
struct Moments {
  double mean = 0, mean_first = 0;      // E phi, E phi'
  double square = 0, square_first = 0;  // E phi^2, E phi'^2
  double mixed = 0, weighted = 0;       // E phi phi' u, E phi'^2 u^2
  Accuracy accuracy;
  int level = 0;  // of the rule that gave the answer
};

inline Moments moments_by_rule(const Samples& s, const SymmetricRule& rule) {
  const Index n = Index(rule.nodes.size());
  Moments m;
  for (Index i = 0; i < n; ++i) {  // z and -z together: what is odd cancels exactly
    const double w = rule.weights[i], u = s.u[i];
    const double f = s.value[i], d = s.first[i], g = s.value[n + i], e = s.first[n + i];
    m.mean += w * (f + g);
    m.mean_first += w * (d + e);
    m.square += w * (f * f + g * g);
    m.square_first += w * (d * d + e * e);
    m.mixed += w * u * (f * d - g * e);
    m.weighted += w * u * u * (d * d + e * e);
  }
  return m;
}

// What the cut leaves out, for integrands that grow slower than the density falls: phi^2 at the cut, relative to E
// phi^2.
inline double cutoff_error(const Samples& s, double square) {
  const std::size_t n = s.value.size() / 2;
  const double edge = std::max(std::abs(s.value[n - 1]), std::abs(s.value[2 * n - 1]));
  return edge == 0 ? 0 : edge * edge * gaussian_density(gaussian_cutoff) / square;
}

inline Moments moments(const Nonlinearity& phi, double q, double tol) {
  const std::vector<double> kinks = phi.kinks();
  Samples samples;
  Moments before;
  for (int level = first_level;; ++level) {
    const SymmetricRule rule = gaussian_rule(level, kinks, q);
    samples.take(phi, q, rule.nodes);
    Moments now = moments_by_rule(samples, rule);
    const double f = std::sqrt(now.square), d = std::sqrt(now.square_first), du = std::sqrt(now.weighted);
    Accuracy& reached = now.accuracy;
    reached.points = 2 * Index(rule.nodes.size());
    for (double change :
         {relative_change(now.mean, before.mean, f), relative_change(now.mean_first, before.mean_first, d),
          relative_change(now.square, before.square, now.square),
          relative_change(now.square_first, before.square_first, now.square_first),
          relative_change(now.mixed, before.mixed, f * du),
          relative_change(now.weighted, before.weighted, now.weighted), cutoff_error(samples, now.square)})
      reached.include({change, 0});
    now.level = level;
    if ((level > first_level && reached.error <= tol) || level == finest_level(kinks)) return now;
    before = now;
  }
}

// A pair of correlated inputs: E phi(u)phi(v) and E phi'(u)phi'(v).
struct PairMoments {
  double value = 0, first = 0;
  Accuracy accuracy;
};

// Correlation from a covariance: within rounding of +-1 it is +-1, and 0 where a variance vanishes.
inline double correlation(double cov, double scale) {
  if (scale == 0) return 0;
  const double rho = cov / scale;
  return 1 - std::abs(rho) < 1e-15 ? std::copysign(1.0, rho) : rho;
}

namespace detail {

// Gauss-Legendre (or, without breaks, trapezoidal) rule on the whole line, as plain nodes and weights.
inline Quadrature line_rule(int level, std::vector<double> breaks) {
  Quadrature line;
  if (breaks.empty()) {
    const SymmetricRule& rule = trapezoidal_rule(level);
    for (std::size_t i = 0; i < rule.nodes.size(); ++i)
      for (double sign : {-1.0, 1.0}) {
        line.nodes.push_back(sign * rule.nodes[i]);
        line.weights.push_back(rule.weights[i]);
      }
    return line;
  }
  const Quadrature& legendre = legendre_rule(level);
  breaks.insert(breaks.end(), {-gaussian_cutoff, 0.0, gaussian_cutoff});
  std::sort(breaks.begin(), breaks.end());
  for (std::size_t p = 0; p + 1 < breaks.size(); ++p) {
    const double low = std::max(breaks[p], -gaussian_cutoff), high = std::min(breaks[p + 1], gaussian_cutoff);
    if (!(low < high)) continue;
    for (std::size_t i = 0; i < legendre.nodes.size(); ++i) {
      const double z = 0.5 * (low + high) + 0.5 * (high - low) * legendre.nodes[i];
      line.nodes.push_back(z);
      line.weights.push_back(0.5 * (high - low) * legendre.weights[i] * gaussian_density(z));
    }
  }
  return line;
}

// Breaks of z for phi(slope z + shift).
inline void add_breaks(std::vector<double>& breaks, const std::vector<double>& kinks, double slope, double shift) {
  if (slope != 0)
    for (double kink : kinks) breaks.push_back((kink - shift) / slope);
}

}  // namespace detail

// Double integral for u = sqrt(a) x, v = sqrt(c) (rho x + sqrt(1-rho^2) y), any |rho| <= 1: the outer rule over x, and
// for each x an inner rule over y. Where phi has kinks, the inner integral is a smoothed phi whose steps at the kinks
// of v are as wide as the spread of v about its mean, so that the outer rule is split there too.
inline PairMoments pair_quadrature(const Nonlinearity& phi, double a, double rho, double c, double tol) {
  const std::vector<double> kinks = phi.kinks();
  const double su = std::sqrt(a), sv = std::sqrt(c), spread = std::sqrt((1 - rho) * (1 + rho)), mean = sv * rho;
  std::vector<double> outer_breaks;
  detail::add_breaks(outer_breaks, kinks, su, 0);
  for (double width : {0.0, -1.5, 1.5, -4.0, 4.0, -9.0, 9.0})
    detail::add_breaks(outer_breaks, kinks, mean, width * sv * spread);
  const double scale_value = std::sqrt(moments(phi, a, tol).square * moments(phi, c, tol).square);
  const double scale_first = std::sqrt(moments(phi, a, tol).square_first * moments(phi, c, tol).square_first);

  std::vector<double> u, fu, du, v, fv, dv;
  PairMoments before;
  for (int level = first_level;; ++level) {
    const Quadrature outer = detail::line_rule(level, outer_breaks);
    const Index n = Index(outer.nodes.size());
    u.resize(n), fu.resize(n), du.resize(n);
    for (Index i = 0; i < n; ++i) u[i] = su * outer.nodes[i];
    phi.evaluate(n, u.data(), fu.data(), du.data());
    PairMoments now;
    // Without kinks the inner rule is the same for every x: one level below it would do as well.
    Quadrature inner = detail::line_rule(level, {});
    for (Index i = 0; i < n; ++i) {
      if (spread == 0) {
        inner = {{0.0}, {1.0}};
      } else if (!kinks.empty()) {
        std::vector<double> breaks;
        detail::add_breaks(breaks, kinks, sv * spread, mean * outer.nodes[i]);
        inner = detail::line_rule(std::min(level, last_piecewise_level), breaks);
      }
      const Index m = Index(inner.nodes.size());
      v.resize(m), fv.resize(m), dv.resize(m);
      for (Index j = 0; j < m; ++j) v[j] = mean * outer.nodes[i] + sv * spread * inner.nodes[j];
      phi.evaluate(m, v.data(), fv.data(), dv.data());
      double value = 0, first = 0;
      for (Index j = 0; j < m; ++j) {
        value += inner.weights[j] * fv[j];
        first += inner.weights[j] * dv[j];
      }
      now.value += outer.weights[i] * fu[i] * value;
      now.first += outer.weights[i] * du[i] * first;
      now.accuracy.points += m;
    }
    now.accuracy.error = std::max(relative_change(now.value, before.value, scale_value),
                                  relative_change(now.first, before.first, scale_first));
    const int finest = kinks.empty() ? 9 : 5;
    if ((level > first_level && now.accuracy.error <= tol) || level == finest) return now;
    before = now;
  }
}

}  // namespace fisherfield
