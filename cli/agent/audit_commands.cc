// SPDX-License-Identifier: Apache-2.0
// `coffer audit …`: the audit trail of the agent.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <memory>
#include <optional>
#include <ostream>

#include "cli/agent/agent_command.h"
#include "cli/agent/table.h"
#include "cli/commands.h"
#include "core/audit/verifier.h"
#include "core/base/clock.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr std::uint32_t kPage = 1000;

json::object record_of(const json::value& row) {
  const auto& cells = row.as_array();
  return {{"seq", cells.at(0)},   {"time-usec", cells.at(1)}, {"boot-usec", cells.at(2)},
          {"event", cells.at(3)}, {"object", cells.at(4)},    {"text", cells.at(5)}};
}

Result<json::array> query(AgentBus& bus, const OptionList& filter, std::uint32_t count_max) {
  auto answer = bus.call(kAgentRoot, "Audit", "Query", [&](sd_bus_message* m) {
    const int r = filter.append_alone(m);
    return r < 0 ? r : ::sd_bus_message_append(m, "u", count_max);
  });
  if (!answer) return answer;
  json::array records;
  for (const auto& row : answer->at(0).as_array()) records.push_back(record_of(row));
  return records;
}

void print_line(const json::object& record, Invocation& invocation) {
  invocation.out << number_of(record, "seq") << "  " << time_text(number_of(record, "time-usec"))
                 << "  " << text_of(record, "event");
  if (const auto object = text_of(record, "object"); !object.empty())
    invocation.out << "  " << object;
  if (const auto text = text_of(record, "text"); !text.empty()) invocation.out << "  " << text;
  invocation.out << "\n" << std::flush;
}

// "90s", "30m", "2h", "7d": so long ago. "2026-11-22 03:00", with or without seconds: then, UTC.
std::optional<WallTime> parse_time(const std::string& text, WallTime now) {
  std::tm parts{};
  for (const auto* format : {"%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"}) {
    parts = {};
    const char* end = ::strptime(text.c_str(), format, &parts);
    if (end != nullptr && *end == '\0')
      return WallTime(std::chrono::seconds(std::max<std::time_t>(::timegm(&parts), 0)));
  }
  std::uint32_t count = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), count);
  if (read.ec != std::errc() || read.ptr + 1 != text.data() + text.size()) return std::nullopt;
  constexpr std::string_view kUnits = "smhd";
  constexpr std::array kSeconds = {1, 60, 3600, 86400};
  const auto unit = kUnits.find(*read.ptr);
  if (unit == std::string_view::npos) return std::nullopt;
  const std::chrono::seconds ago(std::int64_t{count} * kSeconds.at(unit));
  // Times on the bus begin with 1970, as the trail does.
  const auto most = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch());
  return ago < most ? now - ago : WallTime();
}

struct Query {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::string since;
  std::string until;
  std::string object;
  std::string operation;
  std::int64_t uid = -1;
  std::uint32_t count_max = kPage;
};

int run_query(AgentBus& bus, const Query& own, const AgentOptions& options,
              Invocation& invocation) {
  OptionList filter;
  if (own.from > 0) filter.number("from-seq", own.from);
  if (own.to > 0) filter.number("to-seq", own.to);
  const WallTime now = system_clock().wall();
  for (const auto& [name, text] :
       {std::pair{"since-usec", &own.since}, {"until-usec", &own.until}}) {
    const auto time = text->empty() ? std::nullopt : parse_time(*text, now);
    if (time) filter.number(name, usec(*time));
  }
  filter.text("object", own.object);
  filter.text("operation", own.operation);
  if (own.uid >= 0) filter.number32("uid", static_cast<std::uint32_t>(own.uid));
  const auto records = query(bus, filter, own.count_max);
  if (!records) return report_error(records.error(), options, invocation);
  if (options.json) return print_json(*records, invocation);
  for (const auto& record : *records) print_line(record.as_object(), invocation);
  if (records->size() == own.count_max)
    invocation.err << "there may be more: --from "
                   << number_of(records->back().as_object(), "seq") + 1 << "\n";
  return kExitOk;
}

void declare_query(CLI::App& parent, Invocation& invocation) {
  const auto own = std::make_shared<Query>();
  auto* command =
      add_agent_command(parent, invocation, "query", "Records, oldest first", kPlainCommand,
                        [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
                          return run_query(bus, *own, options, run);
                        });
  command->add_option("--from", own->from, "First sequence number");
  command->add_option("--to", own->to, "Last sequence number");
  const auto is_time = [](const std::string& text) {
    const bool good = parse_time(text, system_clock().wall()).has_value();
    return good ? std::string() : std::string("30s, 15m, 2h, 7d ago, or YYYY-MM-DD HH:MM[:SS] UTC");
  };
  command->add_option("--since", own->since, "Not before: 15m, 2h, 7d ago, or a UTC time")
      ->check(is_time);
  command->add_option("--until", own->until, "Not after: as --since")->check(is_time);
  command->add_option("--object", own->object, "UUID of a volume, id of a key");
  command->add_option("--operation", own->operation, "volume.unlock, volume.*, key.create, …");
  command->add_option("--uid", own->uid, "Who asked")->check(CLI::Range(0U, UINT32_MAX));
  command->add_option("--max", own->count_max, "At most so many")->check(CLI::Range(1U, kPage));
}

struct Verdict {
  bool ok = false;
  std::uint64_t bad_sequence = 0;
  std::string text;
};

int show_verdict(const Verdict& verdict, const AgentOptions& options, Invocation& invocation) {
  if (options.json) {
    print_json(
        json::object{{"ok", verdict.ok}, {"bad-seq", verdict.bad_sequence}, {"text", verdict.text}},
        invocation);
  } else {
    invocation.out << (verdict.ok
                           ? "unbroken: "
                           : "BROKEN at record " + std::to_string(verdict.bad_sequence) + ": ")
                   << verdict.text << "\n";
  }
  return verdict.ok ? kExitOk : reason_info(Reason::kAuditBroken).exit_status;
}

int run_verify(AgentBus& bus, std::uint64_t from, std::uint64_t to, const AgentOptions& options,
               Invocation& invocation) {
  const auto answer = bus.call(kAgentRoot, "Audit", "Verify", [&](sd_bus_message* m) {
    return ::sd_bus_message_append(m, "tt", from, to);
  });
  if (!answer) return report_error(answer.error(), options, invocation);
  return show_verdict({answer->at(0).as_bool(), answer->at(1).to_number<std::uint64_t>(),
                       std::string(answer->at(2).as_string())},
                      options, invocation);
}

struct VerifyRange {
  std::uint64_t from = 0;
  std::uint64_t to = 0;
  std::string folder;
};

// A journal that is no agent's any more, or whose agent is down.
int verify_folder(const VerifyRange& range, const AgentOptions& options, Invocation& invocation) {
  const auto report = audit::verify_folder(range.folder, range.from, range.to);
  if (!report) return report_error(report.error(), options, invocation);
  const bool ok = report->intact;
  const auto text = ok ? std::to_string(report->records) + " records hold" +
                             (report->stopped ? ", the last one closes the journal in order" : "")
                       : report->problem;
  return show_verdict({ok, report->bad_sequence, text}, options, invocation);
}

void declare_verify(CLI::App& parent, Invocation& invocation) {
  const auto range = std::make_shared<VerifyRange>();
  const auto options = std::make_shared<AgentOptions>();
  auto* command = parent.add_subcommand("verify", "Check that the chain is unbroken");
  add_agent_options(*command, *options);
  command->add_option("--from", range->from, "First sequence number");
  command->add_option("--to", range->to, "Last sequence number; 0: the end");
  command->add_option("--folder", range->folder, "Of a journal in this folder, without the agent");
  command->callback([range, options, &invocation] {
    invocation.action = [range, options, &invocation] {
      if (!range->folder.empty()) return verify_folder(*range, *options, invocation);
      return run_on_agent(
          [range](AgentBus& bus, const AgentOptions& given, Invocation& run) {
            return run_verify(bus, range->from, range->to, given, run);
          },
          *options, invocation);
    };
  });
}

// Prints what comes, until interrupted or --count records.
int run_tail(AgentBus& bus, std::uint64_t count_max, const AgentOptions& options,
             Invocation& invocation) {
  std::uint64_t next = 0;
  bool announced = false;
  const auto listening =
      bus.listen("org.coffer.Agent1.Audit",
                 [&](const std::string&, const std::string& member, const json::array& arguments) {
                   if (member != "Recorded") return;
                   if (next == 0) next = arguments.at(0).to_number<std::uint64_t>();
                   announced = true;
                 });
  if (!listening) return report_error(listening.error(), options, invocation);
  for (std::uint64_t shown = 0;;) {
    if (!announced) {
      if (const auto waited = bus.wait(std::chrono::seconds(10)); !waited)
        return report_error(waited.error(), options, invocation);
      continue;
    }
    announced = false;
    OptionList filter;
    filter.number("from-seq", next);
    const auto records = query(bus, filter, kPage);
    if (!records) return report_error(records.error(), options, invocation);
    for (const auto& record : *records) {
      if (options.json) {
        print_json(record, invocation);
      } else {
        print_line(record.as_object(), invocation);
      }
      next = number_of(record.as_object(), "seq") + 1;
      if (++shown == count_max) return kExitOk;
    }
    announced = announced || records->size() == kPage;
  }
}

}  // namespace

void declare_audit(CLI::App& parent, Invocation& invocation) {
  auto* group =
      parent.add_subcommand("audit", "Who did what, in a chain that cannot be edited unseen");
  group->require_subcommand(1);
  declare_query(*group, invocation);
  declare_verify(*group, invocation);
  const auto count = std::make_shared<std::uint64_t>(0);
  auto* tail = add_agent_command(
      *group, invocation, "tail", "Records as they come, with --json one object per line",
      kPlainCommand, [count](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return run_tail(bus, *count, options, run);
      });
  tail->add_option("--count", *count, "End after so many");
}

}  // namespace coffer::cli
