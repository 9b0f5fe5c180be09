// The kernels of cuda/src/kernels.cu as a library of the host, launched by name as cuLaunchKernel would.
#include "cuda_host.hpp"

#include <map>

#include "kernels.cu"

namespace cuda_host {

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<A*>(arguments[I])...);
}

template <class... A>
std::function<void(void**)> launcher(void (*kernel)(A...)) {
  return [kernel](void** arguments) { call(kernel, arguments, std::index_sequence_for<A...>()); };
}

struct Kernel {
  std::function<void(void**)> launch;
  bool together;  // its threads wait for each other
};

#define ALONE(name)                         \
  {                                         \
    #name, Kernel { launcher(name), false } \
  }
#define TOGETHER(name)                     \
  {                                        \
    #name, Kernel { launcher(name), true } \
  }
#define LAYER_KERNELS(suffix)                                                                            \
  ALONE(forward_epilogue_##suffix), ALONE(tangent_epilogue_##suffix), ALONE(backward_epilogue_##suffix), \
      ALONE(layer_jacobian_##suffix), ALONE(sum_of_squares_##suffix), ALONE(weighted_seeds_##suffix),    \
      TOGETHER(seed_products_##suffix)
#define GRAM_KERNELS(mode) TOGETHER(gram_whole_##mode), TOGETHER(gram_inputs_##mode), TOGETHER(gram_seeds_##mode)

const std::map<std::string, Kernel> kernels{
    LAYER_KERNELS(float64),     LAYER_KERNELS(float32),  GRAM_KERNELS(float64), GRAM_KERNELS(float32),
    GRAM_KERNELS(tf32),         GRAM_KERNELS(tf32x3),    GRAM_KERNELS(bf16x3),  ALONE(pair_closed_float64),
    ALONE(pair_series_float64), ALONE(pair_dual_float64)};

std::string error;

}  // namespace cuda_host

extern "C" const char* fisherfield_host_error() { return cuda_host::error.c_str(); }

// Runs the blocks one after the other, their threads in ascending or in descending order; 0 or, with an error, 1.
extern "C" int fisherfield_host_launch(const char* name, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                                       unsigned by, unsigned bz, std::size_t shared_bytes, void** arguments,
                                       int descending) try {
  const auto found = cuda_host::kernels.find(name);
  if (found == cuda_host::kernels.end()) throw std::runtime_error(std::string("no kernel called ") + name);
  cuda_host::grid_size = {gx, gy, gz};
  cuda_host::block_size = {bx, by, bz};
  for (unsigned z = 0; z < gz; ++z)
    for (unsigned y = 0; y < gy; ++y)
      for (unsigned x = 0; x < gx; ++x) {
        cuda_host::block_index = {x, y, z};
        cuda_host::Block block(bx * by * bz, shared_bytes, descending != 0, [&] { found->second.launch(arguments); });
        found->second.together ? block.run() : block.run_alone();
      }
  return 0;
} catch (const std::exception& failure) {
  cuda_host::error = failure.what();
  return 1;
}
