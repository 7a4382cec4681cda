// SPDX-License-Identifier: Apache-2.0
#include "core/base/result.h"

#include <cerrno>
#include <system_error>

namespace coffer {
namespace {

Reason reason_of_errno(int error_number, Reason otherwise) {
  switch (error_number) {
    case EACCES:
    case EPERM:
      return Reason::kAccessDenied;
    case ENOENT:
      return Reason::kNoSuchFile;
    case ENOMEM:
      return Reason::kNoMemory;
    default:
      return otherwise;
  }
}

}  // namespace

std::string Error::str() const {
  return std::string(name()) + ": " + message_;
}

tl::unexpected<Error> fail(Reason reason, std::string message) {
  return tl::unexpected<Error>(Error(reason, std::move(message)));
}

tl::unexpected<Error> fail_errno(int error_number, std::string_view step, Reason otherwise) {
  return fail(reason_of_errno(error_number, otherwise),
              std::string(step) + ": " + std::system_category().message(error_number));
}

tl::unexpected<Error> pass(const Error& cause, std::string_view doing) {
  return fail(cause.reason(), std::string(doing) + ": " + cause.message());
}

Error with_leftover(const Error& cause, const Error& undo) {
  return {cause.reason(), cause.message() + "; and undoing it failed: " + undo.str()};
}

}  // namespace coffer
