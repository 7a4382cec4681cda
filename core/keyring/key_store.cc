// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_store.h"

#include <algorithm>
#include <set>

#include "core/base/bytes.h"

namespace coffer::keyring {
namespace {

constexpr std::size_t kTagNameBytesMax = 127;
constexpr std::size_t kTagValueBytesMax = 255;

bool is_text(std::string_view text, std::size_t size_max) {
  return text.size() <= size_max && is_utf8(text) && text.find('\0') == std::string_view::npos;
}

Result<void> require_each_tag(const std::vector<KeyTag>& tags) {
  if (tags.size() > kTagsMax) {
    return fail(Reason::kLimitsExceeded, "a key has at most " + std::to_string(kTagsMax) + " tags");
  }
  for (const auto& tag : tags) {
    const bool good = !tag.name.empty() && is_text(tag.name, kTagNameBytesMax) &&
                      is_text(tag.value, kTagValueBytesMax);
    if (!good) {
      return fail(Reason::kInvalidArgs, "tag '" + printable(tag.name, 64) +
                                            "': a name has 1 to 127 bytes of UTF-8, a value at "
                                            "most 255");
    }
  }
  return {};
}

}  // namespace

Result<void> require_tags(const std::vector<KeyTag>& tags) {
  if (auto good = require_each_tag(tags); !good) return good;
  std::set<std::string_view> names;
  for (const auto& tag : tags) {
    if (!names.insert(tag.name).second) {
      return fail(Reason::kInvalidArgs, "tag '" + printable(tag.name, 64) + "' is given twice");
    }
  }
  return {};
}

Result<void> require_filter(const KeyFilter& filter) {
  if (!is_text(filter.search, kSearchBytesMax)) {
    return fail(Reason::kInvalidArgs, "what is searched for has at most " +
                                          std::to_string(kSearchBytesMax) + " bytes of UTF-8");
  }
  return require_each_tag(filter.tags);
}

Result<void> require_resource(std::string_view resource) {
  const bool good = !resource.empty() && resource.size() <= kResourceBytesMax &&
                    std::ranges::all_of(resource, [](char c) { return c > ' ' && c <= '~'; });
  if (good) return {};
  return fail(Reason::kInvalidArgs, "'" + printable(resource, 64) +
                                        "' names no resource: 1 to 128 printable characters "
                                        "without blanks");
}

}  // namespace coffer::keyring
