// SPDX-License-Identifier: Apache-2.0
// `coffer job …` and `coffer provider …`.
#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <ostream>

#include "cli/agent/agent_command.h"
#include "cli/agent/job_follower.h"
#include "cli/agent/provider_wait.h"
#include "cli/agent/table.h"
#include "cli/commands.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

std::string job_path(std::uint32_t number) {
  return std::string(kAgentRoot).append("/job/").append(std::to_string(number));
}

int list_jobs(AgentBus& bus, const AgentOptions& options, Invocation& invocation) {
  const auto jobs = bus.objects("Job");
  if (!jobs) return report_error(jobs.error(), options, invocation);
  std::map<std::uint64_t, json::object> by_id;
  for (const auto& [path, job] : *jobs) by_id.emplace(number_of(job, "Id"), with_path(job, path));
  if (options.json) {
    json::array all;
    for (auto& [id, job] : by_id) all.emplace_back(std::move(job));
    return print_json(all, invocation);
  }
  Table table({"JOB", "OPERATION", "STATE", "DONE", "FAILED", "STARTED", "BY UID", ""});
  for (const auto& [id, job] : by_id) {
    table.add(
        {std::to_string(id), text_of(job, "Operation"), text_of(job, "State"),
         std::to_string(number_of(job, "Done")) + "/" + std::to_string(number_of(job, "Total")),
         std::to_string(number_of(job, "Failed")), time_text(number_of(job, "StartTime")),
         std::to_string(number_of(job, "StartedByUID")), text_of(job, "Message")});
  }
  if (table.empty()) {
    invocation.err << "no jobs; one is kept for a minute after its end\n";
  } else {
    table.print(invocation.out);
  }
  return kExitOk;
}

int show_job(AgentBus& bus, std::uint32_t number, const AgentOptions& options,
             Invocation& invocation) {
  const auto path = job_path(number);
  const auto job = bus.properties(path, "Job");
  if (!job) return report_error(job.error(), options, invocation);
  const auto details = job_details(bus, path);
  if (!details) return report_error(details.error(), options, invocation);
  if (options.json) {
    auto document = with_path(*job, path);
    document["Results"] = *details;
    return print_json(document, invocation);
  }
  print_job_results(*job, *details, invocation);
  return kExitOk;
}

CLI::App* on_job(
    CLI::App& parent, Invocation& invocation, const char* name, const char* help,
    AgentCommandKind kind,
    std::function<int(AgentBus&, std::uint32_t, const AgentOptions&, Invocation&)> work) {
  const auto number = std::make_shared<std::uint32_t>(0);
  auto* command =
      add_agent_command(parent, invocation, name, help, kind,
                        [number, work = std::move(work)](AgentBus& bus, const AgentOptions& options,
                                                         Invocation& run) {
                          return work(bus, *number, options, run);
                        });
  command->add_option("JOB", *number, "Its number")->required();
  return command;
}

int list_providers(AgentBus& bus, const AgentOptions& options, Invocation& invocation) {
  const auto providers = bus.objects("KeyProvider");
  if (!providers) return report_error(providers.error(), options, invocation);
  if (options.json) {
    json::array all;
    for (const auto& [path, provider] : *providers) all.push_back(with_path(provider, path));
    return print_json(all, invocation);
  }
  Table table({"NAME", "KIND", "STATE", "TOKEN", "LATENCY", "FAILURES", "DETAIL"});
  for (const auto& [path, provider] : *providers) {
    const auto& error = provider.at("LastError").as_array();
    const auto name = short_error_name(error.at(0).as_string());
    table.add({text_of(provider, "Name"), text_of(provider, "Kind"), text_of(provider, "State"),
               text_of(provider, "TokenKind"), duration_text(number_of(provider, "LatencyUSec")),
               std::to_string(number_of(provider, "Failures")),
               name.empty() ? text_of(provider, "Detail")
                            : name + ": " + std::string(error.at(1).as_string())});
  }
  table.print(invocation.out);
  return kExitOk;
}

int test_provider(AgentBus& bus, const std::string& wanted, const AgentOptions& options,
                  Invocation& invocation) {
  const auto providers = bus.objects("KeyProvider");
  if (!providers) return report_error(providers.error(), options, invocation);
  for (const auto& [path, provider] : *providers) {
    if (text_of(provider, "Name") != wanted && !(wanted.empty() && providers->size() == 1))
      continue;
    JobFollower follower(bus, options, invocation);
    return follower.follow_answer(bus.call(path, "KeyProvider", "Test", [&](sd_bus_message* m) {
      return OptionList().append(m, options);
    }));
  }
  return report_error(Error(Reason::kInvalidArgs, "no provider is called \"" + wanted + "\""),
                      options, invocation);
}

int wait_for_provider(const std::string& name, double seconds, const AgentOptions& options,
                      Invocation& invocation) {
  const auto wait =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
  const auto up = wait_provider_up(options.bus, name, Deadline::after(wait));
  if (!up) return report_error(up.error(), options, invocation);
  if (options.json) return print_json(json::object{{"State", "up"}, {"Detail", *up}}, invocation);
  invocation.out << "up: " << *up << "\n";
  return kExitOk;
}

}  // namespace

void declare_job(CLI::App& parent, Invocation& invocation) {
  auto* group = parent.add_subcommand("job", "Work that runs or ended less than a minute ago");
  group->require_subcommand(1);
  add_agent_command(*group, invocation, "list", "All jobs", kPlainCommand, &list_jobs);
  on_job(*group, invocation, "show", "A job and each volume's result", kPlainCommand, &show_job);
  on_job(*group, invocation, "wait", "Follow a job to its end", kPlainCommand,
         [](AgentBus& bus, std::uint32_t number, const AgentOptions& options, Invocation& run) {
           return JobFollower(bus, options, run).follow(job_path(number));
         });
  on_job(*group, invocation, "cancel", "Begin nothing more; what was begun is finished",
         kChangeCommand,
         [](AgentBus& bus, std::uint32_t number, const AgentOptions& options, Invocation& run) {
           const auto done = bus.call(job_path(number), "Job", "Cancel", [&](sd_bus_message* m) {
             return OptionList().append(m, options);
           });
           return report_done(done, "cancelled", options, run);
         });
}

void declare_provider(CLI::App& parent, Invocation& invocation) {
  auto* group = parent.add_subcommand("provider", "Where keys live");
  group->require_subcommand(1);
  add_agent_command(*group, invocation, "list", "All providers", kPlainCommand, &list_providers);
  const auto name = std::make_shared<std::string>();
  auto* test = add_agent_command(
      *group, invocation, "test", "Wrap and unwrap a key of no volume", kJobCommand,
      [name](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        return test_provider(bus, *name, options, run);
      });
  const char* about_name = "Its name; may be left out when there is one";
  test->add_option("PROVIDER", *name, about_name);
  const auto seconds = std::make_shared<double>(30);
  auto* wait =
      add_agent_command(*group, invocation, "wait", "Wait until it is up", kPlainCommand,
                        [name, seconds](AgentBus&, const AgentOptions& options, Invocation& run) {
                          return wait_for_provider(*name, *seconds, options, run);
                        });
  wait->add_option("PROVIDER", *name, about_name);
  wait->add_option("--timeout", *seconds, "Seconds (30)")->check(CLI::Range(0.0, 86400.0));
}

}  // namespace coffer::cli
