// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/open_intents.h"

#include <map>

namespace coffer::agent {
namespace {

constexpr std::size_t kPageRecords = 10'000;

}  // namespace

Result<std::vector<audit::Record>> open_intents(audit::AuditLog& log, std::uint64_t last) {
  audit::Filter filter;
  filter.operation = "volume.*";
  filter.from_sequence = last > kIntentsLookedAt ? last - kIntentsLookedAt : 1;
  filter.to_sequence = last;
  std::map<std::uint64_t, audit::Record> open;
  while (last > 0) {
    auto page = log.query(filter, kPageRecords);
    if (!page) return tl::unexpected(page.error());
    for (audit::Record& record : page->records) {
      if (record.event.kind == audit::Kind::kIntent) open.emplace(record.sequence, record);
      if (record.event.kind == audit::Kind::kResult) open.erase(record.event.intent_sequence);
    }
    if (page->next_sequence == 0) break;
    filter.from_sequence = page->next_sequence;
  }
  std::vector<audit::Record> intents;
  intents.reserve(open.size());
  for (auto& [sequence, record] : open) intents.push_back(std::move(record));
  return intents;
}

void close_intents(audit::AuditLog& log, const std::vector<audit::Record>& intents,
                   const std::function<bool(const audit::Event&)>& is_done) {
  for (const audit::Record& intent : intents) {
    const bool done = is_done(intent.event);
    audit::Event event = intent.event;
    event.kind = audit::Kind::kResult;
    event.intent_sequence = intent.sequence;
    event.outcome =
        std::string(done ? audit::kOutcomeOk : reason_info(Reason::kAgentUnreachable).name);
    event.text =
        done ? "found done after a restart of the agent" : "not found done: the agent ended before";
    log.append_deferred(std::move(event));
  }
}

}  // namespace coffer::agent
