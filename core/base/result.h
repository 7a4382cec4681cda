// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

#include "core/base/error_reasons.h"

namespace coffer {

// Error is a failure as a value: a reason, whose row tells what the caller can do, and a message
// that names the object and the step. It never holds key material.
class Error {
 public:
  Error(Reason reason, std::string message) : reason_(reason), message_(std::move(message)) {}

  Reason reason() const noexcept { return reason_; }
  Errc code() const noexcept { return reason_info(reason_).code; }
  bool retryable() const noexcept { return reason_info(reason_).retryable == Retryable::kYes; }
  std::string_view name() const noexcept { return reason_info(reason_).name; }
  const std::string& message() const noexcept { return message_; }

  // "KeyDisabled: wrap under key 1f…: the key is disabled"
  std::string str() const;

  friend bool operator==(const Error&, const Error&) = default;

 private:
  Reason reason_;
  std::string message_;
};

// Result holds a T or the Error that prevented it. Dropping one draws a warning.
template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using Base = tl::expected<T, Error>;
  using Base::Base;
  // NOLINTNEXTLINE(google-explicit-constructor): a Result is what its base is.
  Result(Base base) : Base(std::move(base)) {}
};

// Starts an error. Not inline: GCC 12 sees an overrun in every short literal that it can follow
// into a Result (its bug 105329).
tl::unexpected<Error> fail(Reason reason, std::string message);

// The same from an errno value: `step` and the system's words for it. EACCES and EPERM become
// kAccessDenied, ENOENT kNoSuchFile, ENOMEM kNoMemory, others `otherwise`.
tl::unexpected<Error> fail_errno(int error_number, std::string_view step,
                                 Reason otherwise = Reason::kIoError);

// Hands `cause` up with one more phrase in front: "doing what: cause".
tl::unexpected<Error> pass(const Error& cause, std::string_view doing);

// Keeps the reason that came first and adds what the failed undo left behind.
Error with_leftover(const Error& cause, const Error& undo);

}  // namespace coffer
