// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <utility>

#include "agent/host_engine.h"

namespace coffer::agent {

// Runs `body` on `pool` and `then` with its value on the loop, if the engine is still there.
// `refused` is called at once when the pool takes no more.
template <class Body, class Then>
void HostEngine::run_beside(ipc::WorkerPool& pool, Body body, Then then,
                            const std::function<void(const Error&)>& refused) {
  const auto taken = pool.submit([this, body = std::move(body), then = std::move(then)]() mutable {
    // The engine joins its pools before it goes, so `this` holds while this runs.
    auto value = std::make_shared<decltype(body())>(body());
    post([value, then = std::move(then)]() mutable { then(std::move(*value)); });
  });
  if (!taken) refused(taken.error());
}

// Runs `body`, which reads of keys and gives a Result, and `then` with it on the loop. What did not
// begin when the engine stops is kCancelled.
template <class Body, class Then>
void HostEngine::read_beside(Body body, const Then& then) {
  using Ended = decltype(body());
  run_beside(
      read_pool_,
      [this, body = std::move(body)]() mutable -> Ended {
        if (stopping_) return fail(Reason::kCancelled, "the agent stops");
        return body();
      },
      [then](Ended&& ended) { then(std::move(ended)); },
      [then](const Error& error) { then(Ended(tl::unexpected(error))); });
}

// Runs `body`, which gives a Result, on the pool of what callers ask of keys, and `then` with it on
// the loop. The caller's reason is on record before. What the pool does not take is refused at
// once, which is recorded.
template <class Body, class Then>
void HostEngine::run_for_caller(const KeyCall& call, Body body, const Then& then) {
  using Ended = decltype(body());
  run_beside(
      use_pool_,
      [this, call, body = std::move(body)]() mutable -> Ended {
        if (stopping_) return fail(Reason::kCancelled, "the agent stops");
        if (const auto recorded = record_reason(call); !recorded) {
          return tl::unexpected(recorded.error());
        }
        return body();
      },
      [then](Ended&& done) { then(std::move(done)); },
      [this, call, then](const Error& error) {
        const Error refused(error.reason(), "too much is asked of keys: " + error.message());
        const std::string object = call.keys.empty() ? "" : call.keys.front().str();
        record_refusal(call.operation, object, refused, call.caller);
        then(Ended(tl::unexpected(refused)));
      });
}

}  // namespace coffer::agent
