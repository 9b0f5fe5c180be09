// What every binding file shares: array types, and the list of areas that module.cpp registers.
//
// All shape and dtype checks of user input happen in Python (fisherfield._validate); the bindings accept only
// C-contiguous arrays of the exact dtype (noconvert) and assert shapes that would otherwise read out of bounds.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <Eigen/Core>
#include <stdexcept>
#include <string>

namespace py = pybind11;

#define FISHERFIELD_STRINGIZE_(x) #x
#define FISHERFIELD_STRINGIZE(x) FISHERFIELD_STRINGIZE_(x)
#define EIGEN_VERSION_STRING                 \
  FISHERFIELD_STRINGIZE(EIGEN_WORLD_VERSION) \
  "." FISHERFIELD_STRINGIZE(EIGEN_MAJOR_VERSION) "." FISHERFIELD_STRINGIZE(EIGEN_MINOR_VERSION)

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// Shape errors here are bugs of the Python layer, not of the user.
inline void require(bool condition, const char* what) {
  if (!condition)
    throw std::invalid_argument(std::string("fisherfield kernel called with inconsistent shapes: ") + what);
}

void bind_activations(py::module_& m);
void bind_descent(py::module_& m);
void bind_fisher(py::module_& m);
void bind_theory(py::module_& m);
