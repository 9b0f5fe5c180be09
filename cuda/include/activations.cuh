// Kernel bodies for the GPU, clean for NVRTC: the formulas are those of fisherfield/jets.hpp, which the CPU uses too.
#pragma once

#include <fisherfield/jets.hpp>

namespace fisherfield::cuda {

// value[i] = phi(u[i]), slope[i] = phi'(u[i]) for i < n; value may be u.
template <class T, class Phi>
__global__ void activate(Phi phi, long long n, const T* u, T* value, T* slope) {
  const long long stride = static_cast<long long>(gridDim.x) * blockDim.x;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += stride) {
    const Jet<T> jet = phi(u[i]);
    value[i] = jet.value;
    slope[i] = jet.first;
  }
}

}  // namespace fisherfield::cuda
