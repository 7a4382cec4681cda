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

// Null: an operator alerts on none of it.
const char* message_id(const LogEntry& entry) {
  switch (entry.key_event) {
    case KeyEvent::kUsedInDeletion:
      return kMessageKeyUsedInDeletion;
    case KeyEvent::kNearDeletion:
      return kMessageKeyNearDeletion;
    case KeyEvent::kTakenByForce:
      return kMessageKeyTakenByForce;
    case KeyEvent::kDue:
      return kMessageKeyDue;
    case KeyEvent::kNone:
      break;
  }
  if (entry.volume && !entry.error_name.empty()) return kMessageVolumeFailed;
  return entry.volume && entry.priority == 5 ? kMessageVolumeOpened : nullptr;
}

}  // namespace

std::vector<std::string> journal_fields(const LogEntry& entry) {
  std::vector<std::string> fields;
  const auto add = [&](const char* name, const std::string& value) {
    fields.push_back(std::string(name).append("=").append(value));
  };
  add("MESSAGE", printable(entry.message, kTextBytesMax));
  add("PRIORITY", std::to_string(entry.priority));
  add("SYSLOG_IDENTIFIER", "cofferd");
  if (entry.volume) add("VOLUME_ID", entry.volume->str());
  if (entry.key) add("CMK_ID", entry.key->str());
  if (!entry.error_name.empty()) add("ERROR_CODE", entry.error_name);
  if (const char* id = message_id(entry); id != nullptr) add("MESSAGE_ID", id);
  return fields;
}

void print_to_journal(const LogEntry& entry) {
  if (::getenv("JOURNAL_STREAM") == nullptr) {
    std::fprintf(stderr, "<%d>%s\n", entry.priority,
                 printable(entry.message, kTextBytesMax).c_str());
    return;
  }
  const auto fields = journal_fields(entry);
  std::vector<iovec> parts;
  for (const std::string& field : fields) parts.push_back(part(field));
  static_cast<void>(::sd_journal_sendv(parts.data(), static_cast<int>(parts.size())));
}

}  // namespace coffer::agent
