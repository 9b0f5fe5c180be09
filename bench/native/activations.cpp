// Time per element of the activation kernels against scalar loops over the standard library, float and double.
//
//   g++ -std=c++17 -O3 -march=native -mprefer-vector-width=512 -fno-math-errno -fno-trapping-math -ffp-contract=fast
//       -Icpp/include bench/native/activations.cpp -o activations && ./activations
//
// Each pair is compared entry by entry before it is timed; kernel and loop alternate, and the fastest of the repeats
// counts. The loops pay for a switch at every entry, which is their time for linear.
#include "fisherfield/activations.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

namespace {

using fisherfield::Activation;
using fisherfield::ActivationKind;
using fisherfield::Index;
using fisherfield::Jet;

constexpr double slope = 0.01, alpha = 1.0;

// Value and first derivative as one would write them with <cmath>.
template <class T>
Jet<T> standard(ActivationKind kind, T u) {
  const auto sigmoid = [](T x) { return 1 / (1 + std::exp(-x)); };
  switch (kind) {
    case ActivationKind::linear:
      return {u, T(1), T(0)};
    case ActivationKind::relu:
      return {std::max(u, T(0)), T(u > 0), T(0)};
    case ActivationKind::leaky_relu:
      return {u > 0 ? u : T(slope) * u, u > 0 ? T(1) : T(slope), T(0)};
    case ActivationKind::erf:
      return {std::erf(u), T(1.1283791670955126) * std::exp(-u * u), T(0)};
    case ActivationKind::tanh: {
      const T t = std::tanh(u);
      return {t, 1 - t * t, T(0)};
    }
    case ActivationKind::sigmoid: {
      const T s = sigmoid(u);
      return {s, s * (1 - s), T(0)};
    }
    case ActivationKind::hard_tanh:
      return {std::clamp(u, T(-1), T(1)), T(std::abs(u) < 1), T(0)};
    case ActivationKind::shifted_relu:
      return {std::max(u, T(-0.5)), T(u > T(-0.5)), T(0)};
    case ActivationKind::gelu: {
      const T p = std::erfc(-u * T(0.7071067811865476)) / 2;
      return {u * p, p + u * T(0.3989422804014327) * std::exp(-u * u / 2), T(0)};
    }
    case ActivationKind::silu: {
      const T s = sigmoid(u);
      return {u * s, s * (1 + u * (1 - s)), T(0)};
    }
    case ActivationKind::softplus:
      return {std::max(u, T(0)) + std::log1p(std::exp(-std::abs(u))), sigmoid(u), T(0)};
    case ActivationKind::elu:
      return {u > 0 ? u : T(alpha) * std::expm1(u), u > 0 ? T(1) : T(alpha) * std::exp(u), T(0)};
    case ActivationKind::selu: {
      const T scale = T(1.0507009873554805), a = T(1.6732632423543772);
      return {u > 0 ? scale * u : scale * a * std::expm1(u), u > 0 ? scale : scale * a * std::exp(u), T(0)};
    }
    case ActivationKind::sin:
      return {std::sin(u), std::cos(u), T(0)};
    case ActivationKind::cos:
      return {std::cos(u), -std::sin(u), T(0)};
    case ActivationKind::abs:
      return {std::abs(u), T((u > 0) - (u < 0)), T(0)};
  }
  return {};
}

template <class T>
void standard_loop(ActivationKind kind, Index n, const T* u, T* value, T* first) {
  for (Index i = 0; i < n; ++i) {
    const Jet<T> at = standard(kind, u[i]);
    value[i] = at.value;
    if (first) first[i] = at.first;
  }
}

template <class Run>
double seconds(const Run& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class T>
void require_agreement(const char* name, const std::vector<T>& got, const std::vector<T>& want) {
  const T tolerance = 32 * std::numeric_limits<T>::epsilon();
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::abs(got[i] - want[i]) <= tolerance * (1 + std::abs(want[i]))) continue;
    std::fprintf(stderr, "%s: entry %zu is %.17g, the standard library gives %.17g\n", name, i, double(got[i]),
                 double(want[i]));
    std::exit(1);
  }
}

template <class T>
void bench(const char* type) {
  constexpr Index n = 1000;  // one sample of a layer of width 1000: stays in the first-level cache
  constexpr int repeats = 15, calls = 200;
  std::mt19937 generator(1);
  std::normal_distribution<T> normal(0, T(1.9));
  std::vector<T> u(n), value(n), first(n), want_value(n), want_first(n);
  for (T& x : u) x = normal(generator);
  for (const auto& [name, kind] : fisherfield::activation_names) {
    const Activation phi{kind, kind == ActivationKind::elu ? alpha : slope};
    fisherfield::evaluate<T>(phi, n, u.data(), value.data(), first.data(), nullptr);
    standard_loop(kind, n, u.data(), want_value.data(), want_first.data());
    require_agreement(name, value, want_value);
    require_agreement(name, first, want_first);

    double best[2][2];
    for (int order = 0; order < 2; ++order) {
      T* const derivative = order ? first.data() : nullptr;
      best[order][0] = best[order][1] = std::numeric_limits<double>::infinity();
      for (int repeat = 0; repeat < repeats; ++repeat) {
        const double kernel = seconds([&] {
          for (int k = 0; k < calls; ++k) fisherfield::evaluate<T>(phi, n, u.data(), value.data(), derivative, nullptr);
        });
        const double loop = seconds([&] {
          for (int k = 0; k < calls; ++k) standard_loop(kind, n, u.data(), value.data(), derivative);
        });
        best[order][0] = std::min(best[order][0], kernel / (calls * n) * 1e9);
        best[order][1] = std::min(best[order][1], loop / (calls * n) * 1e9);
      }
    }
    std::printf("%-11s %-7s %10.2f %10.2f %12.2f %10.2f\n", name, type, best[0][0], best[0][1], best[1][0], best[1][1]);
  }
}

}  // namespace

int main() {
  std::printf("ns per element      %20s %23s\n", "value", "value + first");
  std::printf("%-19s %10s %10s %12s %10s\n", "", "kernel", "standard", "kernel", "standard");
  bench<double>("double");
  bench<float>("float");
}
