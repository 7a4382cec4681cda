// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_module.h"

#include <dlfcn.h>

#include <string_view>

namespace coffer::hsm {
namespace {

enum class Need { kAlways, kWhereThere };

// Finds functions by name, and remembers the first one that is missing.
class Finder {
 public:
  explicit Finder(void* library) : library_(library) {}

  template <class Function>
  void find(const char* name, Function& out, Need need = Need::kAlways) {
    out = reinterpret_cast<Function>(::dlsym(library_, name));
    if (out == nullptr && need == Need::kAlways && missing_.empty()) missing_ = name;
  }
  std::string_view missing() const { return missing_; }

 private:
  void* library_;
  std::string_view missing_;
};

}  // namespace

Result<std::unique_ptr<SdfModule>> SdfModule::load(const std::string& path, CallWatch* watch) {
  if (!path.starts_with('/'))
    return fail(Reason::kConfigInvalid, "the path of an SDF library must be absolute");
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = ::dlerror();
    return fail(Reason::kConfigInvalid,
                "load SDF library " + path + ": " + (why != nullptr ? why : "no reason given"));
  }
  Functions found;
  Finder finder(library);
  finder.find("SDF_OpenDevice", found.open_device);
  finder.find("SDF_CloseDevice", found.close_device);
  finder.find("SDF_OpenSession", found.open_session);
  finder.find("SDF_CloseSession", found.close_session);
  finder.find("SDF_GetDeviceInfo", found.get_device_info);
  finder.find("SDF_GenerateRandom", found.generate_random);
  finder.find("SDF_GenerateKeyWithKEK", found.generate_key_with_kek);
  finder.find("SDF_ImportKeyWithKEK", found.import_key_with_kek);
  finder.find("SDF_DestroyKey", found.destroy_key);
  finder.find("SDF_Encrypt", found.encrypt);
  finder.find("SDF_Decrypt", found.decrypt);
  finder.find("SDF_HMACInit", found.hmac_init, Need::kWhereThere);
  finder.find("SDF_HMACUpdate", found.hmac_update, Need::kWhereThere);
  finder.find("SDF_HMACFinal", found.hmac_final, Need::kWhereThere);
  if (!finder.missing().empty())
    return fail(Reason::kConfigInvalid,
                "SDF library " + path + " lacks " + std::string(finder.missing()));
  return std::unique_ptr<SdfModule>(new SdfModule(found, watch));
}

}  // namespace coffer::hsm
