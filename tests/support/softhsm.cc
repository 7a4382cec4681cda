// SPDX-License-Identifier: Apache-2.0
#include "tests/support/softhsm.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv, mkdtemp.

#include <cstdlib>
#include <vector>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_session_pool.h"
#include "hsm/token_setup.h"

namespace coffer::tests {
namespace fs = std::filesystem;

std::string softhsm_module_path() {
  for (const char* path :
       {"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"}) {
    if (fs::exists(path)) return path;
  }
  return {};
}

SoftHsmFolder::SoftHsmFolder() {
  std::string name = (fs::temp_directory_path() / "coffer-softhsm-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
  fs::create_directory(path_ / "tokens");
  const std::string text = "directories.tokendir = " + (path_ / "tokens").string() +
                           "\nobjectstore.backend = file\nlog.level = ERROR\n";
  if (!write_file_durably(config().string(), as_bytes(text))) std::abort();
  ::setenv("SOFTHSM2_CONF", config().c_str(), 1);
}

SoftHsmFolder::~SoftHsmFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Result<void> SoftHsmFolder::write_pin(std::string_view label, std::string_view pin) {
  return write_file_durably(pin_file(label).string(), as_bytes(pin));
}

Result<std::string> SoftHsmFolder::make_token(const std::string& module_path,
                                              std::string_view label, const SecretBytes* seed) {
  auto module = hsm::Pkcs11Module::load(module_path, nullptr);
  if (!module) return tl::unexpected(module.error());
  if (const auto rv = (*module)->initialize(); rv != CKR_OK)
    return hsm::fail_return(rv, "initialise SoftHSM");

  const auto drawn = SecretBytes::random(8);
  const auto pin = SecretBytes::copy_of(as_bytes(to_hex(drawn->reveal())));
  if (const auto written = write_secret_file_durably(pin_file(label).string(), *pin); !written)
    return tl::unexpected(written.error());
  const auto token = hsm::make_token(**module, label, *pin);
  if (!token) return tl::unexpected(token.error());

  hsm::Pkcs11Uri uri;
  uri.token = std::string(label);
  const auto zeros = SecretBytes::zeroed(hsm::kSeedBytes);
  const auto keys = hsm::make_token_keys(**module, uri, *pin, seed != nullptr ? seed : &*zeros);
  if (!keys) return tl::unexpected(keys.error());
  return keys->root_id;
}

hsm::TokenLink::Options SoftHsmFolder::link(const std::string& module_path,
                                            std::string_view label) const {
  hsm::TokenLink::Options options;
  options.module_path = module_path;
  options.uri.token = std::string(label);
  options.pin_file = pin_file(label).string();
  options.pin_mark_file = pin_mark(label).string();
  options.reconnect_pause = std::chrono::milliseconds(0);
  return options;
}

std::size_t count_objects(const std::string& module_path, std::string_view label) {
  const auto module = hsm::Pkcs11Module::load(module_path, nullptr);
  if (!module || (*module)->initialize() != CKR_OK) std::abort();
  hsm::Pkcs11Uri uri;
  uri.token = std::string(label);
  const auto token = (*module)->find_token(uri);
  if (!token) std::abort();
  hsm::SessionPool sessions(**module, token->slot, 1);
  if (sessions.open() != CKR_OK) std::abort();
  std::vector<CK_OBJECT_HANDLE> found(4096);
  CK_ULONG count = 0;
  const CK_RV begun = (*module)->call(&CK_FUNCTION_LIST::C_FindObjectsInit, sessions.owner(),
                                      static_cast<CK_ATTRIBUTE*>(nullptr), CK_ULONG{0});
  const CK_RV rv = (*module)->call(&CK_FUNCTION_LIST::C_FindObjects, sessions.owner(), found.data(),
                                   CK_ULONG{found.size()}, &count);
  if (begun != CKR_OK || rv != CKR_OK) std::abort();
  (*module)->call(&CK_FUNCTION_LIST::C_FindObjectsFinal, sessions.owner());
  return count;
}

}  // namespace coffer::tests
