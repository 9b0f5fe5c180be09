// The one module compiled for the baseline: says which builds of the kernels this processor can run.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define FISHERFIELD_X86 1
#include <cpuid.h>
#else
#define FISHERFIELD_X86 0
#endif

namespace {

#if FISHERFIELD_X86
// Part of x86-64-v3, but names that not every compiler's __builtin_cpu_supports knows.
bool has_lzcnt_f16c_movbe() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_F16C) || !(c & bit_MOVBE)) return false;
  return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LZCNT);
}
#endif

std::vector<std::string> supported_levels() {
  std::vector<std::string> levels;
#if FISHERFIELD_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt")) levels.push_back("v2");
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                  __builtin_cpu_supports("bmi2") && has_lzcnt_f16c_movbe();
  if (v3) levels.push_back("v3");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  if (v4) levels.push_back("v4");
#else
  levels.push_back("generic");
#endif
  return levels;
}

}  // namespace

PYBIND11_MODULE(_cpu, m, pybind11::mod_gil_not_used()) {
  m.doc() = "Detection of the processor's instruction-set level.";
  m.def("supported_levels", &supported_levels,
        "Builds of the kernels that this processor can run, oldest level first.");
}
