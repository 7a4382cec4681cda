// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include "core/base/result.h"

namespace coffer::hsm {

// SoftHsmCopy has SoftHSM work on a copy of its tokens. SoftHSM 2.6 writes a token's file anew at
// each login, in place and without fsync(), so a power cut may leave a token that nothing opens any
// more (docs/decisions/0120-softhsm-works-on-a-copy.md). The keys of a Coffer token never change
// once it is set up, so nothing that is worth keeping is ever written to the copy.
//
// Not thread-safe. The folder belongs to one process at a time.
class SoftHsmCopy {
 public:
  static constexpr std::size_t kFilesMax = 4096;
  static constexpr std::size_t kFileBytesMax = std::size_t{1} << 20U;

  // `conf_path`: SoftHSM's own configuration. `folder`: where the copy comes to lie; it is there.
  SoftHsmCopy(std::string conf_path, std::string folder)
      : conf_path_(std::move(conf_path)), folder_(std::move(folder)) {}

  // The configuration of the copy, for SOFTHSM2_CONF.
  std::string conf() const { return folder_ + "/softhsm2.conf"; }

  // Makes the copy anew from the tokens as they are now. The module must not be initialised. Where
  // there are no tokens there are none in the copy.
  //   kConfigInvalid   the configuration names no folder of tokens.
  //   kLimitsExceeded  more or larger files than a token has.
  //   kNoSuchFile, kAccessDenied, kIoError
  Result<void> refresh() const;

  // Removes the folder, as far as that is possible.
  void remove() const noexcept;

 private:
  std::string conf_path_;
  std::string folder_;
};

}  // namespace coffer::hsm
