// SPDX-License-Identifier: Apache-2.0
#include "agent/journal_print.h"

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include <cstdio>
#include <cstdlib>

namespace coffer::agent {
namespace {

constexpr std::size_t kTextBytesMax = 2000;

iovec part(const std::string& field) {
  // The journal only reads what it is given; iovec has no const.
  return {const_cast<char*>(field.data()), field.size()};
}

}  // namespace

void print_to_journal(const LogEntry& entry) {
  const std::string text = printable(entry.message, kTextBytesMax);
  if (::getenv("JOURNAL_STREAM") == nullptr) {
    std::fprintf(stderr, "<%d>%s\n", entry.priority, text.c_str());
    return;
  }
  std::vector<std::string> fields;
  const auto add = [&](const char* name, const std::string& value) {
    fields.push_back(std::string(name).append("=").append(value));
  };
  add("MESSAGE", text);
  add("PRIORITY", std::to_string(entry.priority));
  add("SYSLOG_IDENTIFIER", "cofferd");
  if (entry.volume) add("VOLUME_ID", entry.volume->str());
  if (!entry.error_name.empty()) add("ERROR_CODE", entry.error_name);
  if (entry.volume && !entry.error_name.empty()) {
    add("MESSAGE_ID", kMessageVolumeFailed);
  } else if (entry.volume && entry.priority == 5) {
    add("MESSAGE_ID", kMessageVolumeOpened);
  }
  std::vector<iovec> parts;
  for (const std::string& field : fields) parts.push_back(part(field));
  static_cast<void>(::sd_journal_sendv(parts.data(), static_cast<int>(parts.size())));
}

}  // namespace coffer::agent
