// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_errors.h"

#include <array>

#include "hsm/sdf_api.h"

namespace coffer::hsm {
namespace {

using rows::other;
using rows::pin;
using rows::resource;
using rows::session_lost;
using rows::token_lost;
using rows::unclear;

constexpr auto kTable = std::to_array<ReturnInfo>({
    {sdf::kOk, "SDR_OK", ReturnClass::kOk, Reaction::kNone, Reason::kInternal},

    session_lost(sdf::kInArgErr, "SDR_INARGERR"),
    session_lost(sdf::kKeyNotExist, "SDR_KEYNOTEXIST"),
    session_lost(sdf::kStepErr, "SDR_STEPERR"),

    token_lost(sdf::kCommFail, "SDR_COMMFAIL"),
    token_lost(sdf::kHardFail, "SDR_HARDFAIL"),
    token_lost(sdf::kOpenDevice, "SDR_OPENDEVICE"),

    pin(sdf::kParDeny, "SDR_PARDENY", Reason::kHsmPinIncorrect),
    pin(sdf::kPrkRErr, "SDR_PRKRERR", Reason::kHsmPinIncorrect),

    unclear(sdf::kUnknownErr, "SDR_UNKNOWNERR"),
    unclear(sdf::kPkOpErr, "SDR_PKOPERR"),
    unclear(sdf::kSkOpErr, "SDR_SKOPERR"),
    unclear(sdf::kSymOpErr, "SDR_SYMOPERR"),
    unclear(sdf::kEncDataErr, "SDR_ENCDATAERR"),

    resource(sdf::kOpenSession, "SDR_OPENSESSION"),
    resource(sdf::kNoBuffer, "SDR_NOBUFFER"),

    other(sdf::kNotSupport, "SDR_NOTSUPPORT", Reason::kUnsupported),
    other(sdf::kAlgNotSupport, "SDR_ALGNOTSUPPORT", Reason::kUnsupported),
    other(sdf::kAlgModNotSupport, "SDR_ALGMODNOTSUPPORT", Reason::kUnsupported),
    other(sdf::kSignErr, "SDR_SIGNERR", Reason::kHsmFailed),
    other(sdf::kVerifyErr, "SDR_VERIFYERR", Reason::kHsmFailed),
    other(sdf::kFileSizeErr, "SDR_FILESIZEERR", Reason::kHsmFailed),
    other(sdf::kFileNoExist, "SDR_FILENOEXIST", Reason::kHsmFailed),
    other(sdf::kFileOfsErr, "SDR_FILEOFSERR", Reason::kHsmFailed),
    other(sdf::kKeyTypeErr, "SDR_KEYTYPEERR", Reason::kHsmFailed),
    other(sdf::kKeyErr, "SDR_KEYERR", Reason::kHsmFailed),
    other(sdf::kRandErr, "SDR_RANDERR", Reason::kHsmFailed),
    other(sdf::kMacErr, "SDR_MACERR", Reason::kHsmFailed),
    other(sdf::kFileExists, "SDR_FILEEXISTS", Reason::kHsmFailed),
    other(sdf::kFileWErr, "SDR_FILEWERR", Reason::kHsmFailed),
    other(sdf::kOutArgErr, "SDR_OUTARGERR", Reason::kHsmFailed),
    other(sdf::kUserIdErr, "SDR_USERIDERR", Reason::kHsmFailed),
    other(kSdfBadAnswer, "an answer that cannot be", Reason::kHsmFailed),
});

}  // namespace

ReturnInfo sdf_return_info(unsigned long value) noexcept {
  return find_return(kTable, value);
}

std::span<const ReturnInfo> all_sdf_return_infos() noexcept {
  return kTable;
}

tl::unexpected<Error> fail_sdf_return(unsigned long value, std::string_view step) {
  return fail_with_return(sdf_return_info(value), step);
}

}  // namespace coffer::hsm
