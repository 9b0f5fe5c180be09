// What is asked of one layer's factors, inputs A (samples x inputs) and seeds B (seeds x samples x outputs), besides
// matrix products: fisherfield/jacobian.hpp, in passes over the seeds.
#pragma once

#include "primitives.cuh"
#include "rows.cuh"

namespace fisherfield::cuda {

// The layer's columns, from `offset` on, of the Jacobian out (samples x seeds x parameters): W (row-major), then b.
template <class T>
__device__ void layer_jacobian(Index seeds, Index samples, Index inputs, Index outputs, const T* A, const T* B,
                               bool bias, T* out, Index offset, Index parameters) {
  for_each_entry(samples * seeds * outputs, inputs + bias, [=](Index row, Index j) {
    const Index i = row % outputs, r = row / outputs % seeds, t = row / outputs / seeds;
    const T b = B[(r * samples + t) * outputs + i];
    T* gradient = out + (t * seeds + r) * parameters + offset;
    if (j < inputs)
      gradient[i * inputs + j] = b * A[t * inputs + j];
    else
      gradient[outputs * inputs + i] = b;
  });
}

// out[t] = sum_r B[r, t]^2, entry by entry.
template <class T>
__device__ void sum_of_squares(Index seeds, Index samples, Index outputs, const T* B, T* out) {
  for_each_entry(samples, outputs, [=](Index t, Index i) {
    T sum = 0;
    for (Index r = 0; r < seeds; ++r) {
      const T b = B[(r * samples + t) * outputs + i];
      sum += b * b;
    }
    out[t * outputs + i] = sum;
  });
}

// out[t] = sum_r u[r, t] B[r, t], entry by entry.
template <class T>
__device__ void weighted_seeds(Index seeds, Index samples, Index outputs, const T* u, const T* B, T* out) {
  for_each_entry(samples, outputs, [=](Index t, Index i) {
    T sum = 0;
    for (Index r = 0; r < seeds; ++r) sum += u[r * samples + t] * B[(r * samples + t) * outputs + i];
    out[t * outputs + i] = sum;
  });
}

// out[r, t] += B[r, t] . y[t]: one warp for each r and t, blocks of whole warps in one dimension.
template <class T>
__device__ void seed_products(Index seeds, Index samples, Index outputs, const T* B, const T* y, T* out) {
  const Index warp = (Index(blockIdx.x) * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (warp >= seeds * samples) return;
  const T* b = B + warp * outputs;
  const T* of_sample = y + (warp % samples) * outputs;
  T sum = 0;
  for (Index i = lane; i < outputs; i += 32) sum += b[i] * of_sample[i];
  sum = warp_sum(sum);
  if (lane == 0) out[warp] += sum;
}

}  // namespace fisherfield::cuda
