// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "hsm/call_watch.h"
#include "hsm/sdf_api.h"

namespace coffer::hsm {

// SdfModule is the library of an SDF device (GM/T 0018), found by its path: the one place that
// calls into it, each call watched. A library that was loaded stays so until the process ends, as
// many leave threads behind.
//
// Thread-safe.
class SdfModule {
 public:
  // The functions that Coffer calls; those that a library may lack are null then.
  struct Functions {
    decltype(&SDF_OpenDevice) open_device = nullptr;
    decltype(&SDF_CloseDevice) close_device = nullptr;
    decltype(&SDF_OpenSession) open_session = nullptr;
    decltype(&SDF_CloseSession) close_session = nullptr;
    decltype(&SDF_GetDeviceInfo) get_device_info = nullptr;
    decltype(&SDF_GenerateRandom) generate_random = nullptr;
    decltype(&SDF_GenerateKeyWithKEK) generate_key_with_kek = nullptr;
    decltype(&SDF_ImportKeyWithKEK) import_key_with_kek = nullptr;
    decltype(&SDF_DestroyKey) destroy_key = nullptr;
    decltype(&SDF_Encrypt) encrypt = nullptr;
    decltype(&SDF_Decrypt) decrypt = nullptr;
    // Null in libraries of the edition of 2012.
    decltype(&SDF_HMACInit) hmac_init = nullptr;
    decltype(&SDF_HMACUpdate) hmac_update = nullptr;
    decltype(&SDF_HMACFinal) hmac_final = nullptr;
  };

  // `path` is absolute. Calls are watched by `watch` (not owned; null: by nobody).
  //   kConfigInvalid  cannot be loaded, or lacks a function that Coffer needs, which is named.
  static Result<std::unique_ptr<SdfModule>> load(const std::string& path, CallWatch* watch);
  SdfModule(const SdfModule&) = delete;
  SdfModule& operator=(const SdfModule&) = delete;

  // call(&SdfModule::Functions::encrypt, session, …): what it returned. A function the library
  // lacks is kNotSupport.
  template <class... Parameters, class... Arguments>
  unsigned long call(int (*Functions::*function)(Parameters...), Arguments... arguments) const {
    auto* const entry = functions_.*function;
    if (entry == nullptr) return sdf::kNotSupport;
    const CallWatch::Guard guard(watch_);
    return static_cast<unsigned int>(entry(arguments...));
  }

  // Whether session keys can be used for HMAC in the device.
  bool has_hmac() const noexcept {
    return functions_.hmac_init != nullptr && functions_.hmac_update != nullptr &&
           functions_.hmac_final != nullptr;
  }

 private:
  SdfModule(const Functions& functions, CallWatch* watch) noexcept
      : functions_(functions), watch_(watch) {}

  const Functions functions_;
  CallWatch* watch_;
};

}  // namespace coffer::hsm
