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

}  // namespace coffer::agent
