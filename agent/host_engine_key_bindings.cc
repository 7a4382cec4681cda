// SPDX-License-Identifier: Apache-2.0
// What uses a key beside volumes, as callers tell.
#include <utility>

#include "agent/host_engine.h"
#include "agent/host_engine_pool.h"

namespace coffer::agent {
namespace {

// Resources are printable ASCII (keyring::require_resource), so nothing stands between this and
// `resource`.
std::string right_before(std::string resource) {
  --resource.back();
  return resource + '\x7f';
}

Result<void> require_bound(const keyring::Keyring& keyring, const CmkId& id,
                           const std::string& resource) {
  const auto next = keyring.bindings(id, right_before(resource), 1);
  if (!next) return tl::unexpected(next.error());
  if (!next->empty() && next->front() == resource) return {};
  return fail(Reason::kNoSuchBinding,
              printable(resource, keyring::kResourceBytesMax) + " is not bound to key " + id.str());
}

}  // namespace

void HostEngine::set_key_bound(const CmkId& id, const std::string& resource, bool bound,
                               const Caller& caller, Done<void> done) {
  const std::string operation = bound ? "key.bind" : "key.unbind";
  if (const auto good = require_callers_resource(resource); !good) {
    record_refusal(operation, id.str(), good.error(), caller);
    return done(good);
  }
  const KeyCall call{operation, {id}, caller};
  run_for_caller(
      call,
      [this, id, resource, bound, call, actor = actor_of(caller)]() -> Result<void> {
        if (bound) return parts_.keyring.bind(id, resource, actor);
        if (auto there = require_bound(parts_.keyring, id, resource); !there) {
          record_refused(call, there.error());
          return there;
        }
        return parts_.keyring.unbind(id, resource, actor);
      },
      [done](const Result<void>& changed) { done(changed); });
}

void HostEngine::key_bindings(const CmkId& id, const std::string& after, std::size_t count_max,
                              Done<std::vector<std::string>> done) {
  read_beside(
      [this, id, after, count_max] { return parts_.keyring.bindings(id, after, count_max); },
      [done](const Result<std::vector<std::string>>& found) { done(found); });
}

}  // namespace coffer::agent
