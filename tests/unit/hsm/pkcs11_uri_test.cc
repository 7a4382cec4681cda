// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_uri.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

// What `uri` says, as the vectors say it.
boost::json::object fields_of(const Pkcs11Uri& uri) {
  boost::json::object out;
  const auto add = [&](const char* name, const std::optional<std::string>& value) {
    if (value) out[name] = to_hex(as_bytes(*value));
  };
  add("token", uri.token);
  add("manufacturer", uri.manufacturer);
  add("model", uri.model);
  add("serial", uri.serial);
  add("object", uri.object);
  if (uri.id) out["id"] = to_hex(*uri.id);
  if (uri.slot_id) out["slot_id"] = *uri.slot_id;
  if (uri.object_class) out["class"] = *uri.object_class;
  return out;
}

TEST(Pkcs11UriTest, NeverReadsAnotherValueThanTheReference) {
  const auto file = read_file(tests::vectors_dir() / "pkcs11" / "uri.json", 1 << 20);
  ASSERT_THAT(file, Succeeds());
  const auto vectors = boost::json::parse(as_text(*file));

  int accepted = 0;
  for (const auto& entry : vectors.at("cases").as_array()) {
    const std::string text(entry.at("uri").as_string());
    const auto uri = Pkcs11Uri::parse(text);
    if (!uri) {
      EXPECT_EQ(uri.error().reason(), Reason::kConfigInvalid) << text;
      continue;
    }
    ++accepted;
    EXPECT_EQ(entry.at("reference").as_string(), "ok") << text;
    const auto& expected = entry.at("fields").as_object();
    const auto found = fields_of(*uri);
    EXPECT_EQ(found.size(), expected.size()) << text;
    for (const auto& [name, value] : expected) {
      ASSERT_TRUE(found.contains(name)) << text << ": " << name;
      EXPECT_EQ(boost::json::serialize(found.at(name)), boost::json::serialize(value)) << text;
    }
  }
  EXPECT_GT(accepted, 50);
}

TEST(Pkcs11UriTest, RefusesWhatCouldBeReadInTwoWays) {
  for (const char* text : {"pkcs11:token=a;token=b", " pkcs11:token=a", "pkcs11:token=a ",
                           "pkcs11:token = a", "pkcs11:unknown=1", "pkcs11:token=caf\xC3\xA9"}) {
    EXPECT_THAT(Pkcs11Uri::parse(text), FailsWith(Reason::kConfigInvalid)) << text;
  }
}

TEST(Pkcs11UriTest, RefusesAPinInTheUri) {
  EXPECT_THAT(Pkcs11Uri::parse("pkcs11:token=a?pin-value=1234"), FailsWith(Reason::kConfigInvalid));
}

TEST(Pkcs11UriTest, RefusesMoreThanItsLimit) {
  const std::string text = "pkcs11:object=" + std::string(Pkcs11Uri::kTextBytesMax, 'o');
  EXPECT_THAT(Pkcs11Uri::parse(text), FailsWith(Reason::kConfigInvalid));
}

TEST(Pkcs11UriTest, MatchesATokenOnlyInAllItSays) {
  const auto uri = Pkcs11Uri::parse("pkcs11:token=Coffer%20host;serial=0011");
  ASSERT_THAT(uri, Succeeds());
  const TokenIdentity found{"Coffer host", "maker", "model", "0011", 3};

  EXPECT_TRUE(uri->names_token());
  EXPECT_TRUE(uri->matches(found));
  auto other = found;
  other.serial = "0012";
  EXPECT_FALSE(uri->matches(other));
  other = found;
  other.label = "coffer host";
  EXPECT_FALSE(uri->matches(other));
}

}  // namespace
}  // namespace coffer::hsm
