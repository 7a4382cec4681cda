// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/keyring/key_store.h"
#include "core/keyring/key_vault.h"
#include "dbus/options.h"

namespace coffer::dbus {

// The words that stand for enumerations of keys in options; those that properties show.
Result<keyring::KeyState> key_state_by_name(std::string_view name);
Result<keyring::KeyOwner> key_owner_by_name(std::string_view name);
Result<keyring::KeyOrigin> key_origin_by_name(std::string_view name);
Result<keyring::KeyUsage> key_usage_by_name(std::string_view name);
Result<keyring::KeyAlgorithm> key_algorithm_by_name(std::string_view name);
Result<keyring::Protection> protection_by_name(std::string_view name);
Result<keyring::ImportWrapping> import_wrapping_by_name(std::string_view name);
Result<keyring::SignScheme> sign_scheme_by_name(std::string_view name);
Result<keyring::DecryptScheme> decrypt_scheme_by_name(std::string_view name);

// "current", "decrypt-only", "destroyed"
std::string_view version_state_name(keyring::VersionState state) noexcept;

// What the options of CreateKey and the filter of ListKeys say.   kInvalidArgs: names the word.
inline constexpr OptionSpec kCreateKeyOptions[] = {
    {"description", 's'}, {"algorithm", 's'}, {"usage", 's'}, {"protection", 's'}, {"origin", 's'}};
Result<keyring::CmkParameters> create_parameters(const std::string& alias, const Options& options);

inline constexpr OptionSpec kKeyFilter[] = {{"state", 's'}, {"owner", 's'},     {"origin", 's'},
                                            {"usage", 's'}, {"algorithm", 's'}, {"search", 's'},
                                            {"tag", 's'},   {"tags", 'a'},      {"order", 's'},
                                            {"after", 's'}, {"offset", 'u'},    {"max", 'u'}};
Result<keyring::KeyQuery> key_query(const Options& filter);

}  // namespace coffer::dbus
