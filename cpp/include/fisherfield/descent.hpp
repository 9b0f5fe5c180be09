// Gradient descent with momentum on one network, run after run of steps in one call:
//
//   v <- mu v - eta grad E,   theta <- theta + v,   E = (1/b) sum_t loss(f(x_t), y_t) over a batch of b samples.
//
// A step is a few phases, each cut into blocks that a team of threads shares: a layer's columns forward, columns
// backward, and blocks of its weights, which move as soon as their gradient is there. Cuts change no bit.
#pragma once

#include <fisherfield/jacobian.hpp>
#include <fisherfield/layer.hpp>
#include <fisherfield/team.hpp>
#include <vector>

namespace fisherfield {

template <class T>
struct DescentLayer {
  Index inputs, outputs;
  T *W, *b, *vW, *vb;            // parameters and what they moved by last; b and vb may be null
  const Activation* phi;         // null in the last layer
  bool skip;                     // u of the layer before is added to u
  T *out, *slope, *pre, *delta;  // (batch x outputs): phi(u), phi'(u), u where a skip needs it (or null), dloss_t / du
};

// Where the samples of a run lie: X (samples x inputs), and targets (samples x outputs) or labels (samples).
template <class T>
struct Samples {
  const T* X;
  const T* targets;            // squared loss |f - y|^2 / 2, or null
  const std::int64_t* labels;  // cross-entropy -log softmax(f)_y, or null
};

// Where a run works: inputs (batch x inputs) of a batch, losses (batch), and room for one layer.
template <class T>
struct Workspace {
  T* inputs;
  double* losses;
  T* gradient;       // as many as the largest layer has weights
  T* transposed[2];  // each batch times the largest number of outputs: delta of two successive layers, transposed
};

// loss and delta = dloss/df of one sample.
template <class T>
double squared_loss(Index n, const T* f, const T* y, T* delta) {
  double sum = 0;
  for (Index k = 0; k < n; ++k) {
    delta[k] = f[k] - y[k];
    sum += static_cast<double>(delta[k]) * static_cast<double>(delta[k]);
  }
  return sum / 2;
}

// The part of the label is minus the sum of the others: nothing cancels where a sample is learnt.
template <class T>
double cross_entropy(Index n, const T* f, std::int64_t label, T* delta) {
  const double top = static_cast<double>(*std::max_element(f, f + n));
  const double gap = top - static_cast<double>(f[label]);
  double others = 0;
  for (Index k = 0; k < n; ++k)
    if (k != label) others += std::exp(static_cast<double>(f[k]) - top);
  const double sum = others + std::exp(-gap);
  for (Index k = 0; k < n; ++k) delta[k] = static_cast<T>(std::exp(static_cast<double>(f[k]) - top) / sum);
  delta[label] = static_cast<T>(-others / sum);
  return gap > 0 ? std::log(sum) + gap : std::log1p(others);
}

// v <- mu v - step g, theta <- theta + v
template <class T>
void move(Index n, const T* g, T step, T mu, T* v, T* theta) {
  using Packet = typename Micro<T>::Packet;
  using Eigen::internal::ploadu, Eigen::internal::pmul, Eigen::internal::pset1;
  constexpr Index width = Micro<T>::width;
  const Packet minus = pset1<Packet>(-step), keep = pset1<Packet>(mu);
  const auto at = [&](const T* g_, T* v_, T* theta_) {
    const Packet moved = Eigen::internal::pmadd(minus, ploadu<Packet>(g_), pmul(keep, ploadu<Packet>(v_)));
    Eigen::internal::pstoreu(v_, moved);
    Eigen::internal::pstoreu(theta_, Eigen::internal::padd(ploadu<Packet>(theta_), moved));
  };
  const Index whole = n / width * width, rest = n - whole;
  for (Index i = 0; i < whole; i += width) at(g + i, v + i, theta + i);
  if (rest == 0) return;
  T p[width] = {}, q[width] = {}, r[width] = {};
  std::copy_n(g + whole, rest, p);
  std::copy_n(v + whole, rest, q);
  std::copy_n(theta + whole, rest, r);
  at(p, q, r);
  std::copy_n(q, rest, v + whole);
  std::copy_n(r, rest, theta + whole);
}

template <class T>
class Descent {
 public:
  // threads: how many share the blocks, as a hint for how finely to cut.
  Descent(std::vector<DescentLayer<T>> layers, Index batch, Samples<T> samples, Workspace<T> workspace, Index threads,
          Team& team)
      : layers_(std::move(layers)),
        batch_(batch),
        samples_(samples),
        work_(workspace),
        threads_(threads),
        team_(team) {}

  // The loss of the given rows of the samples (all, if null); then one step, unless the loss is above the limit or NaN.
  double step(const std::int64_t* rows, T eta, T mu, double limit) {
    const T* inputs = gather(rows);
    forward(inputs);
    const double loss = evaluate(rows);
    if (!(loss <= limit)) return loss;
    const T step = eta / static_cast<T>(batch_);
    const std::size_t top = layers_.size() - 1;
    transpose_columns(top, 0, layers_[top].outputs);
    for (std::size_t l = top; l > 0; --l) {
      backward(l);
      move_layer(l, layers_[l - 1].out, step, mu);
    }
    move_layer(0, inputs, step, mu);
    return loss;
  }

 private:
  static constexpr double block_flops = 1e6;  // what makes up for the handing out of a block

  Index blocks(double flops, Index per_thread) const {
    if (threads_ == 1) return 1;
    return std::clamp<Index>(static_cast<Index>(flops / block_flops), 1, per_thread * threads_);
  }

  // Whole panels, as even as can be.
  static Index cut(Index n, Index parts, Index part) {
    const Index panels = (n + Micro<T>::panel - 1) / Micro<T>::panel;
    return std::min(panels * part / parts * Micro<T>::panel, n);
  }

  template <class Body>
  void over_columns(Index n, double flops, const Body& body) {
    const Index parts = blocks(flops, 2);
    team_.for_each(parts, [&](Index part) {
      const Index j0 = cut(n, parts, part), j1 = cut(n, parts, part + 1);
      if (j0 < j1) body(j0, j1);
    });
  }

  template <class Body>
  void over_samples(double flops, const Body& body) {
    const Index parts = std::min(blocks(flops, 2), batch_);
    team_.for_each(parts, [&](Index part) {
      for (Index t = batch_ * part / parts; t < batch_ * (part + 1) / parts; ++t) body(t);
    });
  }

  const T* gather(const std::int64_t* rows) {
    const Index n = layers_.front().inputs;
    if (!rows) return samples_.X;
    over_samples(static_cast<double>(batch_ * n),
                 [&](Index t) { std::copy_n(samples_.X + rows[t] * n, n, work_.inputs + t * n); });
    return work_.inputs;
  }

  static double flops(Index samples, const DescentLayer<T>& layer) {
    return 2.0 * static_cast<double>(samples) * static_cast<double>(layer.inputs * layer.outputs);
  }

  void forward(const T* h) {
    const T* skip = nullptr;
    for (const auto& layer : layers_) {
      over_columns(layer.outputs, flops(batch_, layer), [&](Index j0, Index j1) {
        layer_forward<T>(batch_, layer.inputs, layer.outputs, h, layer.W, layer.b, layer.phi, layer.out, layer.slope,
                         layer.skip ? skip : nullptr, layer.pre, nullptr, j0, j1);
      });
      h = layer.out, skip = layer.pre;
    }
  }

  double evaluate(const std::int64_t* rows) {
    const auto& last = layers_.back();
    const Index n = last.outputs;
    over_samples(50.0 * static_cast<double>(batch_ * n), [&](Index t) {
      const Index sample = rows ? rows[t] : t;
      const T* f = last.out + t * n;
      T* delta = last.delta + t * n;
      work_.losses[t] = samples_.labels ? cross_entropy(n, f, samples_.labels[sample], delta)
                                        : squared_loss(n, f, samples_.targets + sample * n, delta);
    });
    double sum = 0;
    for (Index t = 0; t < batch_; ++t) sum += work_.losses[t];
    return sum / static_cast<double>(batch_);
  }

  // delta of the layer below l.
  void backward(std::size_t l) {
    const auto &layer = layers_[l], &below = layers_[l - 1];
    over_columns(layer.inputs, flops(batch_, layer), [&](Index j0, Index j1) {
      layer_backward<T>(1, batch_, layer.outputs, layer.inputs, layer.delta, layer.W, below.slope, layer.skip,
                        below.delta, 0, nullptr, nullptr, j0, j1);
      transpose_columns(l - 1, j0, j1);
    });
  }

  T* transposed(std::size_t l) const { return work_.transposed[l % 2]; }

  void transpose_columns(std::size_t l, Index j0, Index j1) {
    const auto& layer = layers_[l];
    transpose(batch_, j1 - j0, layer.delta + j0, layer.outputs, transposed(l) + j0 * batch_, batch_);
  }

  void move_layer(std::size_t l, const T* h, T step, T mu) {
    const auto& layer = layers_[l];
    const Index wanted = blocks(flops(batch_, layer), 2);
    const Index down = std::max<Index>(1, static_cast<Index>(std::sqrt(static_cast<double>(wanted))));
    const Index across = (wanted + down - 1) / down;
    team_.for_each(down * across, [&](Index part) {
      const Index i0 = cut(layer.outputs, down, part / across), i1 = cut(layer.outputs, down, part / across + 1);
      const Index j0 = cut(layer.inputs, across, part % across), j1 = cut(layer.inputs, across, part % across + 1);
      if (i0 < i1 && j0 < j1) move_block(layer, transposed(l), h, step, mu, {i0, i1, j0, j1});
    });
  }

  // weights (outputs x batch): delta, transposed.
  void move_block(const DescentLayer<T>& layer, const T* weights, const T* h, T step, T mu, Block block) {
    const auto [i0, i1, j0, j1] = block;
    T* gradient = work_.gradient + i0 * layer.inputs + j0;
    const auto follow = [&, i0 = i0, j0 = j0](Index i, Index rows, Index j, Index columns) {
      for (Index r = i; r < i + rows; ++r) {
        const Index corner = (i0 + r) * layer.inputs + j0 + j;
        move(columns, gradient + r * layer.inputs + j, step, mu, layer.vW + corner, layer.W + corner);
      }
    };
    product<T>(i1 - i0, j1 - j0, batch_, weights + i0 * batch_, batch_, PackStraight<T>{h + j0, layer.inputs}, nullptr,
               gradient, layer.inputs, follow);
    if (!layer.b || j0 > 0) return;
    for (Index i = i0; i < i1; ++i) {
      T sum = T(0);
      for (Index t = 0; t < batch_; ++t) sum += weights[i * batch_ + t];
      move(1, &sum, step, mu, layer.vb + i, layer.b + i);
    }
  }

  std::vector<DescentLayer<T>> layers_;
  Index batch_;
  Samples<T> samples_;
  Workspace<T> work_;
  Index threads_;
  Team& team_;
};

}  // namespace fisherfield
