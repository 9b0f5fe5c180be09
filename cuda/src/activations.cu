// Instances of the activation kernels: raw device pointers and a stream in, a CUDA error code out.
#include <cuda_runtime.h>

#include "../include/activations.cuh"

namespace {

template <class T>
int activate(int kind, double parameter, long long n, const T* u, T* value, T* slope, void* stream) {
  using namespace fisherfield;
  constexpr int threads = 256;
  const long long wanted = (n + threads - 1) / threads;
  const int blocks = static_cast<int>(wanted < 65535 ? wanted : 65535);
  if (n <= 0) return cudaSuccess;
  dispatch(Activation{static_cast<ActivationKind>(kind), parameter}, [&](auto phi) {
    cuda::activate<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(phi, n, u, value, slope);
  });
  return cudaGetLastError();
}

}  // namespace

extern "C" int fisherfield_activate_f64(int kind, double parameter, long long n, const double* u, double* value,
                                        double* slope, void* stream) {
  return activate(kind, parameter, n, u, value, slope, stream);
}

extern "C" int fisherfield_activate_f32(int kind, double parameter, long long n, const float* u, float* value,
                                        float* slope, void* stream) {
  return activate(kind, parameter, n, u, value, slope, stream);
}
