// Runs of gradient descent shared by several threads, and exceptions among them, for the thread sanitizer. The losses
// must be the same for any number of helpers. Compile and run:
//   g++ -std=c++17 -O1 -g -fsanitize=thread -march=x86-64-v3 -Icpp/include -isystem EIGEN
//   tests/native/descent_threads.cpp
#include <cstdio>
#include <fisherfield/descent.hpp>
#include <random>
#include <thread>
#include <vector>

using namespace fisherfield;

namespace {

constexpr Index widths[] = {70, 200, 130, 5}, batch = 40, layers = 3;
constexpr Activation phi{ActivationKind::tanh, 0.0};

class Helpers {
 public:
  Helpers(Team& team, int count) : team_(team) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([&team] { team.help(); });
  }
  ~Helpers() {
    team_.dismiss();
    for (auto& thread : threads_) thread.join();
  }

 private:
  Team& team_;
  std::vector<std::thread> threads_;
};

double last_loss(int helpers) {
  std::mt19937 generator(0);
  std::normal_distribution<double> normal(0.0, 0.1);
  std::vector<std::vector<double>> arrays;
  const auto array = [&](Index size) {
    arrays.emplace_back(size);
    for (auto& x : arrays.back()) x = normal(generator);
    return arrays.back().data();
  };
  std::vector<DescentLayer<double>> found;
  for (Index l = 0; l < layers; ++l) {
    const Index in = widths[l], out = widths[l + 1];
    const bool hidden = l + 1 < layers;
    found.push_back({in, out, array(in * out), array(out), array(in * out), array(out), hidden ? &phi : nullptr, false,
                     array(batch * out), hidden ? array(batch * out) : nullptr, nullptr, array(batch * out)});
  }
  const Samples<double> samples{array(batch * widths[0]), array(batch * widths[layers]), nullptr};
  double* const transposed = array(2 * batch * 200);
  const Workspace<double> work{nullptr, array(batch), array(200 * 130), {transposed, transposed + batch * 200}};
  Team team;
  const Helpers present(team, helpers);
  Descent<double> descent(found, batch, samples, work, helpers + 1, team);
  double loss = 0;
  for (int k = 0; k < 20; ++k) loss = descent.step(nullptr, 1e-3, 0.9, 1e300);
  return loss;
}

int caught_exceptions() {
  Team team;
  const Helpers present(team, 2);
  int caught = 0;
  for (int k = 0; k < 20; ++k) try {
      team.for_each(8, [](Index block) {
        if (block == 5) throw block;
      });
    } catch (Index) {
      ++caught;
    }
  return caught;
}

}  // namespace

int main() {
  const double alone = last_loss(0);
  for (int repeat = 0; repeat < 20; ++repeat) {
    const double loss = last_loss(repeat % 4);
    if (loss != alone) return std::printf("helpers changed the loss: %.17g, alone %.17g\n", loss, alone), 1;
    if (caught_exceptions() != 20) return std::printf("an exception was lost\n"), 1;
  }
  std::printf("20 runs, the same loss with 0 to 3 helpers\n");
}
