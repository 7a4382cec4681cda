// SPDX-License-Identifier: Apache-2.0
#include "core/audit/audit_log.h"

namespace coffer::audit {
namespace {

bool operation_matches(std::string_view wanted, std::string_view operation) {
  if (wanted.ends_with(".*")) return operation.starts_with(wanted.substr(0, wanted.size() - 1));
  return wanted == operation;
}

bool is_about(const Event& event, const Uuid& object) {
  return (event.volume && event.volume->uuid() == object) ||
         (event.cmk && event.cmk->uuid() == object);
}

bool identity_matches(const Filter& filter, const Event& event) {
  if (filter.volume && event.volume != filter.volume) return false;
  if (filter.cmk && event.cmk != filter.cmk) return false;
  if (filter.object && !is_about(event, *filter.object)) return false;
  if (filter.uid && event.actor.uid != filter.uid) return false;
  return true;
}

}  // namespace

bool matches(const Filter& filter, const Record& record) {
  if (record.sequence < filter.from_sequence) return false;
  if (filter.to_sequence != 0 && record.sequence > filter.to_sequence) return false;
  if (filter.from_time && record.wall < *filter.from_time) return false;
  if (filter.to_time && record.wall > *filter.to_time) return false;
  if (filter.kind && record.event.kind != *filter.kind) return false;
  if (!filter.operation.empty() && !operation_matches(filter.operation, record.event.operation)) {
    return false;
  }
  return identity_matches(filter, record.event);
}

Event dropped_note(std::uint64_t count) {
  Event event;
  event.operation = "audit.dropped";
  event.text = std::to_string(count) + " more events were not kept";
  return event;
}

}  // namespace coffer::audit
