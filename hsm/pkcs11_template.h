// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <p11-kit/pkcs11.h>

#include <deque>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "hsm/pkcs11_module.h"

namespace coffer::hsm {

// Template builds a list of PKCS#11 attributes. It points to byte values and nested templates and
// owns the rest, so those outlive it, and it does not move once data() was taken.
class Template {
 public:
  Template() = default;
  Template(const Template&) = delete;
  Template& operator=(const Template&) = delete;

  Template& flag(CK_ATTRIBUTE_TYPE type, bool value) {
    static constexpr CK_BBOOL kFlags[] = {CK_FALSE, CK_TRUE};
    return bytes(type, std::as_bytes(std::span(&kFlags[value ? 1 : 0], 1)));
  }
  Template& number(CK_ATTRIBUTE_TYPE type, CK_ULONG value) {
    numbers_.push_back(value);
    return bytes(type, std::as_bytes(std::span(&numbers_.back(), 1)));
  }
  Template& bytes(CK_ATTRIBUTE_TYPE type, ByteView value) {
    attributes_.push_back({type, p11_bytes(value), value.size()});
    return *this;
  }
  Template& text(CK_ATTRIBUTE_TYPE type, std::string_view value) {
    return bytes(type, as_bytes(value));
  }
  Template& nested(CK_ATTRIBUTE_TYPE type, Template& value) {
    attributes_.push_back({type, value.data(), value.size() * sizeof(CK_ATTRIBUTE)});
    return *this;
  }

  CK_ATTRIBUTE* data() noexcept { return attributes_.data(); }
  CK_ULONG size() const noexcept { return attributes_.size(); }

 private:
  std::vector<CK_ATTRIBUTE> attributes_;
  std::deque<CK_ULONG> numbers_;  // A deque: what it holds stays where it is.
};

}  // namespace coffer::hsm
