// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/cmk_record.h"

namespace coffer::hsm {

// What `coffer init`, as root, asks `coffer-vault --setup`, as the vault's user, to do: a token
// that root made could not be read by the vault. One message each way over a socket pair, in locked
// memory, as seed and PIN are in it. Both ends are of one package, so there is one version.
struct SetupRequest {
  std::string module_path;
  std::string softhsm_conf;     // Set as SOFTHSM2_CONF; "" where the module is not SoftHSM.
  std::string new_token_label;  // "" takes the token that `uri` names.
  std::string uri;
  std::string pin_mark_file;  // Of a token that was there before: which PIN it refused.
  bool look_only = false;     // Make nothing: say what is there. kNoSuchKey: not the keys.
  SecretBytes pin;
  SecretBytes seed;  // Empty: the keys are generated in the token.
};

struct SetupAnswer {
  std::string uri;  // Names the token that was made, or was taken.
  std::string root_id;
  bool keys_were_there = false;
  bool root_never_left = false;
  keyring::TokenKind kind = keyring::TokenKind::kSoftware;
};

Result<SecretBytes> encode_setup(const SetupRequest& request);        // kNoMemory, kInvalidArgs
Result<SetupRequest> decode_setup(std::span<const std::byte> bytes);  // kMessageInvalid, kNoMemory

Bytes encode_setup_answer(const Result<SetupAnswer>& answer);
// The answer, or the error that is in it. kMessageInvalid: neither.
Result<SetupAnswer> decode_setup_answer(ByteView bytes);

}  // namespace coffer::hsm
