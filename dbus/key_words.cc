// SPDX-License-Identifier: Apache-2.0
#include "dbus/key_words.h"

#include <algorithm>

#include "dbus/names.h"

namespace coffer::dbus {
namespace {

// Enumerations of the keyring are counted from 1 without gaps.
template <class E>
Result<E> by_name(std::string_view name, std::string_view (*name_of)(E) noexcept, E last,
                  const char* what) {
  std::string known;
  for (unsigned i = 1; i <= static_cast<unsigned>(last); ++i) {
    const auto value = static_cast<E>(i);
    if (name_of(value) == name) return value;
    known.append(known.empty() ? "" : ", ").append(name_of(value));
  }
  return fail(Reason::kInvalidArgs,
              std::string(what) + " is one of " + known + ", not \"" + printable(name, 64) + "\"");
}

// Sets `into` when the option is given.
template <class Into, class E>
Result<void> take(const Options& options, std::string_view option,
                  Result<E> (*parse)(std::string_view), Into& into) {
  const auto text = options.maybe_text(option);
  if (!text) return {};
  const auto value = parse(*text);
  if (!value) return tl::unexpected(value.error());
  into = *value;
  return {};
}

// What an algorithm is for when nothing is said.
Result<keyring::KeyUsage> usual_usage(keyring::KeyAlgorithm algorithm) {
  using keyring::KeyUsage;
  for (const auto usage : {KeyUsage::kEncryptDecrypt, KeyUsage::kSignVerify}) {
    const bool is_only = !keyring::fits(algorithm, KeyUsage::kAsymmetricDecrypt);
    if (is_only && keyring::fits(algorithm, usage)) return usage;
  }
  return fail(Reason::kInvalidArgs, "the usage of a key for " +
                                        std::string(key_algorithm_name(algorithm)) +
                                        " must be said: asymmetric-decrypt or sign-verify");
}

Result<keyring::KeyOrder> order_by_name(std::string_view name) {
  if (name == "id") return keyring::KeyOrder::kById;
  if (name == "oldest") return keyring::KeyOrder::kOldestFirst;
  if (name == "newest") return keyring::KeyOrder::kNewestFirst;
  return fail(Reason::kInvalidArgs, "order is one of id, oldest, newest");
}

Result<CmkId> id_of_text(std::string_view text) {
  const auto id = CmkId::parse(text);
  if (!id) return fail(Reason::kInvalidArgs, "after is the id of a key");
  return *id;
}

Result<void> first_error(std::initializer_list<Result<void>> results) {
  for (const auto& result : results) {
    if (!result) return result;
  }
  return {};
}

}  // namespace

Result<keyring::KeyState> key_state_by_name(std::string_view name) {
  return by_name(name, &keyring::key_state_name, keyring::KeyState::kPendingDelete, "state");
}
Result<keyring::KeyOwner> key_owner_by_name(std::string_view name) {
  return by_name(name, &keyring::key_owner_name, keyring::KeyOwner::kService, "owner");
}
Result<keyring::KeyOrigin> key_origin_by_name(std::string_view name) {
  return by_name(name, &keyring::key_origin_name, keyring::KeyOrigin::kImported, "origin");
}
Result<keyring::KeyUsage> key_usage_by_name(std::string_view name) {
  return by_name(name, &keyring::key_usage_name, keyring::KeyUsage::kSignVerify, "usage");
}
Result<keyring::KeyAlgorithm> key_algorithm_by_name(std::string_view name) {
  return by_name(name, &keyring::key_algorithm_name, keyring::KeyAlgorithm::kEcP384, "algorithm");
}
Result<keyring::Protection> protection_by_name(std::string_view name) {
  return by_name(name, &keyring::protection_name, keyring::Protection::kRooted, "protection");
}
Result<keyring::ImportWrapping> import_wrapping_by_name(std::string_view name) {
  return by_name(name, &keyring::import_wrapping_name, keyring::ImportWrapping::kSm2, "wrapping");
}
Result<keyring::SignScheme> sign_scheme_by_name(std::string_view name) {
  return by_name(name, &keyring::sign_scheme_name, keyring::SignScheme::kSm2, "scheme");
}
Result<keyring::DecryptScheme> decrypt_scheme_by_name(std::string_view name) {
  return by_name(name, &keyring::decrypt_scheme_name, keyring::DecryptScheme::kSm2, "scheme");
}

std::string_view version_state_name(keyring::VersionState state) noexcept {
  switch (state) {
    case keyring::VersionState::kCurrent:
      return "current";
    case keyring::VersionState::kDecryptOnly:
      return "decrypt-only";
    case keyring::VersionState::kDestroyed:
      return "destroyed";
  }
  return "destroyed";
}

Result<keyring::CmkParameters> create_parameters(const std::string& alias, const Options& options) {
  keyring::CmkParameters parameters;
  parameters.alias = alias;
  parameters.description = options.text("description");
  std::optional<keyring::KeyUsage> usage;
  const auto taken =
      first_error({take(options, "algorithm", &key_algorithm_by_name, parameters.algorithm),
                   take(options, "usage", &key_usage_by_name, usage),
                   take(options, "protection", &protection_by_name, parameters.protection),
                   take(options, "origin", &key_origin_by_name, parameters.origin)});
  if (!taken) return tl::unexpected(taken.error());
  if (!usage) {
    const auto usual = usual_usage(parameters.algorithm);
    if (!usual) return tl::unexpected(usual.error());
    usage = *usual;
  }
  parameters.usage = *usage;
  return parameters;
}

Result<keyring::KeyQuery> key_query(const Options& filter) {
  keyring::KeyQuery query;
  auto& wanted = query.filter;
  const auto taken =
      first_error({take(filter, "state", &key_state_by_name, wanted.state),
                   take(filter, "owner", &key_owner_by_name, wanted.owner),
                   take(filter, "origin", &key_origin_by_name, wanted.origin),
                   take(filter, "usage", &key_usage_by_name, wanted.usage),
                   take(filter, "algorithm", &key_algorithm_by_name, wanted.algorithm),
                   take(filter, "order", &order_by_name, query.order),
                   take(filter, "after", &id_of_text, query.after)});
  if (!taken) return tl::unexpected(taken.error());
  wanted.search = filter.text("search");
  auto tags = filter.texts("tags");
  if (auto tag = filter.maybe_text("tag")) tags.push_back(std::move(*tag));
  for (const auto& tag : tags) {
    const auto equals = tag.find('=');
    if (equals == std::string::npos) return fail(Reason::kInvalidArgs, "a tag is NAME=VALUE");
    wanted.tags.push_back({tag.substr(0, equals), tag.substr(equals + 1)});
  }
  query.offset = filter.number("offset").value_or(0);
  if (query.offset > 0 && query.order == keyring::KeyOrder::kById)
    return fail(Reason::kInvalidArgs, "offset goes with the orders oldest and newest alone");
  query.count_max = std::min<std::size_t>(filter.number("max").value_or(kPageMax), kPageMax);
  if (query.count_max == 0) return fail(Reason::kInvalidArgs, "max is at least 1");
  if (const auto good = keyring::require_filter(wanted); !good) return tl::unexpected(good.error());
  return query;
}

}  // namespace coffer::dbus
