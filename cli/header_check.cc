// SPDX-License-Identifier: Apache-2.0
// `coffer header check` and `coffer header profile`: what the reader and the rules say about a
// header, offline, without root where the file may be read.
#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <memory>
#include <ostream>

#include "cli/commands.h"
#include "cli/header_file.h"
#include "core/base/encoding.h"

namespace coffer::cli {
namespace {

struct Options {
  std::string path;
  std::string profile_path;
  bool json = false;
};

// The refusal that `field` and `reason` are about: the format's comes before the rules'.
const luks2::Refusal* first_refusal(const HeaderVerdict& verdict) {
  if (verdict.refusal) return &*verdict.refusal;
  return verdict.activation ? &*verdict.activation : nullptr;
}

boost::json::object as_json(const HeaderVerdict& verdict) {
  const luks2::Refusal* const refusal = first_refusal(verdict);
  boost::json::object out;
  out["verdict"] = verdict.header ? "accept" : "refuse";
  out["reason"] = nullptr;
  out["epoch"] = nullptr;
  out["json_sha256"] = nullptr;
  out["activation"] = verdict.allowed() ? "allowed" : "refused";
  out["field"] = nullptr;
  if (refusal != nullptr) {
    out["reason"] = boost::json::string_view(reason_info(refusal->reason).name.data(),
                                             reason_info(refusal->reason).name.size());
    out["field"] = refusal->field;
    out["message"] = refusal->message;
  }
  if (verdict.header) {
    out["epoch"] = verdict.header->epoch;
    out["json_sha256"] = to_hex(verdict.header->json_sha256);
    out["copies"] = luks2::copies_name(verdict.header->copies).data();
    out["uuid"] = printable(verdict.header->uuid_text, 40);
  }
  return out;
}

void print_text(std::ostream& out, const HeaderVerdict& verdict) {
  out << "verdict     " << (verdict.header ? "accept" : "refuse") << "\n";
  out << "activation  " << (verdict.allowed() ? "allowed" : "refused") << "\n";
  if (const luks2::Refusal* const refusal = first_refusal(verdict)) {
    out << "reason      " << reason_info(refusal->reason).name << "\n";
    out << "field       " << refusal->field << ": " << refusal->message << "\n";
  }
  if (!verdict.header) return;
  out << "uuid        " << printable(verdict.header->uuid_text, 40) << "\n";
  out << "epoch       " << verdict.header->epoch << "\n";
  out << "copies      " << luks2::copies_name(verdict.header->copies) << "\n";
  out << "json sha256 " << to_hex(verdict.header->json_sha256) << "\n";
}

int unreadable(std::ostream& err, const Error& error) {
  err << "coffer: " << error.str() << "\n";
  return kExitUsage;
}

int check(const Options& options, Invocation& invocation) {
  std::optional<luks2::Profile> profile;
  if (!options.profile_path.empty()) {
    auto read = read_profile_file(options.profile_path);
    if (!read) return unreadable(invocation.err, read.error());
    profile = std::move(*read);
  }
  auto examined = examine_header_at(options.path);
  if (!examined) return unreadable(invocation.err, examined.error());
  const HeaderVerdict verdict = judge(std::move(*examined), profile ? &*profile : nullptr);
  if (options.json) {
    invocation.out << boost::json::serialize(as_json(verdict)) << "\n";
  } else {
    print_text(invocation.out, verdict);
  }
  return verdict.allowed() ? kExitOk : kExitNo;
}

int print_profile_of(const Options& options, Invocation& invocation) {
  auto examined = examine_header_at(options.path);
  if (!examined) return unreadable(invocation.err, examined.error());
  if (const auto* const refusal = std::get_if<luks2::Refusal>(&*examined)) {
    invocation.err << "coffer: " << refusal->error().str() << "\n";
    return kExitNo;
  }
  const auto profile = luks2::profile_of(std::get<luks2::Header>(*examined));
  if (!profile) {
    invocation.err << "coffer: " << profile.error().str() << "\n";
    return kExitNo;
  }
  invocation.out << luks2::print_profile(*profile);
  return kExitOk;
}

}  // namespace

void declare_header(CLI::App& parent, Invocation& invocation) {
  CLI::App* const header = parent.add_subcommand("header", "Look at a LUKS2 header, offline");
  header->require_subcommand(1);
  const auto options = std::make_shared<Options>();

  CLI::App* const check_command = header->add_subcommand(
      "check", "Whether a header is well-formed, and whether Coffer would ever activate it");
  check_command->add_option("FILE-OR-DEVICE", options->path, "It is only read")->required();
  check_command->add_option("--profile", options->profile_path, "A pinned profile to compare with");
  check_command->add_flag("--json", options->json, "One JSON object");
  check_command->callback([options, &invocation] {
    invocation.action = [options, &invocation] { return check(*options, invocation); };
  });

  CLI::App* const profile_command =
      header->add_subcommand("profile", "Print the profile that a header has, for --profile");
  profile_command->add_option("FILE-OR-DEVICE", options->path, "It is only read")->required();
  profile_command->callback([options, &invocation] {
    invocation.action = [options, &invocation] { return print_profile_of(*options, invocation); };
  });
}

}  // namespace coffer::cli
