// Opening by name; see the header.
#include "slmi/base/dynamic_library.h"

#include <dlfcn.h>

namespace slmi {

DynamicLibrary::DynamicLibrary(const std::string& name) : library_(::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {}

void* DynamicLibrary::address_of(const char* name) const {
  return library_ == nullptr ? nullptr : ::dlsym(library_, name);
}

}  // namespace slmi
