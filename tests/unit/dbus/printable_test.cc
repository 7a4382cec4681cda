// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <random>

#include "dbus/message.h"

namespace coffer::dbus {
namespace {

TEST(PrintableUtf8Test, GoodTextStaysAsItIs) {
  for (const std::string text : {"", "vol-a", "Schlüssel", "鍵", "\U0001f511", "a b~"})
    EXPECT_EQ(printable_utf8(text), text);
}

TEST(PrintableUtf8Test, ControlCharactersAndBadBytesBecomeQuestionMarks) {
  EXPECT_EQ(printable_utf8("a\x1b[31mb"), "a?[31mb");
  EXPECT_EQ(printable_utf8("two\nlines\tand"), "two lines and");
  EXPECT_EQ(printable_utf8(std::string("a\0b", 3)), "a?b");
  EXPECT_EQ(printable_utf8("\xff\xfe"), "??");
  EXPECT_EQ(printable_utf8("\x7f"), "?");
}

TEST(PrintableUtf8Test, FormsThatUnicodeForbidsAreNotPassedOn) {
  EXPECT_EQ(printable_utf8("\xc0\xaf"), "??");            // An overlong slash.
  EXPECT_EQ(printable_utf8("\xe0\x80\xaf"), "???");       // A longer one.
  EXPECT_EQ(printable_utf8("\xed\xa0\x80"), "???");       // Half of a surrogate pair.
  EXPECT_EQ(printable_utf8("\xf4\x90\x80\x80"), "????");  // Beyond Unicode.
  EXPECT_EQ(printable_utf8("\xe9\x8d"), "??");            // Cut off.
}

TEST(PrintableUtf8Test, WhateverComesInTheBusTakesWhatComesOut) {
  std::mt19937 random(4711);
  for (int i = 0; i < 2000; ++i) {
    std::string text(random() % 16, '\0');
    for (auto& c : text) c = static_cast<char>(random());
    const auto once = printable_utf8(text);
    EXPECT_EQ(printable_utf8(once), once);
  }
}

}  // namespace
}  // namespace coffer::dbus
