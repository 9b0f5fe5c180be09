// One Gram tile on one thread against a plain product through the same micro-kernel, in processor time: what blocking,
// packing, Hadamard products and the mirrored write cost. Asserts entries against scalar sums first. From the root of
// the repository, with EIGEN the folder of the Eigen headers:
//
//   g++ -std=c++17 -O3 -fno-math-errno -fno-trapping-math -march=native -mprefer-vector-width=512
//     -Icpp/include -I$EIGEN bench/native/gram.cpp -o gram && ./gram
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fisherfield/gram.hpp>
#include <random>

using namespace fisherfield;

namespace {

double seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

template <class T>
std::vector<T> gaussian(Index n) {
  static std::mt19937_64 engine(0);
  std::normal_distribution<T> law;
  std::vector<T> x(n);
  for (T& entry : x) entry = law(engine);
  return x;
}

template <class T>
void check(const Factors<T>& f, const std::vector<T>& out) {
  for (const auto [r, s, q, t] : {std::array<Index, 4>{0, 0, 0, f.samples - 1}, {f.seeds - 1, 3, 0, f.samples - 2}}) {
    double sum = 0, size = 0;
    for (const auto& layer : f.layers) {
      double a = layer.bias, b = 0;
      for (Index i = 0; i < layer.inputs; ++i)
        a += double(layer.A[s * layer.inputs + i]) * layer.A[t * layer.inputs + i];
      for (Index i = 0; i < layer.outputs; ++i)
        b +=
            double(layer.B[(r * f.samples + s) * layer.outputs + i]) * layer.B[(q * f.samples + t) * layer.outputs + i];
      sum += a * b;
      size += static_cast<double>(layer.inputs) * layer.outputs;
    }
    const double got = out[(r * f.samples + s) * f.seeds * f.samples + q * f.samples + t];
    if (std::abs(got - sum) > size * std::numeric_limits<T>::epsilon()) {
      std::printf("wrong entry: %g instead of %g\n", got, sum);
      std::exit(1);
    }
  }
}

template <class T>
void run(Index seeds, Index samples, Index width, Index tile) {
  Factors<T> f{seeds, samples, {}};
  std::vector<std::vector<T>> memory;
  for (int l = 0; l < 3; ++l) {
    memory.push_back(gaussian<T>(samples * width));
    memory.push_back(gaussian<T>(seeds * samples * width));
  }
  for (int l = 0; l < 3; ++l) f.layers.push_back({memory[2 * l].data(), memory[2 * l + 1].data(), width, width, true});
  std::vector<T> out(seeds * samples * seeds * samples);
  const Range I{0, tile}, J{samples - tile, samples};
  GramTile<T> gram(f, T(1), out.data());
  gram(I, J);
  check(f, out);

  const Index n = 768;
  const std::vector<T> a = gaussian<T>(n * n), b = gaussian<T>(n * n);
  std::vector<T> c(n * n), ratios, rates;
  const double product_flops = 2.0 * n * n * n, tile_flops = 3 * 2.0 * tile * tile * (seeds * seeds * width + width);
  for (int round = 0; round < 9; ++round) {
    double start = seconds();
    for (int i = 0; i < 4; ++i)
      product<T>(n, n, n, a.data(), n, PackTransposed<T>{b.data(), n}, nullptr, c.data(), n, NoFinish{});
    const double product_rate = 4 * product_flops / (seconds() - start);
    start = seconds();
    gram(I, J);
    ratios.push_back(static_cast<T>(tile_flops / (seconds() - start) / product_rate));
    rates.push_back(static_cast<T>(product_rate / 1e9));
  }
  std::sort(ratios.begin(), ratios.end());
  std::sort(rates.begin(), rates.end());
  std::printf("%s R=%-3td tile %td of %td samples, width %td: product %.0f GF/s, tile at %.2f of it\n",
              sizeof(T) == 8 ? "float64" : "float32", seeds, tile, samples, width, double(rates[4]), double(ratios[4]));
}

}  // namespace

int main() {
  run<double>(10, 300, 512, 144);
  run<float>(10, 300, 512, 144);
  run<double>(1, 1000, 1024, 480);
  run<float>(1, 1000, 1024, 480);
}
