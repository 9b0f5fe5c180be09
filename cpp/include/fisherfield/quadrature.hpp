// Quadrature rules: Gauss-Hermite, Gauss-Legendre, and the symmetric rules of the Gaussian measure that the theory
// uses.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <mutex>
#include <vector>

namespace fisherfield {

using Index = std::ptrdiff_t;

inline constexpr double pi = 3.14159265358979323846;

// The standard Gaussian is cut at |z| = 13: exp(-z^2/2) has fallen to 2e-37 there, and exp(-z^2/4), the decay of a
// normalised Hermite polynomial times the density, to 5e-19.
inline constexpr double gaussian_cutoff = 13.0;

inline double gaussian_density(double z) { return std::exp(-0.5 * z * z) / std::sqrt(2 * pi); }

struct Quadrature {
  std::vector<double> nodes, weights;
};

// Nodes in [-1, 1], ascending: Newton's method on the Legendre recurrence.
inline Quadrature gauss_legendre(Index n) {
  Quadrature rule{std::vector<double>(n), std::vector<double>(n)};
  for (Index i = 0; i < (n + 1) / 2; ++i) {
    double x = std::cos(pi * (i + 0.75) / (n + 0.5)), slope = 1;
    for (int iteration = 0; iteration < 10; ++iteration) {
      double previous = 1, current = x;
      for (Index k = 1; k < n; ++k) {
        const double next = ((2 * k + 1) * x * current - k * previous) / (k + 1);
        previous = current;
        current = next;
      }
      slope = n * (x * current - previous) / (x * x - 1);
      const double step = current / slope;
      x -= step;
      if (std::abs(step) < 1e-16) break;
    }
    if (2 * i + 1 == n) x = 0;
    rule.nodes[i] = -x;
    rule.nodes[n - 1 - i] = x;
    rule.weights[i] = rule.weights[n - 1 - i] = 2 / ((1 - x * x) * slope * slope);
  }
  return rule;
}

// Where he_n(x) and the sum of squares of the normalised he_k, k < n, end up: both grow beyond any double, so a common
// scale is kept apart.
struct HermiteChain {
  double ratio;     // he_n(x) / he_n'(x)
  double log_norm;  // log sum_k he_k(x)^2
};

inline HermiteChain hermite_chain(Index n, double x) {
  double previous = 0, current = 1, norm = 0, log_scale = 0;
  for (Index k = 0; k < n; ++k) {
    norm += current * current;
    const double next = (x * current - std::sqrt(double(k)) * previous) / std::sqrt(k + 1.0);
    previous = current;
    current = next;
    if (std::abs(current) > 1e100) {
      current *= 1e-100, previous *= 1e-100, norm *= 1e-200;
      log_scale += 100 * std::log(10.0);
    }
  }
  return {current / (std::sqrt(double(n)) * previous), std::log(norm) + 2 * log_scale};
}

// k-th largest zero of he_n to leading order (WKB): x = sqrt(N) cos t with N (t - sin t cos t) / 4 = (k - 1/4) pi, N =
// 4n + 2.
inline double hermite_zero_guess(Index n, Index k) {
  const double size = 4.0 * n + 2, phase = 4 * (k - 0.25) * pi / size;
  double t = std::min(std::cbrt(1.5 * phase), pi / 2);
  for (int iteration = 0; iteration < 10; ++iteration)
    t -= (t - std::sin(t) * std::cos(t) - phase) / (2 * std::sin(t) * std::sin(t));
  return std::sqrt(size) * std::cos(t);
}

// Gauss-Hermite rule of the measure Du (weights add to one), nodes ascending: Newton's method from the WKB zeros,
// weights 1 / sum_k he_k(x)^2; those below the smallest double are zero.
inline Quadrature gauss_hermite(Index n) {
  Quadrature rule{std::vector<double>(n), std::vector<double>(n)};
  for (Index i = 0; i < (n + 1) / 2; ++i) {
    double x = 2 * i + 1 == n ? 0 : hermite_zero_guess(n, i + 1);
    for (int iteration = 0; x != 0 && iteration < 20; ++iteration) {
      const double step = hermite_chain(n, x).ratio;
      x -= step;
      if (std::abs(step) < 1e-15 * x) break;
    }
    rule.nodes[i] = -x;
    rule.nodes[n - 1 - i] = x;
    rule.weights[i] = rule.weights[n - 1 - i] = std::exp(-hermite_chain(n, x).log_norm);
  }
  return rule;
}

// A rule of the Gaussian measure, symmetric about zero: E g(z) ~ sum_i weights_i (g(nodes_i) + g(-nodes_i)), nodes >=
// 0.
struct SymmetricRule : Quadrature {
  double spacing = 0;  // largest distance between neighbouring nodes
};

inline constexpr int first_level = 2;
inline constexpr int last_level = 12;

// Trapezoidal rule of step 2^-level: converges exponentially in 1/step for integrands analytic around the real line.
inline const SymmetricRule& trapezoidal_rule(int level) {
  static std::array<std::once_flag, last_level + 1> made;
  static std::array<SymmetricRule, last_level + 1> rules;
  std::call_once(made[level], [level] {
    SymmetricRule& rule = rules[level];
    rule.spacing = std::ldexp(1.0, -level);
    for (double z = 0; z <= gaussian_cutoff; z += rule.spacing) {
      rule.nodes.push_back(z);
      rule.weights.push_back(rule.spacing * gaussian_density(z) * (z == 0 ? 0.5 : 1.0));
    }
  });
  return rules[level];
}

inline const Quadrature& legendre_rule(int level) {
  static std::array<std::once_flag, last_level + 1> made;
  static std::array<Quadrature, last_level + 1> rules;
  std::call_once(made[level], [level] { rules[level] = gauss_legendre(Index(8) << level); });
  return rules[level];
}

// Last level of the piecewise rules: 1024 nodes a piece.
inline constexpr int last_piecewise_level = 7;

// Adds the Gauss-Legendre rule of 8 * 2^level nodes on [low, high], weighted by the density.
inline void add_piece(int level, double low, double high, Quadrature& rule) {
  if (!(low < high)) return;
  const Quadrature& legendre = legendre_rule(level);
  const double half = 0.5 * (high - low), centre = 0.5 * (high + low);
  for (std::size_t i = 0; i < legendre.nodes.size(); ++i) {
    const double z = centre + half * legendre.nodes[i];
    rule.nodes.push_back(z);
    rule.weights.push_back(half * legendre.weights[i] * gaussian_density(z));
  }
}

// Gauss-Legendre rules on the pieces of [0, cutoff] between the breaks (of either sign).
inline SymmetricRule piecewise_rule(int level, const std::vector<double>& breaks) {
  std::vector<double> ends{0.0, gaussian_cutoff};
  for (double b : breaks) ends.push_back(std::min(std::abs(b), gaussian_cutoff));
  std::sort(ends.begin(), ends.end());
  SymmetricRule rule;
  for (std::size_t p = 0; p + 1 < ends.size(); ++p) {
    add_piece(level, ends[p], ends[p + 1], rule);
    rule.spacing = std::max(rule.spacing, 0.5 * pi * (ends[p + 1] - ends[p]) / double(Index(8) << level));
  }
  return rule;
}

}  // namespace fisherfield
